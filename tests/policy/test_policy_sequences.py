"""sequence() against all tuples of events: what holds, with equal times, choices and what must not come between."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise, product
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from naive_history import Event, NaiveHistory
from random_expressions import KEYS, NOW_MS, scope
from three_ways import agree

from segue.events.names import CODE_BY_NAME
from segue.policy.expression import compile_condition
from segue.policy.plan import lay_out, needs_of
from segue_kernels import plan

NAMES = ("Product Viewed", "Product Added", "Cart Viewed", "Order Completed")
RELAXED = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Random policies leave no object files behind."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("objects")
        patch.setenv("SEGUE_CACHE_DIR", str(folder))
        yield folder


def event_text(names: tuple[str, ...]) -> str:
    quoted = ", ".join(f'"{name}"' for name in names)
    return quoted if len(names) == 1 else f"any_of({quoted})"


def holds_for_some(
    history: NaiveHistory,
    steps: list[tuple[str, ...]],
    without: tuple[str, ...],
    within_ms: int,
    keyed: bool,
    source: int,
    up_to: int,
) -> bool:
    """Whether some tuple of events is such a sequence."""

    def newest(name: str) -> list[int]:
        times = [
            e.time
            for e in history.events
            if e.type == CODE_BY_NAME[name]
            and (not keyed or e.product == history.event.product != 0)
            and source in (0, e.source)
            and (not within_ms or history.now - within_ms < e.time)
        ]
        return sorted(times)[-up_to:]

    def follow(chosen: tuple[tuple[str, int], ...]) -> bool:
        for i, ((name, time), (_, later)) in enumerate(pairwise(chosen)):
            again = any(name in step for step in steps[i + 1 :])
            if time > later or (again and time == later):
                return False
        first, last = chosen[0][1], chosen[-1][1]
        return not any(first <= time <= last for name in without for time in newest(name))

    choices = [[(name, time) for name in step for time in newest(name)] for step in steps]
    return any(follow(chosen) for chosen in product(*choices))


_steps = st.lists(
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=2, unique=True).map(tuple), min_size=2, max_size=4
)
_past = st.lists(
    st.builds(
        Event,
        time=st.integers(0, 9).map(lambda seconds: NOW_MS - 1_000 * seconds),
        type=st.sampled_from([CODE_BY_NAME[name] for name in NAMES]),
        product=st.sampled_from([KEYS["shoes"], KEYS["shoes"], KEYS["socks"], 0]),
        source=st.sampled_from([KEYS["hats"], 0]),
    ),
    min_size=3,
    max_size=14,
)


@RELAXED
@given(
    _steps,
    st.lists(st.sampled_from(NAMES), max_size=2, unique=True).map(tuple),
    st.sampled_from([("", 0), (', within="4s"', 4_000), (', within="9s"', 9_000)]),
    st.booleans(),
    st.booleans(),
    st.integers(1, 4),
    st.lists(_past, min_size=4, max_size=12),
)
def test_a_sequence_holds_if_some_tuple_of_events_is_one(
    steps: list[tuple[str, ...]],
    apart: tuple[str, ...],
    window: tuple[str, int],
    keyed: bool,
    sourced: bool,
    up_to: int,
    pasts: list[list[Event]],
) -> None:
    without = tuple(name for name in apart if not any(name in step for step in steps))
    text = ", ".join(map(event_text, steps)) + window[0] + f", up_to={up_to}"
    text += f", without={event_text(without)}" if without else ""
    text += (', by="product"' if keyed else "") + (', source="hats"' if sourced else "")
    source = KEYS["hats"] if sourced else 0
    histories = [NaiveHistory(past) for past in pasts]
    for history in histories:
        history.now = NOW_MS
    program = compile_condition(f"sequence({text})", scope())
    expected = [holds_for_some(h, steps, without, window[1], keyed, source, up_to) for h in histories]
    assert [values == [1.0] for values in agree([program], histories)] == expected, text


def at(*events: tuple[int, str]) -> NaiveHistory:
    """Events so many seconds before now."""
    history = NaiveHistory([Event(NOW_MS - 1_000 * seconds, CODE_BY_NAME[name]) for seconds, name in events])
    history.now = NOW_MS
    return history


VIEW, ADD, CART, ORDER = NAMES
CASES = [
    # V = viewed, A = added, O = ordered; seconds before now
    (f'"{VIEW}", "{ADD}"', [(9, VIEW), (3, ADD)], True),
    (f'"{VIEW}", "{ADD}"', [(3, VIEW), (9, ADD)], False),
    (f'"{VIEW}", "{ADD}"', [(3, VIEW), (3, ADD)], True),  # either may have come first
    (f'"{VIEW}", "{VIEW}"', [(3, VIEW), (3, VIEW)], False),  # of one event, times must rise
    (f'"{VIEW}", "{VIEW}"', [(4, VIEW), (3, VIEW)], True),
    (f'"{VIEW}", "{ADD}", "{VIEW}"', [(4, VIEW), (4, ADD), (4, VIEW)], False),
    (f'"{VIEW}", "{ADD}", "{VIEW}"', [(5, VIEW), (4, ADD), (4, VIEW)], True),
    (f'"{VIEW}", "{ADD}", within="5s"', [(5, VIEW), (4, ADD)], False),
    (f'"{VIEW}", "{ADD}", without="{ORDER}"', [(9, VIEW), (6, ORDER), (3, ADD)], False),
    (f'"{VIEW}", "{ADD}", without="{ORDER}"', [(9, VIEW), (3, ORDER), (3, ADD)], False),
    (f'"{VIEW}", "{ADD}", without="{ORDER}"', [(9, VIEW), (9, ORDER), (3, ADD)], False),
    (f'"{VIEW}", "{ADD}", without="{ORDER}"', [(9, VIEW), (2, ORDER), (3, ADD)], True),
    # an older pair has nothing between
    (f'"{VIEW}", "{ADD}", without="{ORDER}"', [(9, VIEW), (8, ADD), (6, ORDER), (3, ADD)], True),
    (f'any_of("{VIEW}", "{CART}"), "{ADD}"', [(9, CART), (3, ADD)], True),
    (f'"{VIEW}", any_of("{CART}", "{ADD}")', [(9, VIEW), (3, CART)], True),
]


@pytest.mark.parametrize(("text", "events", "expected"), CASES)
def test_sequences(text: str, events: list[tuple[int, str]], expected: bool) -> None:
    assert agree([compile_condition(f"sequence({text})", scope())], [at(*events)]) == [[float(expected)]]


def test_a_sequence_keeps_the_newest_and_counts_what_it_loses() -> None:
    program = compile_condition(f'sequence("{VIEW}", "{ADD}", within="1h")', scope())
    layout = lay_out(needs_of(program))
    kept = {
        int(row[plan.STREAM_TYPE]): (int(row[plan.STREAM_K]), int(row[plan.STREAM_FLAGS]))
        for row in layout.streams
    }
    assert kept == {
        CODE_BY_NAME[VIEW]: (8, plan.STREAM_FLAG_SEQUENCE),
        CODE_BY_NAME[ADD]: (1, 0),  # the newest end is the best
    }
