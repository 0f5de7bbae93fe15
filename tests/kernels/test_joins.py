"""Interval joins against a list of what waits: each right event credits the latest left one in time, once."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from segue_kernels import plan, row
from tests.kernels.drivers import START_MS, TYPE_A, TYPE_B, meta, quick, stream, tables
from tests.kernels.feeding import Fed, join_tables

WITHIN = 20
REACH = 25  # how long a left event is kept: longer than WITHIN by what a right event may be late
JOURNEY = 3

Waiting = tuple[int, int, int]


class Twin:
    """What a join credits, from all that happened, in order of arrival."""

    def __init__(self, k: int, window: int, by_product: bool) -> None:
        self.k, self.window, self.by_product = k, window, by_product
        self.waiting: dict[int, list[Waiting]] = {}
        self.credits: list[tuple[int, Waiting]] = []
        self.matches: list[int] = []
        self.lost = 0

    def right(self, item: int, time: int, product: int, now: int) -> None:
        """A right record: the greatest (time, id) that is left of it."""
        waiting = self.waiting.get(product if self.by_product else 0, [])
        after = max(time - WITHIN, now - self.window)
        inside = [left for left in waiting if after < left[0] <= time]
        if inside and not (self.by_product and product == 0):
            waiting.remove(max(inside))
            self.credits.append((item, max(inside)))
            self.matches.append(time)

    def left(self, time: int, product: int, lo: int, hi: int, now: int) -> None:
        """A left record or action, if it is still inside the window."""
        if (self.by_product and product == 0) or time <= now - self.window:
            return
        waiting = self.waiting.setdefault(product if self.by_product else 0, [])
        waiting.append((time, lo, hi))
        waiting.sort(reverse=True)
        if len(waiting) > self.k:
            self.lost += int(waiting.pop()[0] > now - self.window)


def made(k: int, by: int, journey: int, right: int) -> Any:
    left_type = TYPE_A if journey == -1 else plan.JOIN_TYPE + 7
    streams = [
        stream(plan.LEFT, by=by, k=k, window_ms=REACH, slots=2, type=left_type, field=1),
        stream(plan.COUNT, k=3, window_ms=40, type=plan.JOIN_TYPE),
        stream(plan.COUNT, k=2, window_ms=0),
    ]
    joins = [{"left": 0, "right": right, "within": WITHIN, "journey": journey, "by": by, "count": 1}]
    return tables(streams, **join_tables(joins))


ITEM = st.integers(0, 5)
EVENT = st.fixed_dictionaries(
    {
        "type": st.sampled_from((TYPE_A, TYPE_B)),
        "step": st.integers(0, 8),
        "late": st.sampled_from((0, 0, 0, 2, 5)),
        "message": st.integers(1, 9),
        "products": st.lists(ITEM, min_size=1, max_size=3),
        "act": st.sampled_from((0, 0, JOURNEY, JOURNEY + 1)),
    }
)


@quick(300)
@given(
    events=st.lists(EVENT, max_size=25),
    k=st.integers(1, 4),
    by=st.sampled_from((plan.BY_NONE, plan.BY_PRODUCT)),
    journey=st.sampled_from((-1, -1, -2, JOURNEY)),
    right=st.sampled_from((TYPE_A, TYPE_B, TYPE_B)),
)
def test_a_right_event_credits_the_latest_left_one(
    events: list[dict[str, Any]], k: int, by: int, journey: int, right: int
) -> None:
    fed = Fed(made(k, by, journey, right), row=1)
    twin = Twin(k, REACH, by != plan.BY_NONE)
    clock = START_MS
    expected = []
    for event in events:
        clock += event["step"]
        time, products = clock - event["late"], event["products"]
        lines = [{"product": product} for product in products] if len(products) > 1 else []
        fed.feed(
            {
                "time": time,
                "type": event["type"],
                "message": event["message"],
                "product": products[0],
                "lines": lines,
            }
        )
        now = int(fed.state.arrays.rows[fed.base + row.CLOCK])
        items = [(n + (len(products) > 1), product) for n, product in enumerate(products)]
        if by == plan.BY_NONE:
            items = [(0, products[0])]
        before = len(twin.credits)
        if event["type"] == right:
            for item, product in items:
                twin.right(item, time, product, now)
        if event["type"] == TYPE_A and journey == -1:
            for _, product in items:
                twin.left(time, product, event["message"], 0, now)
        expected += [[0, item, 0, *left] for item, left in twin.credits[before:]]
        if event["act"]:
            fed.act(event["act"], now, products[0], event["message"], -1)
            if journey in (-2, event["act"]):
                twin.left(now, products[0], event["message"], -1, now)
    assert fed.credits() == expected
    assert meta(fed.state, row.COUNT_CREDITS) == len(twin.credits)
    assert meta(fed.state, row.COUNT_JOIN_BOUND_MET) == twin.lost
    matches = sorted(twin.matches, reverse=True)[:3]
    assert fed.entry(1) == matches + [0] * (3 - len(matches))


def test_an_event_is_not_credited_to_itself_nor_to_its_own_lines() -> None:
    """Right is matched, for all lines, before the event's own records enter as left ones."""
    fed = Fed(made(4, plan.BY_PRODUCT, -1, TYPE_A))
    lines = [{"product": 5}, {"product": 5}]
    fed.feed({"time": START_MS, "type": TYPE_A, "message": 1, "lines": lines})
    assert fed.credits() == []
    fed.feed({"time": START_MS + 1, "type": TYPE_A, "message": 2, "lines": lines})
    assert fed.credits() == [[0, 1, 0, START_MS, 1, 0], [0, 2, 0, START_MS, 1, 0]]


def test_an_emptied_slot_is_given_away_and_nothing_of_it_spills() -> None:
    fed = Fed(made(1, plan.BY_PRODUCT, -1, TYPE_B))
    for n in range(1, 30):
        fed.feed({"time": START_MS + n, "type": TYPE_A, "message": 2 * n, "product": n})
        fed.feed({"time": START_MS + n, "type": TYPE_B, "message": 2 * n + 1, "product": n})
    assert len(fed.credits()) == 29
    assert meta(fed.state, row.SPILL_LIVE) == 0


def test_a_left_event_that_comes_late_does_not_match_what_was_there() -> None:
    fed = Fed(made(2, plan.BY_NONE, -1, TYPE_B))
    fed.feed(
        {"time": START_MS + 10, "type": TYPE_B, "message": 1},
        {"time": START_MS + 5, "type": TYPE_A, "message": 2},
    )
    assert fed.credits() == []
    fed.feed({"time": START_MS + 24, "type": TYPE_B, "message": 3})
    assert fed.credits() == [[0, 0, 0, START_MS + 5, 2, 0]]
