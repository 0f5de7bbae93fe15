"""The depth of a voucher that is computed: a number within its bounds, in whole steps, to the cent."""

from __future__ import annotations

import math

from segue_kernels.jit import Array, inline
from segue_kernels.plan import DISCOUNT_MAX, DISCOUNT_MIN, DISCOUNT_SCALE, DISCOUNT_STEP


@inline
def depth(discounts: Array, which: int, value: float) -> int:
    """What a voucher takes off whose program gave `value`, in units: never below the row's minimum or above its
    maximum, and a whole number of steps above the minimum. Half a unit is rounded up. `value` is finite."""
    least = discounts[which, DISCOUNT_MIN]
    most = discounts[which, DISCOUNT_MAX]
    scaled = value * discounts[which, DISCOUNT_SCALE]
    units = least
    if scaled >= most:  # as floats: a large number has no whole one of 64 bits
        units = most
    elif scaled > least:
        units = math.floor(scaled + 0.5)
    return int(least + (units - least) // discounts[which, DISCOUNT_STEP] * discounts[which, DISCOUNT_STEP])
