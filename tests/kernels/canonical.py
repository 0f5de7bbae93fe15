"""What a row says to whoever asks, as plain data: two rows that answer alike are equal here.

Where an entry lies (slot or spill), the order of equals, and what no window can see any more do not show.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from segue.state.shard import ShardState
from segue_kernels import plan, row
from segue_kernels.history import (
    H_CLOCK,
    H_CONSENT,
    H_EVENTS,
    H_FIRST_SEEN,
    H_IDS,
    H_QUARANTINE_UNTIL,
    H_RATE,
    H_SEGMENTS,
    H_STAGE,
    H_WORDS,
    H_ZONE,
)
from segue_kernels.shard import SET_DEDUPE_MS
from segue_kernels.waits import WAIT_SHAPE
from tests.kernels.drivers import Words


def _entry(stream: list[int], words: list[int], now: int) -> Any:
    """An entry without what has passed; None if that is all of it."""
    kind, k, window = stream[plan.STREAM_KIND], stream[plan.STREAM_K], stream[plan.STREAM_WINDOW_MS]
    if not words[0] or (window and words[0] <= now - window):
        return None
    if kind in (plan.TUMBLE_COUNT, plan.TUMBLE_SUM):
        return words[:2]
    if kind == plan.TUMBLE_DISTINCT:
        n = words[1]
        return [words[0], n, sorted(words[2 : 2 + n]) if n < k else "full"]
    times = [time for time in words[:k] if time and not (window and time <= now - window)]
    if kind == plan.COUNT:
        return times
    pairs = sorted(zip(times, words[k:], strict=False), reverse=True)
    if kind == plan.DISTINCT and len(pairs) == k:
        # which of the keys last seen at the cut's time is kept, no question can tell
        pairs = [(time, key if time != pairs[-1][0] else 0) for time, key in pairs]
    return pairs


def of_history(history: Words, streams: Words, row_words: int, dedupe_ms: int, now: int) -> dict[str, Any]:
    """A history (segue_kernels/history.py) as plain data, as seen at `now`."""
    words = history.tolist()
    assert words[H_WORDS] == len(words)
    n = words[H_IDS]
    ids, times = words[H_IDS + 1 : H_IDS + 1 + n], words[H_IDS + 1 + n : H_IDS + 1 + 2 * n]
    said: dict[str, Any] = {
        "clock": words[H_CLOCK],
        "first_seen": words[H_FIRST_SEEN],
        "events": words[H_EVENTS],
        "rate": words[H_RATE],
        "quarantine": words[H_QUARANTINE_UNTIL],
        "segments": words[H_SEGMENTS],
        "stage": words[H_STAGE],
        "zone": words[H_ZONE],
        "consent": words[H_CONSENT:H_IDS],
        "ids": sorted((time, id_) for time, id_ in zip(times, ids, strict=True) if time > now - dedupe_ms),
    }
    areas = H_IDS + 1 + 2 * n - plan.HEADER_WORDS
    for s, stream in enumerate(streams.tolist()):
        at, width, slots = (
            areas + stream[plan.STREAM_OFFSET],
            stream[plan.STREAM_ENTRY_WORDS],
            stream[plan.STREAM_SLOTS],
        )
        if stream[plan.STREAM_BY] == plan.BY_NONE:
            said[f"{s}"] = _entry(stream, words[at : at + width], now)
            continue
        for slot in range(slots):
            start = at + 1 + slots + slot * width
            _say(said, s, words[at + 1 + slot], _entry(stream, words[start : start + width], now))
    at = areas + row_words
    spilled = words[at]
    at += 1
    for _ in range(spilled):
        s, key = words[at : at + 2]
        width = int(streams[s, plan.STREAM_ENTRY_WORDS])
        _say(said, s, key, _entry(streams[s].tolist(), words[at + 2 : at + 2 + width], now))
        at += 2 + width
    waits = []
    number = words[at]
    at += 1
    for _ in range(number):
        width = (words[at] >> 24 & 0xFF) - WAIT_SHAPE
        waits.append(tuple(words[at : at + width]))
        at += width
    said["waits"] = waits
    number = words[at]
    at += 1
    for _ in range(number):
        at += 2 + (words[at + 1] + 7) // 8
    assert at == len(words)
    return said


def wait_of(tables: Any, words: Sequence[int]) -> tuple[int, int, int, int, int, int]:
    """(due, journey, key, step, time, message) of a wait as a history has it, by the plan that armed it."""
    shape, time, message = (int(word) for word in words[:3])
    journey, step, kept = shape & 0xFFFF, shape >> 16 & 0xFF, shape >> 56
    of = tables.journeys[journey]
    key_at = {plan.BY_PRODUCT: 4, plan.BY_CATEGORY: 4 + (kept & 1)}.get(int(of[plan.JOURNEY_BY]))
    due = time + int(tables.waits[of[plan.JOURNEY_WAITS_START] + step - 1])
    return due, journey, 0 if key_at is None else int(words[key_at]), step, time, message


def _say(said: dict[str, Any], s: int, key: int, entry: Any) -> None:
    if key and entry is not None:
        assert f"{s} of {key}" not in said  # a key has one home
        said[f"{s} of {key}"] = entry


def of_row(state: ShardState, which: int, now: int = 0) -> dict[str, Any]:
    """A row as plain data, as seen at `now` (0: at its own clock)."""
    now = now or int(state.arrays.rows[which * state.row_words + row.CLOCK])
    dedupe_ms = int(state.words[SET_DEDUPE_MS])
    return of_history(state.history(which), state.plan.streams, state.row_words, dedupe_ms, now)
