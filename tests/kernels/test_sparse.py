"""Words packed and unpacked against a plain twin; rows placed where they belong."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segue_kernels.sparse import GROUP, pack_words, place_rows, unpack_words
from tests.kernels.drivers import quick

WORD = st.one_of(st.just(0), st.integers(-(2**63), 2**63 - 1))


def packed_plainly(words: list[int]) -> list[int]:
    """Groups of a mask and the words that are not zero, then one word 0."""
    packed = []
    for first in range(0, len(words), GROUP):
        group = words[first : first + GROUP]
        packed.append(sum(1 << i for i, word in enumerate(group) if word))
        packed += [word for word in group if word]
    return [*packed, 0]


def pack(words: list[int]) -> np.ndarray:
    room = np.full(len(words) + len(words) // GROUP + 3, 77, np.int64)
    return room[: pack_words(np.array(words, np.int64), room)]


@quick(200)
@given(st.lists(WORD, max_size=400))
def test_packed_words_are_the_twins_and_come_back(words: list[int]) -> None:
    packed = pack(words)
    assert packed.tolist() == packed_plainly(words)
    back = np.full(len(words), 55, np.int64)
    assert unpack_words(packed, back) == len(packed)
    assert back.tolist() == words


@quick(200)
@given(st.lists(WORD, min_size=1, max_size=200), st.data())
def test_packed_words_that_were_cut_or_are_of_another_length_are_refused(
    words: list[int], data: st.DataObject
) -> None:
    packed = pack(words)
    cut = data.draw(st.integers(0, len(packed) - 1))
    # a cut may leave a word 0 at its end by chance: then it took fewer words than it should
    assert unpack_words(packed[:cut], np.empty(len(words), np.int64)) < len(packed)
    other = data.draw(st.integers(0, 300).filter(lambda length: length != len(words)))
    taken = unpack_words(packed, np.empty(other, np.int64))
    assert taken != len(packed) or not any(words[other:])


@quick(200)
@given(st.lists(st.tuples(st.lists(WORD, max_size=5), st.booleans()), max_size=40))
def test_rows_stand_where_they_were_placed_and_the_others_nowhere(rows: list[tuple[list[int], bool]]) -> None:
    words = np.array([word for row, _ in rows for word in row], np.int64)
    starts = np.cumsum([0, *(len(row) for row, _ in rows)])
    target = np.full(len(rows), -1, np.int64)
    expected: list[int] = []
    for i in reversed(range(len(rows))):
        if rows[i][1]:
            target[i] = len(expected)
            expected += rows[i][0]
    placed = np.full(len(expected) + 1, 99, np.int64)
    place_rows(words, starts, target, placed)
    assert placed.tolist() == [*expected, 99]
