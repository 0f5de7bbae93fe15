"""What the words of time mean: windows that begin at a moment, decay, first and last, waits, tables, segments."""

from __future__ import annotations

import math
import random
import struct

import numpy as np
import pytest
from naive_history import Event, NaiveHistory
from random_expressions import CURRENCY, KEYS, LOOKUPS, NOW_MS, OTHER_CURRENCY, scope
from three_ways import agree

from segue.events.names import CODE_BY_NAME
from segue.limits import DAY_MS, HOUR_MS, MINUTE_MS
from segue.policy import ir
from segue.policy.expression import compile_condition, compile_number
from segue_kernels import plan
from segue_kernels.jit import kernel

VIEWED, ORDERED, SEARCHED, ADDED = (
    CODE_BY_NAME[name] for name in ("Product Viewed", "Order Completed", "Products Searched", "Product Added")
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGUE_CACHE_DIR", str(tmp_path_factory.mktemp("objects")))


def value(text: str, history: NaiveHistory) -> float:
    return agree([compile_number(text, scope())], [history])[0][0]


def holds(text: str, history: NaiveHistory) -> bool:
    return agree([compile_condition(text, scope())], [history])[0][0] == 1.0


def ago(*events: tuple[int, int], **others: int) -> NaiveHistory:
    """Events (ms before now, type); the last is the one decided on, an order now."""
    return NaiveHistory([*(Event(NOW_MS - ms, of) for ms, of in events), Event(NOW_MS, ORDERED)], **others)


def test_a_calendar_window_begins_at_the_customer_s_midnight() -> None:
    since_midnight = NOW_MS % DAY_MS
    history = ago((since_midnight, VIEWED), (since_midnight + 1, VIEWED), (0, VIEWED))
    assert value('count("Product Viewed", calendar="day")', history) == 2.0
    history.offset_ms = HOUR_MS  # midnight came an hour earlier
    assert value('count("Product Viewed", calendar="day")', history) == 3.0
    history.offset_ms = -since_midnight - 1  # the day before has a ms to go
    assert value('count("Product Viewed", calendar="day")', history) == 3.0
    assert holds('exists("Product Viewed", calendar="week")', history)
    assert holds('count("Product Viewed", calendar="month") == 3', history)


def test_a_week_begins_on_monday_and_a_month_on_its_first() -> None:
    sunday = ago((6 * DAY_MS, VIEWED), (7 * DAY_MS, VIEWED), (14 * DAY_MS, VIEWED), (15 * DAY_MS, VIEWED))
    assert NOW_MS == 1_750_000_001_234  # Sunday, 15 June 2025
    assert value('count("Product Viewed", calendar="week")', sunday) == 1.0
    assert value('count("Product Viewed", calendar="month")', sunday) == 3.0


def test_a_session_ends_with_a_pause_longer_than_its_gap() -> None:
    gap = 30 * MINUTE_MS
    history = ago((gap, VIEWED), (2 * gap, VIEWED), (3 * gap + 1, VIEWED))
    assert value('count("Product Viewed", session="30m")', history) == 2.0
    assert value('count("Product Viewed", session="31m")', history) == 3.0
    history.now = NOW_MS + gap
    assert value('count("Product Viewed", session="30m")', history) == 2.0
    history.now = NOW_MS + gap + 1  # nobody is there any more
    assert value('count("Product Viewed", session="30m")', history) == 0.0
    assert value('recency("Product Viewed", session="30m")', history) == plan.RECENCY_NEVER


def test_only_events_of_a_source_count() -> None:
    seen = [
        Event(NOW_MS - i, VIEWED, source=KEYS[name]) for i, name in enumerate(["shoes", "shoes", "socks"])
    ]
    history = NaiveHistory([*seen, Event(NOW_MS, VIEWED)])
    assert value('count("Product Viewed", source="shoes")', history) == 2.0
    assert value('count("Product Viewed", source="socks")', history) == 1.0
    assert value('count("Product Viewed")', history) == 4.0


@pytest.mark.parametrize("sign", ["<", "<=", ">", ">=", "==", "!="])
@pytest.mark.parametrize("constant", range(-1, 9))
def test_a_count_of_any_of_events_against_a_constant_is_exact(sign: str, constant: int) -> None:
    events = 'any_of("Product Viewed", "Products Searched", "Product Added")'
    program = compile_condition(f'count({events}, within="1h") {sign} {constant}', scope())
    histories = [
        ago(*[(i, VIEWED) for i in range(views)], *[(i, SEARCHED) for i in range(searches)], (5, ADDED))
        for views in range(6)
        for searches in (0, 1, 3)
    ]
    totals = [sum(e.type in (VIEWED, SEARCHED, ADDED) for e in history.events) for history in histories]
    expected = [eval(f"{total} {sign} {constant}") for total in totals]
    assert [values == [1.0] for values in agree([program], histories)] == expected
    assert max((ir.entries_needed(atom) for atom in ir.atoms(program)), default=0) <= max(1, constant + 1)


def test_any_of_events() -> None:
    history = ago((5, VIEWED), (3, SEARCHED), (9, ADDED))
    assert value('recency(any_of("Product Viewed", "Products Searched"))', history) == 3.0
    assert holds('exists(any_of("Product Viewed", "Cart Viewed"))', history)
    assert not holds('exists(any_of("page", "Cart Viewed"))', history)
    assert value('sum(any_of("Product Viewed", "Product Added"), of="quantity")', history) == 2.0


def test_a_decayed_count_halves_with_each_half_life() -> None:
    text = 'decayed("Product Viewed", half_life="1h")'
    one = ago((0, VIEWED))
    assert value(text, one) == pytest.approx(1.0, rel=1e-5)
    for halvings in (1, 2, 5):
        one.now = NOW_MS + halvings * HOUR_MS
        assert value(text, one) == pytest.approx(0.5**halvings, rel=1e-5)
    many = ago(*((i * 20 * MINUTE_MS, VIEWED) for i in range(12)))
    expected = sum(0.5 ** (i / 3) for i in range(12))
    assert value(text, many) == pytest.approx(expected, rel=1e-5)
    assert value(text, ago((0, ADDED))) == 0.0


def test_decayed_money_is_in_major_units() -> None:
    history = NaiveHistory(
        [
            Event(NOW_MS, ORDERED, amount=2_000, currency=CURRENCY),
            Event(NOW_MS, ORDERED, amount=5_000, currency=OTHER_CURRENCY),
            Event(NOW_MS - DAY_MS, ORDERED, amount=1_000, currency=CURRENCY),
        ]
    )
    assert value('decayed("Order Completed", half_life="1d", of="amount")', history) == pytest.approx(
        25.0, rel=1e-5
    )
    assert value('decayed("Order Completed", half_life="1d", of="quantity")', history) == pytest.approx(
        2.5, rel=1e-5
    )


def test_a_trend_is_the_rate_of_late_over_the_rate_of_habit() -> None:
    text = 'trend("Order Completed", recent="7d", habit="28d")'
    steady = ago(*((i * DAY_MS, ORDERED) for i in range(1, 200)))
    assert value(text, steady) == pytest.approx(1.0, abs=0.06)
    steady.now = NOW_MS + 14 * DAY_MS
    assert value(text, steady) < 0.4
    assert value('trend("Product Viewed", recent="7d", habit="28d")', steady) == 0.0
    expected = "(decayed('Order Completed', half_life='7d') / 604800000)"
    expected += " / (decayed('Order Completed', half_life='28d') / 2419200000)"
    assert compile_number(text, scope()) == compile_number(expected, scope())


def test_first_last_and_age() -> None:
    amounts = [(9, 500), (9, 300), (2, 700), (2, 900), (5, 10_000)]
    history = NaiveHistory(
        [
            *(Event(NOW_MS - 1_000 * s, ORDERED, amount=amount, currency=CURRENCY) for s, amount in amounts),
            Event(NOW_MS - 99_000, ORDERED, amount=1, currency=OTHER_CURRENCY),
            Event(NOW_MS, VIEWED),
        ]
    )
    assert value('first("Order Completed", of="amount")', history) == 3.0  # of equal times the least
    assert value('last("Order Completed", of="amount")', history) == 9.0  # ... and the greatest
    assert value('last("Order Completed", "amount", within="1s")', history) == 0.0
    assert value('age("Order Completed")', history) == 99_000.0
    assert value('age("Product Added")', history) == plan.RECENCY_NEVER
    assert value('first("Product Added", of="amount")', history) == 0.0


def test_absent_looks_at_what_came_after_the_event_that_began_the_wait() -> None:
    began = Event(NOW_MS - 60_000, ADDED, product=KEYS["shoes"])
    bought = Event(NOW_MS - 30_000, ORDERED, product=KEYS["shoes"])
    other = Event(NOW_MS - 30_000, ORDERED, product=KEYS["socks"])
    before = Event(NOW_MS - 60_000, ORDERED, product=KEYS["shoes"])
    for events, anything, this in (
        ([bought], False, False),
        ([other], False, True),
        ([before], True, True),  # of the same moment: not after it
        ([], True, True),
    ):
        history = NaiveHistory([*events, began])
        assert holds('absent("Order Completed")', history) == anything
        assert holds('absent("Order Completed", by="product")', history) == this
        assert holds('absent(any_of("page", "Order Completed"))', history) == anything


def test_steps_segments_and_stages() -> None:
    history = ago(step=2, segments=1 << 59 | 1, stage=3)
    assert holds('step == 2 and segment("loyal") and segment("wealthy")', history)
    assert holds('not segment("lapsed") and stage("active") and not stage("new")', history)


def test_fields_of_tables() -> None:
    history = ago(lookups=(1_500_000, KEYS["shoes"], -(10**6), 3 * 10**6, 0, 0))
    assert len(LOOKUPS) == len(history.lookups)
    assert value("catalogue.margin", history) == 1.5
    assert value("price.amount", history) == -1.0
    assert holds('stock.quantity < 5 and catalogue.brand == "shoes" and profile.tier == ""', history)
    assert holds('catalogue.brand in ("socks", "shoes") and "hats" != catalogue.brand', history)


def test_matches_of_a_join_are_counted() -> None:
    matched = [Event(NOW_MS - 1_000 * i, plan.JOIN_TYPE + 2) for i in range(3)]
    history = NaiveHistory([*matched, Event(NOW_MS, VIEWED)])
    assert value('joined("view-bought", within="2s")', history) == 2.0
    assert holds('joined("view-bought") >= 3 and joined("offer-redeemed") == 0', history)


@kernel
def exp2_of(x: float) -> float:
    return math.exp2(x)


def test_the_kernel_s_exp2_is_python_s() -> None:
    rng = random.Random(4)
    for i in range(100_000):
        x = rng.uniform(0, 1) if i % 3 == 0 else -rng.random() * 10 ** rng.randint(-3, 3)
        assert struct.pack("<d", exp2_of(x)) == struct.pack("<d", math.exp2(x))


def test_decay_over_the_ages_is_the_same_three_ways() -> None:
    rng = np.random.default_rng(4)
    program = compile_number('decayed("Product Viewed", half_life="13d", of="amount")', scope())
    histories = []
    for _ in range(200):
        ages = rng.integers(0, 200 * DAY_MS, 8)
        amounts = rng.integers(-(10**15), 10**15, 8)
        seen = [
            Event(NOW_MS - int(age), VIEWED, amount=int(amount), currency=CURRENCY)
            for age, amount in zip(ages, amounts, strict=True)
        ]
        history = NaiveHistory(seen)
        history.now = NOW_MS + int(rng.integers(0, 30_000 * DAY_MS))
        histories.append(history)
    agree([program], histories)
