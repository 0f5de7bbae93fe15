"""An erasure leaves a hash and a time: no name, no block, nothing in any stream; and nothing older comes back."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from segue.decide.engine import ShardEngine
from segue.events.names import ERASURE
from segue_kernels import plan, record
from segue_kernels import row as row_layout
from segue_kernels.customers import sweep
from tests.kernels import naive_timers
from tests.kernels.drivers import (
    DAY_MS,
    START_MS,
    TYPE_A,
    TYPE_B,
    engine_of,
    find,
    key_of,
    meta,
    name_of,
    quick,
    records_of,
    released,
    stream,
    tables,
)

NAMES = [b"somebody-%d" % n for n in range(3)] + [f"Zoë {n} ".encode() * 12 for n in range(3)]
HEADER_STAYS = (row_layout.KEY_LO, row_layout.KEY_HI, row_layout.FLAGS)


def made() -> Any:
    """Counts, one of them by product with a single place in the row, so that others spill."""
    return tables([stream(plan.COUNT), stream(plan.COUNT, by=plan.BY_PRODUCT, slots=1, k=2, type=TYPE_B)])


def feed(engine: ShardEngine, events: list[dict[str, int]]) -> None:
    records, text = records_of(events, NAMES)
    engine.process(released(records, text))


def row_of(engine: ShardEngine, customer: int) -> int:
    return int(find(engine.state.arrays, engine.state.row_words, *key_of(customer)))


def words_of(engine: ShardEngine, customer: int) -> list[int]:
    width = engine.state.row_words
    row = row_of(engine, customer)
    words: list[int] = engine.state.arrays.rows[row * width : (row + 1) * width].tolist()
    return words


def memory(engine: ShardEngine) -> bytes:
    """All words that the shard ever used."""
    state = engine.state
    rows = state.arrays.rows[: meta(state, row_layout.ROWS_USED) * state.row_words]
    return rows.tobytes() + state.arrays.pool[: meta(state, row_layout.POOL_BUMP)].tobytes()


EVENTS = st.lists(
    st.tuples(
        st.integers(0, 5),  # customer
        st.sampled_from((TYPE_A, TYPE_B, TYPE_B, ERASURE)),
        st.integers(-3, 3),  # how far the time lies behind the clock, hours
        st.integers(0, 3),  # product
    ),
    max_size=40,
)


@quick(100)
@given(EVENTS, st.lists(st.integers(0, 40), max_size=4))
def test_a_row_holds_what_came_since_the_erasure_and_is_later(drawn: Any, cuts: list[int]) -> None:
    """The same as of a shard that never saw the events that an erasure takes or keeps away."""
    erased: dict[int, int] = {}
    events, live, dropped, erasures = [], [], 0, 0
    for n, (customer, kind, behind, product) in enumerate(drawn):
        clock = START_MS + n * 3_600_000
        time = clock - behind * 3_600_000
        event = {"customer": customer, "type": kind, "time": time, "clock": clock, "product": product}
        event |= {"message": n + 1}
        events.append(event)
        if time <= erased.get(customer, 0):
            dropped += 1
        elif kind == ERASURE:
            erasures += 1
            erased[customer] = time
            live = [other for other in live if other["customer"] != customer]
        else:
            live.append(event)
    engine, other = engine_of(made()), engine_of(made())
    borders = sorted({0, len(events), *(min(cut, len(events)) for cut in cuts)})
    for first, end in pairwise(borders):
        feed(engine, events[first:end])
    feed(other, live)
    counters = engine.state.counters()
    assert (counters["erased_events"], counters["erasures"]) == (dropped, erasures)
    flat = int(engine.state.plan.streams[1, plan.STREAM_OFFSET])
    for customer in {event["customer"] for event in events}:
        mine = words_of(engine, customer)
        mark = (mine[row_layout.FLAGS] >> row_layout.FLAG_ERASED_SHIFT) & row_layout.ERASED_MASK
        assert mark == erased.get(customer, 0)
        if all(event["customer"] != customer for event in live):
            rest = [word for w, word in enumerate(mine) if w not in HEADER_STAYS]
            assert not any(rest) or customer not in erased
            assert NAMES[customer] not in memory(engine) or customer not in erased
            continue
        theirs = words_of(other, customer)
        for w in (row_layout.CLOCK, row_layout.FIRST_SEEN, row_layout.EVENTS):
            assert mine[w] == theirs[w]
        assert mine[plan.HEADER_WORDS : flat] == theirs[plan.HEADER_WORDS : flat]
        assert name_of(engine.state, row_of(engine, customer)) == NAMES[customer]
    assert meta(engine.state, row_layout.SPILL_LIVE) == meta(other.state, row_layout.SPILL_LIVE)


def test_nothing_of_the_person_stays_in_memory() -> None:
    engine = engine_of(naive_timers.world())
    gone, stays = 4, 5  # of long names
    events = [
        {
            "customer": customer,
            "time": START_MS + 1_000 * n,
            "type": kind,
            "product": n % 7,
            "message": 77_000_000 + n,
        }
        for n, (customer, kind) in enumerate((who, kind) for kind in range(1, 20) for who in (gone, stays))
    ]
    feed(engine, events)
    assert NAMES[gone] in memory(engine)
    before = engine.state.counters()
    engine.state.take_dirty()
    feed(engine, [{"customer": gone, "time": START_MS + DAY_MS, "type": ERASURE}])
    assert NAMES[gone] not in memory(engine)
    assert NAMES[stays] in memory(engine)
    held = {key_of(gone)[0], key_of(gone)[1]}
    assert {words_of(engine, gone)[0], words_of(engine, gone)[1]} == held
    assert engine.state.take_dirty().tolist() == [row_of(engine, gone)]
    after = engine.state.counters()
    assert after["timers_now"] <= before["timers_now"]
    assert after["waits_now"] <= before["waits_now"]


def test_the_mark_outlives_the_sweep_and_the_name_comes_back_with_the_person() -> None:
    engine = engine_of(made(), retention_ms=DAY_MS)
    long = 3
    feed(engine, [{"customer": long, "time": START_MS, "type": TYPE_A}])
    feed(engine, [{"customer": long, "time": START_MS + 5, "type": ERASURE}])
    feed(engine, [{"customer": long, "time": START_MS + 5, "type": TYPE_A, "message": 2}])
    assert engine.state.counters()["erased_events"] == 1
    feed(engine, [{"customer": long, "time": START_MS + 6, "type": TYPE_A, "message": 3}])
    assert name_of(engine.state, row_of(engine, long)) == NAMES[long]
    feed(engine, [{"customer": 0, "time": START_MS + 50 * DAY_MS, "type": TYPE_A, "message": 4}])
    for _ in range(3):
        sweep(engine.state.arrays, engine.state.plan, engine.state.words, 10)
    assert row_of(engine, long) >= 0
    late = {"customer": long, "time": START_MS + 4, "clock": START_MS + 50 * DAY_MS, "type": ERASURE}
    feed(engine, [late, {**late, "type": record.KIND_USER + TYPE_A, "message": 9}])
    assert engine.state.counters()["erased_events"] == 3
