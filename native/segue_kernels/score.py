"""Propensity by a logistic model over a feature vector, all offers of a journey at once.

logit = bias + sum over features of weight x feature, added in the order of the features (so that the reference
gets the same bits), clamped to +-LOGIT_MAX; propensity = 1 / (1 + exp(-logit)). The loop over offers is the
inner one: its lanes are independent, so the compiler may use vectors without changing any sum.
"""

from __future__ import annotations

import math

from segue_kernels.jit import Array, inline
from segue_kernels.plan import OFFER_F_BIAS

LOGIT_MAX = 60.0


@inline
def logits(
    offers_f: Array,
    first: int,
    count: int,
    weights: Array,
    weights_start: int,
    feature: Array,
    features: int,
    logit: Array,
) -> None:
    """Fill logit[0:count] for offers first .. first + count (unclamped)."""
    for o in range(count):
        logit[o] = offers_f[first + o, OFFER_F_BIAS]
    whole = features - features % 4
    for f in range(0, whole, 4):  # four features a pass over the logits, each still added in its turn
        at = weights_start + f * count
        x0 = feature[f]
        x1 = feature[f + 1]
        x2 = feature[f + 2]
        x3 = feature[f + 3]
        # slices: indices from 0, so the compiler sees that they can't be negative
        w0 = weights[at : at + count]
        w1 = weights[at + count : at + 2 * count]
        w2 = weights[at + 2 * count : at + 3 * count]
        w3 = weights[at + 3 * count : at + 4 * count]
        for o in range(count):
            logit[o] = (((logit[o] + w0[o] * x0) + w1[o] * x1) + w2[o] * x2) + w3[o] * x3
    for f in range(whole, features):
        at = weights_start + f * count
        x0 = feature[f]
        w0 = weights[at : at + count]
        for o in range(count):
            logit[o] += w0[o] * x0


@inline
def propensity(logit: float) -> float:
    """The logistic function of the clamped logit."""
    z = min(max(logit, -LOGIT_MAX), LOGIT_MAX)
    return 1.0 / (1.0 + math.exp(-z))
