"""Streams with timers against the rules written plainly: the same decisions, however cut and whenever advanced."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segue.decide.decisions import Decisions
from segue.decide.engine import ShardEngine
from segue_kernels import record, row
from segue_kernels.redirect import leave_redirect
from segue_kernels.shard import (
    ACTION_ITEM,
    ACTION_LOG,
    ACTION_RECORD,
    ACTION_STEP,
    CHANGE_CODE,
    CHANGE_NOW,
    CHANGE_RECORD,
    LOG_FIRED,
    LOG_FIRED_COUNT,
    LOG_NOW,
    LOG_RECORD,
    LOG_SLOT,
)
from tests.kernels import naive_timers as naive
from tests.kernels.drivers import DAY_MS, START_MS, engine_of, key_of, meta, quick, records_of, released
from tests.kernels.naive_timers import A, B, C, Customer, Said, Seen
from tests.reference.hashing import key_words

MINUTE_MS, HOUR_MS = naive.MINUTE_MS, naive.HOUR_MS
NAMES = [b"customer-%d" % n * (1 + 2 * n) for n in range(6)]
SECRET = bytes(range(16))
MADE = naive.world()

STEP = st.tuples(
    st.integers(0, 2),  # customer
    st.sampled_from((A, A, A, B, C)),
    # after the one before
    st.sampled_from((0, 0, 1, 40_000, MINUTE_MS, 4 * MINUTE_MS, 11 * MINUTE_MS, HOUR_MS, DAY_MS, 3 * DAY_MS)),
    st.sampled_from((0, 0, 0, 1, 2 * MINUTE_MS, 5 * MINUTE_MS, 2 * HOUR_MS)),  # how late
    st.sampled_from(((1,), (2,), (0,), (1, 2), (2, 0, 3))),
    st.integers(1, 3),  # message: now and then the same again
)
STEPS = st.lists(STEP, max_size=30)


def events_of(steps: list[Any], start: int = START_MS) -> list[tuple[int, Seen]]:
    """(customer, event); clocks rise, times may lag behind."""
    clock, made = start, []
    for n, (customer, kind, later, late, products, message) in enumerate(steps):
        clock += later
        number = n + 10 if message > 1 else 1
        made.append((customer, Seen(kind, clock - late, clock, number, products)))
    return made


def rows_of(events: list[tuple[int, Seen]]) -> list[dict[str, int]]:
    """Events as records: an event of several products is a header with lines."""
    rows = []
    for customer, seen in events:
        shared = {
            "customer": customer,
            "type": seen.type,
            "time": seen.time,
            "clock": seen.clock,
            "message": seen.message,
        }
        if len(seen.products) == 1:
            rows.append({**shared, "product": seen.products[0]})
            continue
        rows.append({**shared, "flags": record.FLAG_HAS_LINES})
        rows += [{**shared, "product": product, "flags": record.FLAG_IS_LINE} for product in seen.products]
    return rows


class Taker:
    """What the engine said, by customer."""

    def __init__(self) -> None:
        self.said: dict[tuple[int, int], list[Said]] = {}
        self.changes: dict[tuple[int, int], list[tuple[int, int]]] = {}

    def take(self, decided: list[Decisions]) -> None:
        for part in decided:
            words = part.records
            last: tuple[int, int] | None = None
            for log in part.log:
                at = int(log[LOG_RECORD])
                who = (int(words[at, record.CUSTOMER_LO]), int(words[at, record.CUSTOMER_HI]))
                fired = part.fired[log[LOG_FIRED] : log[LOG_FIRED] + log[LOG_FIRED_COUNT]].tolist()
                if (at, int(log[LOG_NOW])) == last:
                    continue
                assert log[LOG_SLOT] == fired[0]
                last = at, int(log[LOG_NOW])
                actions = [
                    action for action in part.actions if part.log[action[ACTION_LOG], LOG_RECORD] == at
                ]
                assert [int(action[ACTION_RECORD]) for action in actions] == [at] * len(fired)
                said = Said(
                    int(log[LOG_NOW]),
                    int(words[at, record.MESSAGE_LO]),
                    int(words[at, record.TIME]),
                    int(actions[0][ACTION_STEP]),
                    tuple(fired),
                    tuple(int(words[action[ACTION_ITEM], record.PRODUCT]) for action in actions),
                )
                self.said.setdefault(who, []).append(said)
                heap = int(words[at, record.HEAP])
                name = part.text[heap >> 32 : (heap >> 32) + (heap & 0xFF)].tobytes()
                assert name in NAMES
                assert key_of(NAMES.index(name)) == who
            for change in part.changes:
                at = int(change[CHANGE_RECORD])
                who = (int(words[at, record.CUSTOMER_LO]), int(words[at, record.CUSTOMER_HI]))
                self.changes.setdefault(who, []).append((int(change[CHANGE_CODE]), int(change[CHANGE_NOW])))


def engine(tight: bool) -> ShardEngine:
    """`tight`: the output arrays are full after each event and timer that says something."""
    made = engine_of(
        MADE,
        retention_ms=naive.RETENTION_MS,
        quarantine_ms=naive.QUARANTINE_MS,
        rate_per_minute_max=naive.RATE_MAX,
        lateness_ms=naive.LATENESS_MS,
        secret=SECRET,
    )
    if tight:
        made.bench.scratch.room[:] = 1
    return made


def customer(number: int) -> Customer:
    return Customer(number, key_words(SECRET))


def check(taker: Taker, customers: list[Customer]) -> None:
    for one in customers:
        assert taker.said.get(one.identity, []) == one.said
        assert taker.changes.get(one.identity, []) == one.changes


@quick(250)
@given(STEPS, st.booleans(), st.data())
def test_a_stream_with_timers(steps: list[Any], tight: bool, data: st.DataObject) -> None:
    events = events_of(steps)
    customers = [customer(n) for n in range(3)]
    for who, seen in events:
        customers[who].take(seen)
    end = events[-1][1].clock + 1 if events else START_MS
    for one in customers:
        one.fire(end)
    to, taker = engine(tight), Taker()
    at = 0
    while at < len(events):
        size = data.draw(st.integers(1, 10))
        taker.take(to.process(released(*records_of(rows_of(events[at : at + size]), NAMES))))
        at += size
        if at < len(events) and data.draw(st.booleans()):
            clock = data.draw(st.integers(events[at - 1][1].clock, events[at][1].clock))
            for _ in range(data.draw(st.integers(1, 30))):
                decided, done = to.advance(clock - naive.LATENESS_MS, data.draw(st.sampled_from((1, 2, 99))))
                taker.take(decided)
                if done:
                    break
    done = False
    while not done:
        decided, done = to.advance(end, 3)
        taker.take(decided)
    check(taker, customers)
    assert meta(to.state, row.COUNT_TIMERS_FIRED) == sum(one.fired for one in customers)
    hung = to.state.arrays.rows.reshape(-1, to.state.row_words)[:3, row.WHEEL_DUE]
    assert meta(to.state, row.TIMERS) == np.count_nonzero(hung)


def test_a_late_event_at_the_time_of_one_whose_wait_is_over_has_decisions_of_its_own() -> None:
    later = START_MS + HOUR_MS
    events = [
        Seen(A, START_MS, START_MS, 10, (1,)),
        Seen(B, later, later, 11, (1,)),
        Seen(A, START_MS, later, 12, (1,)),
        Seen(A, START_MS, later, 13, (1,)),
    ]
    one, to, taker = customer(0), engine(tight=False), Taker()
    for seen in events:
        one.take(seen)
    taker.take(to.process(released(*records_of(rows_of([(0, seen) for seen in events]), NAMES))))
    check(taker, [one])
    keyed = [said for said in one.said if said.fired == (naive.KEYED,)]
    assert [said.time for said in keyed] == 3 * [START_MS]
    assert len({said.message for said in keyed}) == 3


@quick(250)
@given(
    STEPS,
    STEPS,
    st.integers(-40, 40),
    st.sampled_from((0, 1, 3 * MINUTE_MS, HOUR_MS, 3 * DAY_MS)),
    st.booleans(),
    st.booleans(),
)
def test_timers_go_along_with_a_history(
    before: list[Any], after: list[Any], apart: int, later: int, again: bool, tight: bool
) -> None:
    """Visitor 0 turns out to be customer 1; some of what he waits for is due by then, some is not."""
    known, visitor = customer(1), customer(0)
    start = START_MS + apart * MINUTE_MS
    events = [(0, seen) for _, seen in events_of(before)]
    events += [(1, seen) for _, seen in events_of(after, start)]
    events.sort(key=lambda pair: pair[1].clock)
    to, taker = engine(tight), Taker()
    for who, seen in events:
        (visitor, known)[who].take(seen)
        taker.take(to.process(released(*records_of(rows_of([(who, seen)]), NAMES))))
    clock = (events[-1][1].clock if events else START_MS) + later
    message = 1 if again else 1_000
    seen = Seen(naive.IDENTIFY, clock, clock, message, (0,))
    limit = clock - naive.LATENESS_MS
    visitor.fire(limit)
    known.fire(limit)
    records, text = records_of(rows_of([(1, seen)]), NAMES)
    given_ = released(records, text)
    if visitor.clock:
        known.join(visitor, clock)
        keys = to.state.arrays.rows.reshape(-1, to.state.row_words)[:2, row.KEY_LO].tolist()
        if key_of(0)[0] in keys:  # else it was idle beyond the retention, and the sweep has been there
            which = keys.index(key_of(0)[0])
            taker.take(to.fire_timers_of(which, limit))
            given_.histories.append((0, to.state.history(which)))
            leave_redirect(to.state.arrays, to.state.plan, which, to.state.words)
    known.take_after_history(seen)
    taker.take(to.process(given_))
    known.fire(clock + DAY_MS)
    decided, done = to.advance(clock + DAY_MS, 10_000)
    assert done
    taker.take(decided)
    check(taker, [visitor, known])


def test_a_hundred_thousand_timers_of_one_second() -> None:
    """They fire in bounded steps, all of them, each once and in order."""
    customers = 2_000 if quick(10**6).max_examples < 1_000 else 100_000
    to = engine_of(MADE, customers_per_shard_max=1 << 17, pool_words_per_shard_max=1 << 23)
    for start in range(0, customers, 20_000):
        events = [
            {
                "customer": n,
                "type": A,
                "time": START_MS + n % 1_000,
                "clock": START_MS + 999,
                "message": n + 1,
            }
            for n in range(start, min(start + 20_000, customers))
        ]
        to.process(released(*records_of(events, [b"x"] * customers)))
    due = START_MS + naive.DELAYS[naive.STEPS][0]
    assert to.advance(due, 1_000) == ([], True)
    fired: list[int] = []
    steps, done = 0, False
    while not done:
        decided, done = to.advance(due + 1_000, 1_000)
        found = [log for part in decided for log in part.log]
        assert len(found) <= 1_000
        fired += [int(log[LOG_NOW]) for log in found]
        steps += 1
    assert steps <= 2 * customers // 1_000 + 1  # a row is looked at once more before it hangs anew
    assert fired == sorted(due + n % 1_000 for n in range(customers))
    assert meta(to.state, row.COUNT_TIMERS_FIRED) == customers
    assert meta(to.state, row.TIMERS) == customers  # the sessions, and the next step
