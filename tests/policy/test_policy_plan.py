"""What streams policies need: their words, slots and windows; and when a condition may change by time alone."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from naive_history import NaiveHistory
from random_expressions import JOINS, customer_conditions, histories, scope

from segue.events.names import CODE_BY_NAME
from segue.limits import DAY_MS, HOUR_MS, KEYED_SLOTS_BROWSING, KEYED_SLOTS_DEFAULT, MINUTE_MS
from segue.policy import ir
from segue.policy.expression import compile_condition, compile_number
from segue.policy.interpret import interpret
from segue.policy.plan import Layout, Need, checks_of, lay_out, needs_of, session_stream
from segue_kernels import plan

VIEWED, ORDERED = CODE_BY_NAME["Product Viewed"], CODE_BY_NAME["Order Completed"]


def layout_of(*texts: str) -> Layout:
    return lay_out(need for text in texts for need in needs_of(compile_number(text, scope())))


@pytest.mark.parametrize(
    ("text", "kind", "entries", "words"),
    [
        ('decayed("Product Viewed", half_life="7d")', plan.DECAY, 1, 6),
        ('first("Product Viewed", of="price")', plan.FIRST, 1, 2),
        ('age("Product Viewed")', plan.FIRST, 1, 2),
        ('last("Product Viewed", of="price")', plan.SUM, 1, 2),
        ('count("Product Viewed", up_to=5)', plan.COUNT, 5, 5),
        ('joined("view-bought", within="7d", up_to=4)', plan.COUNT, 4, 4),
        ('1 if absent("Product Viewed") else 0', plan.COUNT, 1, 1),
    ],
)
def test_entries_are_as_small_as_is_exact(text: str, kind: int, entries: int, words: int) -> None:
    (row,) = layout_of(text).streams
    columns = (plan.STREAM_KIND, plan.STREAM_K, plan.STREAM_ENTRY_WORDS, plan.STREAM_AREA_WORDS)
    assert [int(row[column]) for column in columns] == [kind, entries, words, words]


def test_the_words_of_a_join_s_left_side() -> None:
    stream = ir.Stream(plan.BY_PRODUCT, VIEWED, plan.LEFT, field=1)
    (row,) = lay_out([Need(stream, 8, 7 * DAY_MS)]).streams
    assert row[plan.STREAM_ENTRY_WORDS] == 24
    assert row[plan.STREAM_AREA_WORDS] == 1 + 3 + 3 * 24
    assert row[plan.STREAM_WINDOW_MS] == 7 * DAY_MS


def test_what_is_looked_at_gets_more_slots_than_what_is_bought() -> None:
    layout = layout_of('count("Product Viewed", by="product")', 'count("Order Completed", by="product")')
    slots = {int(row[plan.STREAM_TYPE]): int(row[plan.STREAM_SLOTS]) for row in layout.streams}
    assert slots == {VIEWED: KEYED_SLOTS_BROWSING, ORDERED: KEYED_SLOTS_DEFAULT}


def test_a_match_of_a_join_is_a_stream_of_its_own() -> None:
    (row,) = layout_of('joined("view-bought", within="7d")').streams
    assert row[plan.STREAM_TYPE] == plan.JOIN_TYPE + JOINS["view-bought"]


def test_streams_tell_sources_apart() -> None:
    layout = layout_of('count("Product Viewed", source="shoes")', 'count("Product Viewed")')
    assert sorted(layout.streams[:, plan.STREAM_SOURCE].tolist()) == [0, 11]


def test_windows_that_begin_at_a_moment() -> None:
    texts = [
        'count("Product Viewed", calendar="day")',
        'count("Order Completed", calendar="month")',
        'recency("Cart Viewed", session="30m")',
        'count("Cart Viewed", session="2m")',
    ]
    layout = layout_of(*texts)
    windows = (-30 * MINUTE_MS, -2 * MINUTE_MS, plan.WINDOW_MONTH, plan.WINDOW_DAY)
    assert layout.moments == windows
    assert [layout.moment(window) for window in windows] == [0, 1, 2, 3]
    assert layout.moment_word(plan.WINDOW_DAY) == len(layout.streams) + 3
    assert layout.lookup_word(2) == len(layout.streams) + 4 + 2
    kept = {int(row[plan.STREAM_TYPE]): int(row[plan.STREAM_WINDOW_MS]) for row in layout.streams}
    assert kept[VIEWED] == 26 * HOUR_MS
    assert kept[ORDERED] == 31 * DAY_MS + 2 * HOUR_MS
    assert kept[CODE_BY_NAME["Cart Viewed"]] == 0
    for gap_ms, k in ((30 * MINUTE_MS, 3), (2 * MINUTE_MS, 5)):
        row = layout.streams[layout.index[session_stream(gap_ms)]]
        assert (row[plan.STREAM_TYPE], row[plan.STREAM_WIDTH_MS]) == (plan.ANY_TYPE, gap_ms)
        assert (row[plan.STREAM_K], row[plan.STREAM_ENTRY_WORDS]) == (k, 1 + 2 * k)
        assert row[plan.STREAM_WINDOW_MS] == 0


# --- checks ---------------------------------------------------------------------------------------------

CHECKS = [
    ('count("Product Viewed", within="1h") >= 3', [(plan.CHECK_LEAVES_LAST, 3, HOUR_MS, 0)]),
    ('count("Product Viewed") >= 3', []),
    ('exists("Product Viewed", calendar="day")', [(plan.CHECK_LEAVES_LAST, 1, plan.WINDOW_DAY, 0)]),
    ('count("Product Viewed", every="1d") >= 3', [(plan.CHECK_TUMBLE, 1, 0, 0)]),
    (
        'count("Product Viewed", within="1h", up_to=9) * 2 > 3',
        [(plan.CHECK_LEAVES_ANY, 9, HOUR_MS, 0)],
    ),
    (
        'sum("Product Viewed", of="price", session="30m", up_to=9) > 3',
        [(plan.CHECK_LEAVES_ANY, 9, -30 * MINUTE_MS, 0)],
    ),
    ('recency("Product Viewed") > duration("1h")', [(plan.CHECK_AGE, 1, 0, HOUR_MS)]),
    (
        'recency("Product Viewed", within="1d") > 5.5',
        [(plan.CHECK_AGE, 1, DAY_MS, 5), (plan.CHECK_LEAVES_ANY, 1, DAY_MS, 0)],
    ),
    ('age("Product Viewed") > duration("1h")', [(plan.CHECK_AGE, 1, 0, HOUR_MS)]),
    ('recency("Product Viewed") > -1', []),
    ('recency("Product Viewed") / 1000 > 3', [(plan.CHECK_DAILY, 1, 0, 0)]),
    ('decayed("Product Viewed", half_life="7d") > 3', [(plan.CHECK_DAILY, 1, 0, 0)]),
    ('first("Product Viewed", of="price") > 3', []),
    ('profile.age > 3 and segment("loyal")', []),
    (
        'sequence("Product Viewed", "Product Viewed", within="1h")',
        [(plan.CHECK_LEAVES_ANY, 8, HOUR_MS, 0), (plan.CHECK_LEAVES_ANY, 1, HOUR_MS, 0)],
    ),
]


@pytest.mark.parametrize(("text", "expected"), CHECKS)
def test_checks(text: str, expected: list[tuple[int, int, int, int]]) -> None:
    program = compile_condition(text, scope(customer_only=True))
    layout = lay_out(needs_of(program))
    rows = checks_of(program, layout)
    assert [(kind, entries, window, age) for kind, _, entries, window, age in rows] == expected
    for row in rows:
        assert layout.streams[row[plan.CHECK_STREAM], plan.STREAM_TYPE] == VIEWED


def next_check(history: NaiveHistory, rows: list[tuple[int, int, int, int, int]], layout: Layout) -> int:
    """The first time after now at which a check is due; 0 if none is."""
    row, _ = history.row(layout, layout.row_words)
    now, due = history.now, []
    for kind, stream, entries, window, age_ms in rows:
        words = layout.streams[stream]
        at = int(words[plan.STREAM_OFFSET])
        times = [int(time) for time in row[at : at + entries]]
        inside = [time for time in times if time and history.inside(time, window, 0)]
        if kind == plan.CHECK_AGE:
            due += [times[0] + age_ms, times[0] + age_ms + 1] if inside else []
        elif kind == plan.CHECK_TUMBLE:
            width = int(words[plan.STREAM_WIDTH_MS])
            due += [times[0] + width] if times[0] == now - now % width else []
        elif window < 0 and inside:
            if window in (plan.WINDOW_HOUR, plan.WINDOW_DAY, plan.WINDOW_WEEK, plan.WINDOW_MONTH):
                end = now - (now + history.offset_ms) % DAY_MS + DAY_MS
                while history.inside(end, window, 0):
                    end += DAY_MS
                due.append(end)
            else:
                due.append(max(history.activity()) - window + 1)
        elif inside and (kind == plan.CHECK_LEAVES_ANY or len(inside) == entries):
            due.append(inside[-1] + window)
    return min((time for time in due if time > now), default=0)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(customer_conditions(), histories(), st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3))
def test_between_checks_nothing_changes(text: str, history: NaiveHistory, shares: list[float]) -> None:
    program = compile_condition(text, scope(customer_only=True))
    layout = lay_out(needs_of(program))
    rows = checks_of(program, layout)
    for _ in range(30):
        value, now = interpret(program, history), history.now
        due = next_check(history, rows, layout)
        last = due - 1 if due else now + 40 * DAY_MS
        for later in (last, *(now + round(share * (last - now)) for share in shares)):
            history.now = later
            assert interpret(program, history) == value, (text, now, later, due)
        if not due:
            return
        history.now = due
