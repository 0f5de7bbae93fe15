"""Against a naive twin in whole fractions: what a voucher takes off that is computed."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from segue_kernels.discount import depth
from segue_kernels.jit import kernel
from segue_kernels.plan import DISCOUNT_WORDS
from tests.kernels.drivers import quick


@kernel
def depth_of(discounts: Any, which: int, value: float) -> int:
    return depth(discounts, which, value)


def naive(scale: int, least: int, most: int, step: int, value: float) -> int:
    """The greatest of least, least + step, ... that is not above the value, in units, kept within the bounds."""
    asked = min(max(Fraction(math.floor(value * scale + 0.5)), least), most)
    found = least
    while found + step <= asked:
        found += step
    return found


@quick(500)
@given(
    scale=st.sampled_from((1, 100, 1_000)),
    least=st.integers(0, 3_000),
    wide=st.integers(0, 5_000),
    step=st.integers(7, 10_000),
    value=st.floats(-1e18, 1e18) | st.floats(-1, 100),
)
@example(scale=100, least=500, wide=1_500, step=250, value=12.499999)
@example(scale=100, least=0, wide=10, step=7, value=0.005)
@example(scale=100, least=0, wide=5_000, step=7, value=1e300)
def test_within_bounds_in_whole_steps(scale: int, least: int, wide: int, step: int, value: float) -> None:
    row = [0, scale, least, least + wide, step]
    assert len(row) == DISCOUNT_WORDS
    table = np.array([[9] * DISCOUNT_WORDS, row], np.int64)
    found = depth_of(table, 1, value)
    assert found == naive(scale, least, least + wide, step, value)
    assert least <= found <= least + wide
