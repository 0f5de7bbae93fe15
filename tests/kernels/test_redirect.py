"""Who an anonymous event belongs to, a batch taken in order, against a dict."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segue.state.shard import ShardState, block_words
from segue_kernels import plan, record, row
from segue_kernels.redirect import GOES, STAYS, leave_redirect, resolve
from segue_kernels.shard import STOP_END, STOP_INDEX, STOP_POOL
from tests.kernels.drivers import (
    START_MS,
    Bytes,
    Words,
    key_of,
    meta,
    name_of,
    quick,
    records_of,
    state_of,
    stream,
)

ANONYMOUS, KNOWN = 0, 100  # numbers of customers start here
NAMES = [b"a" * n for n in range(1, 9)] + [b""] * 92 + [bytes([n, 255, 0]) * (16 * n + 1) for n in range(6)]


@dataclass
class Resolved:
    """What the kernel wrote."""

    records: Words
    row_of: Words
    goes: list[int]
    history_of: list[int]
    names: list[bytes | None]


def resolve_all(state: ShardState, records: Words, text: Bytes, names_bytes: int = 1 << 16) -> Resolved:
    n = len(records)
    records = records.copy()
    row_of, history_of, name_at = (np.full(n, -9, np.int64) for _ in range(3))
    goes, names = np.full(n, 9, np.uint8), np.zeros(names_bytes, np.uint8)
    position = used = 0
    while True:
        position, stop, used = resolve(
            *(state.arrays, records, text, row_of, goes, history_of, names, name_at, position, used),
            state.words,
        )
        if stop == STOP_END:
            break
        assert stop == STOP_INDEX
        state.grow_index()
    spelled = [
        None if at < 0 else names[at >> 8 : (at >> 8) + (at & 255)].tobytes() for at in name_at.tolist()
    ]
    return Resolved(records, row_of, goes.tolist(), history_of.tolist(), spelled)


@dataclass
class Model:
    """The anonymous identifiers that are known by now, and their rows."""

    known: dict[int, tuple[int, int]] = field(default_factory=dict)  # -> (customer, kind)
    rows: dict[int, int] = field(default_factory=dict)


EVENTS = st.lists(
    st.tuples(
        st.integers(0, 7),  # anonymous identifier
        st.one_of(st.none(), st.none(), st.tuples(st.integers(0, 5), st.sampled_from((0, 1)))),  # a link
        st.integers(0, 2),  # lines
    ),
    max_size=20,
)
Events = list[tuple[int, "tuple[int, int] | None", int]]


def batch(events: Events) -> tuple[Words, Bytes]:
    given_events, anonymous_of = [], []
    for who, link, lines in events:
        if link is not None:
            given_events.append({"time": START_MS, "customer": KNOWN + link[0], "kind": link[1]})
            anonymous_of.append(who)
            continue
        flags = [record.FLAG_HAS_LINES if lines else 0] + [record.FLAG_IS_LINE] * lines
        given_events += [
            {"time": START_MS, "customer": who, "kind": record.KIND_ANONYMOUS, "flags": f, "product": 55}
            for f in flags
        ]
        anonymous_of += [-1] * len(flags)
    records, text = records_of(given_events, NAMES)
    for words, who in zip(records, anonymous_of, strict=True):
        if who >= 0:
            words[[record.ANONYMOUS_LO, record.ANONYMOUS_HI]] = key_of(who)
    return records, text


@quick(150)
@given(st.lists(EVENTS, min_size=1, max_size=3))
def test_events_go_where_the_last_link_before_them_says(batches: list[Events]) -> None:
    state = state_of([stream(plan.COUNT)])
    model = Model()
    for events in batches:
        records, text = batch(events)
        found = resolve_all(state, records, text)
        i = 0
        for who, link, lines in events:
            first = model.known.get(who) is None
            if link is not None:
                model.known[who] = (KNOWN + link[0], link[1])
                assert found.goes[i] == GOES
                assert found.names[i] is None  # it has its own
                assert found.history_of[i] == (found.row_of[i] if first else -1)
                assert found.records[i, [record.PRODUCT, record.CATEGORY]].tolist() == [0, 0]
                lines = 0
            for at in range(i, i + 1 + lines):
                customer, kind = model.known.get(who, (who, record.KIND_ANONYMOUS))
                words = found.records[at]
                assert tuple(words[[record.CUSTOMER_LO, record.CUSTOMER_HI]].tolist()) == key_of(customer)
                assert (int(words[record.PACK]) >> 8) & record.FLAG_KIND == kind
                assert found.row_of[at] == model.rows.setdefault(who, int(found.row_of[i]))
                if link is None:
                    assert found.goes[at] == (GOES if who in model.known else STAYS)
                    assert found.names[at] == (NAMES[customer] if who in model.known else None)
                    assert found.history_of[at] == -1
                    assert words[record.PRODUCT] == 55
                # nothing else of the record changes
                same = [w for w in range(16) if w not in CHANGED]
                assert np.array_equal(words[same], records[at, same])
                assert words[record.PACK] & ~(3 << 8) == records[at, record.PACK] & ~(3 << 8)
            i += 1 + lines
        assert len(set(model.rows.values())) == len(model.rows)
        assert meta(state, row.REDIRECTS) == len(model.known)
    for who, which in model.rows.items():
        if who in model.known:
            leave_redirect(state.arrays, state.plan, which, state.words)
    blocks = [3 + (len(NAMES[customer]) + 7) // 8 for customer, _ in model.known.values()]
    held = sum(block_words(words) for words in blocks)
    assert meta(state, row.POOL_WORDS_USED) == held


CHANGED = (record.CUSTOMER_LO, record.CUSTOMER_HI, record.PRODUCT, record.CATEGORY, record.PACK)


def test_only_the_redirect_is_left() -> None:
    state = state_of([stream(plan.COUNT), stream(plan.COUNT, by=1)])
    records, text = batch([(2, None, 0), (2, (5, 1), 0)])
    which = int(resolve_all(state, records, text).row_of[0])
    words = state.arrays.rows.reshape(-1, state.row_words)[which]
    assert name_of(state, which) == NAMES[2]
    kept = (
        row.KEY_LO,
        row.KEY_HI,
        row.FLAGS,
        row.NAME,
        row.NAME + 1,
        row.NAME + 2,
        row.NAME + 3,
        row.REDIRECT,
    )
    owned = (
        row.RING,
        row.RING_STATE,
        row.SPILL_HEAD,
        row.WAITS,
        row.WHEEL_DUE,
        row.WHEEL_LINK,
    )
    for word in range(state.row_words):
        if word not in kept + owned:
            words[word] = 7
    before = words[list(kept)].tolist()
    leave_redirect(state.arrays, state.plan, which, state.words)
    assert words[list(kept)].tolist() == before
    assert not words[[word for word in range(state.row_words) if word not in kept]].any()


def test_many_identifiers_grow_the_index() -> None:
    state = state_of([stream(plan.COUNT)], customers_per_shard_max=1 << 13)
    given_events = [
        {"time": START_MS, "customer": 1_000 + n, "kind": record.KIND_ANONYMOUS} for n in range(5_000)
    ]
    records, text = records_of(given_events)
    found = resolve_all(state, records, text)
    assert found.row_of.tolist() == list(range(5_000))
    assert resolve_all(state, records, text).row_of.tolist() == list(range(5_000))


def test_a_link_without_room_for_it_stops_before_it() -> None:
    """Also where the row is there already: only the pool is full."""
    state = state_of([stream(plan.COUNT)], pool_words_per_shard_max=200)
    records, text = batch([(2, None, 0)])
    resolve_all(state, records, text)
    state.arrays.meta[row.POOL_BUMP] = 150
    records, text = batch([(2, (5, 1), 0)])
    n = len(records)
    row_of, history_of, name_at = (np.zeros(n, np.int64) for _ in range(3))
    goes, names = np.zeros(n, np.uint8), np.zeros(255, np.uint8)
    outcome = resolve(
        *(state.arrays, records.copy(), text, row_of, goes, history_of, names, name_at, 0, 0), state.words
    )
    assert outcome == (0, STOP_POOL, 0)
