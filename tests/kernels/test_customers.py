"""Rows of customers: names, lines, rows freed and taken again; when a row is evicted changes no decision."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.decide.engine import ShardEngine
from segue.events.names import CODE_BY_NAME
from segue.policy.compiled import CompiledPolicies
from segue.policy.load import load_policies
from segue_kernels import plan, row
from segue_kernels.customers import find_or_add, sweep
from segue_kernels.record import FLAG_HAS_LINES, FLAG_IS_LINE, RECORD_WORDS
from segue_kernels.shard import LOG_DECISION_HI, LOG_DECISION_LO, LOG_NOW, LOG_SLOT, LOG_WINNER, STOP_END
from tests.kernels.drivers import (
    CONSENT_TYPE,
    DAY_MS,
    START_MS,
    engine_of,
    engine_settings,
    meta,
    name_of,
    quick,
    records_of,
    released,
    state_of,
    stays,
    stream,
    tables,
)

SECRET = bytes(range(16))
NAMES = st.one_of(st.binary(min_size=1, max_size=255), st.text(min_size=1, max_size=60).map(str.encode))


@quick(150)
@given(st.lists(NAMES, min_size=1, max_size=8))
def test_names_are_kept_byte_for_byte(names: list[bytes]) -> None:
    state = state_of([stream(plan.COUNT)])
    records, text = records_of([{"time": START_MS, "customer": n} for n in range(len(names))], names)
    row_of = np.zeros(len(records), np.int64)
    assert find_or_add(state.arrays, records, text, row_of, 0, state.words) == (len(records), STOP_END)
    assert [name_of(state, which) for which in row_of.tolist()] == names


@quick(100)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=20))
def test_lines_have_the_row_of_their_header(events: list[tuple[int, int]]) -> None:
    given_events, expected = [], []
    rows: dict[int, int] = {}
    for customer, lines in events:
        which = rows.setdefault(customer, len(rows))
        flags = [FLAG_HAS_LINES if lines else 0] + [FLAG_IS_LINE] * lines
        # a line's own identifier is not looked at
        given_events += [{"time": 1, "customer": customer + n, "flags": f} for n, f in enumerate(flags)]
        expected += [which] * len(flags)
    state = state_of([stream(plan.COUNT)])
    records, text = records_of(given_events)
    row_of = np.full(len(records), -1, np.int64)
    find_or_add(state.arrays, records.reshape(-1, RECORD_WORDS), text, row_of, 0, state.words)
    assert row_of.tolist() == expected
    assert state.customers == len(rows)


def run_sweep(engine: ShardEngine, steps: int) -> int:
    return int(sweep(engine.state.arrays, engine.state.plan, engine.state.words, steps))


def test_a_freed_row_is_taken_again_and_gives_everything_back() -> None:
    made = tables([stream(plan.COUNT, by=plan.BY_PRODUCT, k=2, window_ms=0)])
    engine = engine_of(made, retention_ms=DAY_MS)
    names = [bytes([65 + n]) * (8 * (n + 1)) for n in range(20)]
    events = [
        {"time": START_MS, "customer": n, "product": p, "message": n * 9 + p}
        for n in range(20)
        for p in range(1, 6)
    ]
    engine.process(released(*records_of(events, names)))
    state = engine.state
    assert state.customers == 20
    assert meta(state, row.POOL_WORDS_USED) > 0
    later = START_MS + 3 * DAY_MS
    engine.process(released(*records_of([{"time": later, "customer": 100, "message": 999}])))
    run_sweep(engine, 100)
    assert state.customers == 1
    assert meta(state, row.COUNT_EVICTED) == 20
    assert meta(state, row.POOL_WORDS_USED) == 8  # the ring of the one that stays
    assert meta(state, row.SPILL_LIVE) == 0
    again = [{**event, "time": later, "message": event["message"] + 1_000} for event in events]
    engine.process(released(*records_of(again, names)))
    assert meta(state, row.ROWS_USED) == 21
    assert sorted(name_of(state, which) for which in range(21)) == sorted([b"", *names])
    assert state.arrays.rows.reshape(-1, state.row_words)[:21, row.EVENTS].tolist().count(5) == 20


@pytest.mark.parametrize(
    ("word", "value", "expected"),
    [
        (row.CONSENT + 5, 2 * START_MS, True),
        (row.QUARANTINE_UNTIL, START_MS + 1, True),
        (row.QUARANTINE_UNTIL, START_MS, False),
        (plan.HEADER_WORDS, START_MS - 9, False),  # behaviour
        (plan.HEADER_WORDS + 1, START_MS - 9, True),  # a send within its window
        (plan.HEADER_WORDS + 1, START_MS - 10, False),
        (plan.HEADER_WORDS + 2, START_MS - 9, True),  # one for a product has spilled (watermark)
        (plan.HEADER_WORDS + 5, START_MS - 9, True),  # or is in a slot
        (plan.HEADER_WORDS + 6, START_MS - 10, False),
    ],
)
def test_what_keeps_a_row(word: int, value: int, expected: bool) -> None:
    sent = {"type": plan.SENT_TYPE, "k": 1, "window_ms": 10}
    streams = [
        *(stream(plan.COUNT, k=1), stream(plan.COUNT, **sent)),
        stream(plan.COUNT, by=plan.BY_PRODUCT, **sent),
    ]
    state = state_of(streams)
    state.arrays.rows[word] = value
    assert stays(state.arrays, state.plan, 0, START_MS) is expected


def test_the_sweep_spares_consent_but_not_the_behaviour_with_it() -> None:
    made = tables([stream(plan.COUNT)])
    engine = engine_of(made, retention_ms=DAY_MS)
    given_consent = {"type": CODE_BY_NAME["Consent Changed"], "consent": 1 << 24 | 1 << 16 | 2}
    events = [
        {"time": START_MS, "customer": 0, **given_consent},
        {"time": START_MS, "customer": 0},
        {"time": START_MS, "customer": 1},
        {"time": START_MS + 2 * DAY_MS, "customer": 2},
    ]
    engine.process(released(*records_of(events)))
    run_sweep(engine, 10)
    words = engine.state.arrays.rows.reshape(-1, engine.state.row_words)
    assert engine.state.customers == 2
    assert words[0, row.CONSENT + 4] == 4 * START_MS
    assert not words[0, plan.HEADER_WORDS :].any()
    assert not words[1].any()
    assert meta(engine.state, row.COUNT_FORGOTTEN) == 1
    engine.process(released(*records_of([{"time": START_MS + 2 * DAY_MS, "customer": 0, "message": 99}])))
    assert meta(engine.state, row.COUNT_FORGOTTEN) == 1  # once for one silence
    assert CODE_BY_NAME["Consent Changed"] != CONSENT_TYPE


POLICY = """
policy = "p"
version = 1
title = "t"
description = "d"
[[journeys]]
id = "j"
on = ["Product Viewed"]
when = 'count("Product Viewed", within="90d") >= 2 or count("Product Viewed", by="product", within="90d") >= 2'
limits = [{ times = 1, within = "2d" }, { times = 1, within = "9d", by = "product" }]
[[journeys.offers]]
id = "a"
channel = "web"
[[journeys.offers]]
id = "b"
channel = "email"
value = 2.0
"""


def compiled() -> CompiledPolicies:
    with TemporaryDirectory() as folder:
        Path(folder, "p.toml").write_text(POLICY)
        return load_policies([folder], secret=SECRET, native=False)


POLICIES = compiled()
STEP_MS = DAY_MS // 3
EVENTS = st.lists(
    st.tuples(
        st.integers(0, 4),  # customer
        st.sampled_from((0, 0, 0, 1, 2, 3, 4, 7, 20, 40)),  # later by so many steps
        st.sampled_from((0, 0, 0, -1)),  # late by a minute
        st.integers(0, 12),  # product, or consent given or withdrawn
        st.sampled_from((0, 0, 0, 1)),  # the same id again
    ),
    max_size=40,
)


def stream_of(steps: list[tuple[int, int, int, int, int]]) -> list[dict[str, int]]:
    viewed, consent = CODE_BY_NAME["Product Viewed"], CODE_BY_NAME["Consent Changed"]
    clock, events = START_MS, []
    for n, (customer, later, late, product, again) in enumerate(steps):
        clock += later * STEP_MS
        event = {
            "customer": customer,
            "clock": clock,
            "time": clock + late * 60_000,
            "message": n + 1 - again,
        }
        if product > 10:
            word = 1 << 24 | (product - 11) << 16  # of email and marketing
            events.append({**event, "type": consent, "consent": word})
        else:
            events.append({**event, "type": viewed, "product": product})
    return events


def decided(
    events: list[dict[str, int]], sweeps: list[int], quarantine_ms: int
) -> tuple[list[list[int]], ShardEngine]:
    chosen = engine_settings(
        retention_ms=DAY_MS, rate_per_minute_max=3, quarantine_ms=quarantine_ms, customers_per_shard_max=64
    )
    engine = ShardEngine(POLICIES, chosen)
    records, text = records_of(events)
    columns = [LOG_DECISION_HI, LOG_DECISION_LO, LOG_NOW, LOG_SLOT, LOG_WINNER]
    found: list[list[int]] = []
    at = 0
    for n, size in enumerate(sweeps or [len(records)]):
        for part in engine.process(released(records[at : at + size], text)):
            found += np.column_stack(
                [
                    part.log[:, columns],
                    [part.reasons[a : a + b].sum() for a, b in part.log[:, [4, 3]].tolist()],
                ]
            ).tolist()
        at += size
        for _ in range(n % 3):
            run_sweep(engine, 7)
    return found, engine


@quick(100)
@given(EVENTS, st.sampled_from((DAY_MS // 24, 5 * DAY_MS)), st.data())
def test_when_a_row_is_evicted_changes_no_decision(
    steps: list[tuple[int, int, int, int, int]], quarantine_ms: int, data: st.DataObject
) -> None:
    events = stream_of(steps)
    whole, _ = decided(events, [], quarantine_ms)
    sizes = []
    while sum(sizes) < len(events):
        sizes.append(min(data.draw(st.sampled_from((1, 2, 9))), len(events) - sum(sizes)))
    cut, _ = decided(events, sizes, quarantine_ms)
    assert cut == whole


def test_the_streams_of_the_test_above_do_evict() -> None:
    steps = [(n // 2 % 5, 40 * (n % 10 == 0), 0, n % 3, 0) for n in range(60)]
    found, engine = decided(stream_of(steps), [1] * 60, DAY_MS)
    assert meta(engine.state, row.COUNT_EVICTED) > 5
    assert found
