"""Window entries against their naive twins: late and equal times, any order, joined in any order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue_kernels import plan
from tests.kernels import naive
from tests.kernels.drivers import Words, add, entry_words, join, quick

Added = list[tuple[int, int]]

KINDS = (plan.COUNT, plan.SUM, plan.TUMBLE_COUNT, plan.TUMBLE_SUM, plan.DISTINCT, plan.TUMBLE_DISTINCT)
CANARY = -77
WIDTH = 10
# few times and values: equal ones are common
ADDED = st.lists(st.tuples(st.integers(1, 60), st.integers(-5, 5).map(lambda v: v or 9)), max_size=25)
K = st.integers(1, 6)


def empty(kind: int, k: int) -> Words:
    """An entry at word 2 with a guard on both sides."""
    words = np.zeros(entry_words(kind, k) + 4, np.int64)
    words[[0, 1, -2, -1]] = CANARY
    return words


def entry_of(kind: int, k: int, added: Added, after: Sequence[int] = ()) -> tuple[Words, int]:
    words = empty(kind, k)
    cut = 0
    for n, (time, value) in enumerate(added):
        given_value = 1 if kind == plan.TUMBLE_COUNT else value
        cut += add(words, 2, kind, k, WIDTH, time, given_value, after[n] if after else 0)
    assert words[[0, 1, -2, -1]].tolist() == [CANARY] * 4
    return words, cut


def holds(kind: int, k: int, words: Words, added: Added) -> None:
    """The entry says what its twin says of the same additions."""
    found = words[2:-2].tolist()
    if kind == plan.COUNT:
        assert found == naive.count_entry([time for time, _ in added], k)
    elif kind == plan.SUM:
        assert found == naive.sum_entry(added, k)
    elif kind == plan.TUMBLE_COUNT:
        assert found == naive.tumble_count_entry([time for time, _ in added], WIDTH)
    elif kind == plan.TUMBLE_SUM:
        assert found == naive.tumble_sum_entry(added, WIDTH)
    elif kind == plan.DISTINCT:
        assert naive.is_distinct_entry(found, added, k)
    else:
        expected = naive.tumble_distinct_entry(added, k, WIDTH)
        of_window = {key for time, key in added if time // WIDTH * WIDTH == expected[0]}
        keys = found[2 : 2 + found[1]]
        assert found[:2] == expected[:2]
        assert len(set(keys)) == len(keys)
        assert set(keys) <= of_window


@pytest.mark.parametrize("kind", KINDS)
@quick(150)
@given(k=K, added=ADDED)
def test_an_entry_holds_what_its_twin_says(kind: int, k: int, added: Added) -> None:
    # window 0 begins at 0, which means none: event times are this century's
    added = [(time + WIDTH, value) for time, value in added]
    words, _ = entry_of(kind, k, added)
    holds(kind, k, words, added)
    if kind == plan.TUMBLE_DISTINCT:
        start, n = words[2:4].tolist()
        assert [start, n, *words[4 : 4 + n].tolist()] == naive.tumble_distinct_entry(added, k, WIDTH)[: 2 + n]


@quick(150)
@given(k=K, added=ADDED, moving=st.lists(st.integers(0, 60), min_size=25, max_size=25))
def test_what_a_sum_cuts_is_counted(k: int, added: Added, moving: list[int]) -> None:
    after = sorted(moving)[: len(added)]
    _, cut = entry_of(plan.SUM, k, added, after)
    assert cut == naive.sum_cuts(added, k, after)


@pytest.mark.parametrize("kind", KINDS)
@quick(150)
@given(k=K, parts=st.tuples(ADDED, ADDED, ADDED), data=st.data())
def test_joining_is_a_union_in_any_order(
    kind: int, k: int, parts: tuple[Added, Added, Added], data: st.DataObject
) -> None:
    parts = tuple([(time + WIDTH, value) for time, value in part] for part in parts)  # type: ignore[assignment]
    first, second, third = (entry_of(kind, k, list(part))[0] for part in data.draw(st.permutations(parts)))
    together = [pair for part in parts for pair in part]
    left = first.copy()  # (first + second) + third
    for other in (second, third):
        join(left, 2, other, 2, kind, k, WIDTH if kind >= plan.TUMBLE_COUNT else 0, 100)
    right = second.copy()  # first + (second + third)
    join(right, 2, third, 2, kind, k, WIDTH if kind >= plan.TUMBLE_COUNT else 0, 100)
    whole = first.copy()
    join(whole, 2, right, 2, kind, k, WIDTH if kind >= plan.TUMBLE_COUNT else 0, 100)
    for words in (left, whole):
        assert words[[0, 1, -2, -1]].tolist() == [CANARY] * 4
        holds(kind, k, words, together)
    if kind in (plan.COUNT, plan.SUM, plan.TUMBLE_COUNT, plan.TUMBLE_SUM):
        assert left.tolist() == whole.tolist()


@quick(100)
@given(k=K, added=ADDED)
def test_a_full_count_answers_every_window(k: int, added: Added) -> None:
    words, _ = entry_of(plan.COUNT, k, added)
    now = 60
    for window in (0, 1, 7, 30, 60):
        seen = naive.count_in_window([time for time, _ in added], now, window)
        kept = [time for time in words[2:-2].tolist() if time]
        assert naive.count_in_window(kept, now, window) == min(seen, k)


@quick(100)
@given(k=K, added=ADDED, later=st.integers(0, 70))
def test_distinct_saturates_whatever_ties_it_cut(k: int, added: Added, later: int) -> None:
    words, _ = entry_of(plan.DISTINCT, k, added)
    for window in (1, 7, 30, 70):
        seen = sum(time > later - window for time in naive.last_times(added).values())
        kept = sum(time > later - window and time != 0 for time in words[2 : 2 + k].tolist())
        assert kept == min(seen, k)
