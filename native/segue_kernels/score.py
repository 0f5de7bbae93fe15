"""Propensity by a logistic model over a feature vector, all offers of a journey at once.

logit = bias + sum over features of weight x feature, added in the order of the features (so that the reference
gets the same bits), clamped to +-LOGIT_MAX; propensity = 1 / (1 + exp(-logit)). The loop over offers is the
inner one: its lanes are independent, so the compiler may use vectors without changing any sum.
"""

from __future__ import annotations

import math

from segue_kernels.jit import inline
from segue_kernels.plan import OFFER_F_BIAS
from segue_kernels.shard import Array

LOGIT_MAX = 60.0


@inline
def logits(
    offers_f: Array, first: int, count: int, weights: Array, weights_start: int, feature: Array, features: int,
    logit: Array,
) -> None:
    """Fill logit[0:count] for offers first .. first + count (unclamped)."""
    for o in range(count):
        logit[o] = offers_f[first + o, OFFER_F_BIAS]
    for f in range(features):
        x = feature[f]
        at = weights_start + f * count
        weight = weights[at : at + count]  # indices from 0: the compiler sees they can't be negative
        for o in range(count):
            logit[o] += weight[o] * x


@inline
def propensity(logit: float) -> float:
    """The logistic function of the clamped logit."""
    z = min(max(logit, -LOGIT_MAX), LOGIT_MAX)
    return 1.0 / (1.0 + math.exp(-z))
