"""What the lines of actions say in words, against Python's own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segue_kernels import record, shard
from segue_kernels.texts import TEXT_BYTES_MAX, TEXT_ROOM, TEXTS, write_action_texts
from tests.kernels.drivers import quick

WORD = st.integers(-(2**63), 2**63 - 1)
STRINGS = st.sampled_from(["", "x", "Zoë", "a" * 255, 'quo"te', "back\\slash", "tab\t", "null"])
LAST_MS = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z
HELD_MS = 7  # from the first decision on
LIVES = st.integers(0, 10**10)


def rfc3339(time_ms: int) -> str:
    if time_ms > LAST_MS:
        return str(np.datetime_as_string(np.datetime64(time_ms, "ms"), timezone="UTC"))[:24]
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ms % 1_000:03d}Z"


def digits(high: int, low: int) -> str:
    return f"{high % 2**64:016x}{low % 2**64:016x}"


def as_text(string: str) -> str:
    return f'"{string}"' if string else "null"


@quick(150)
@given(
    st.lists(
        st.tuples(
            st.lists(STRINGS, min_size=8, max_size=8),
            st.lists(WORD, min_size=4, max_size=4),
            st.integers(0, LAST_MS)
            | st.sampled_from([LAST_MS, LAST_MS + 1, 951_782_400_000, 4_107_542_400_000]),
            st.integers(0, 1),
        ),
        max_size=5,
    ),
    st.lists(LIVES, min_size=4, max_size=4),
)
def test_texts_of_actions(told: list[tuple[list[str], list[int], int, int]], lives: list[int]) -> None:
    count = len(told)
    text = b"".join(string.encode() for strings, *_ in told for string in strings)
    heaps = np.zeros(2 * count, np.int64)
    actions = np.zeros((count, shard.ACTION_WORDS), np.int64)
    log = np.zeros((count, shard.LOG_WORDS), np.int64)
    expected: list[str] = []
    plain = True
    at = 0
    for n, (strings, words, now, offer) in enumerate(told):
        for half in range(2):
            lengths = [len(string.encode()) for string in strings[4 * half : 4 * half + 4]]
            heaps[2 * n + half] = at << 32 | sum(length << (8 * k) for k, length in enumerate(lengths))
            at += sum(lengths)
        actions[n, shard.ACTION_LOG] = count - 1 - n
        actions[n, [shard.ACTION_RECORD, shard.ACTION_ITEM, shard.ACTION_OFFER]] = 2 * n, 2 * n + 1, offer
        actions[n, [shard.ACTION_HI, shard.ACTION_LO]] = words[:2]
        log[count - 1 - n, [shard.LOG_DECISION_HI, shard.LOG_DECISION_LO]] = words[2:]
        log[count - 1 - n, shard.LOG_NOW] = now
        actions[n, shard.ACTION_FIRST] = first = max(0, now - HELD_MS)
        said = [
            strings[record.STRING_CUSTOMER],
            strings[4 + record.STRING_PRODUCT],
            strings[4 + record.STRING_CATEGORY],
            strings[record.STRING_MESSAGE],
        ]
        plain &= not any(character in string for string in said for character in '"\\\t')
        expected += [digits(*words[:2]), digits(*words[2:]), *map(as_text, said)]
        expected += [rfc3339(now), rfc3339(now + lives[offer]), rfc3339(first + lives[2 + offer])]
    data = np.zeros(count * TEXT_BYTES_MAX + TEXT_ROOM, np.uint8)
    ends = np.zeros(count * TEXTS, np.int64)
    given_lives = np.array(lives, np.int64)
    bytes_of = np.frombuffer(text, np.uint8).copy()
    assert (
        write_action_texts(actions, log, heaps, bytes_of, given_lives[:2], given_lives[2:], data, ends)
        == plain
    )
    whole, stops = data.tobytes(), ends.tolist()
    found = [whole[start:end].decode() for start, end in zip([0, *stops], stops, strict=False)]
    assert found == expected
