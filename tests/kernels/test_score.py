"""Scores have the bits of plain Python: sums in the order of the features, math.exp."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segue import limits
from segue_kernels import score as score_kernels
from segue_kernels.plan import OFFER_F_BIAS, OFFER_F_WORDS
from tests.kernels.drivers import logistic, quick, score

NUMBERS = st.floats(-1e6, 1e6)


def plain_propensity(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-min(max(logit, -60.0), 60.0)))


@quick(200)
@given(st.one_of(st.floats(-70, 70), st.floats(allow_nan=False)))
def test_a_propensity_has_the_bits_of_math_exp(logit: float) -> None:
    assert logistic(logit).hex() == plain_propensity(logit).hex()


@quick(150)
@given(
    st.integers(0, 11),
    st.integers(1, 9),
    st.integers(0, 3),
    st.integers(0, 5),
    st.data(),
)
def test_logits_are_sums_in_the_order_of_features(
    features: int, offers: int, first: int, before: int, data: st.DataObject
) -> None:
    def numbers(n: int) -> np.ndarray:
        return np.array(data.draw(st.lists(NUMBERS, min_size=n, max_size=n)), np.float64)

    feature, weights = numbers(features), numbers(before + features * offers)
    offers_f = np.zeros((first + offers, OFFER_F_WORDS))
    offers_f[:, OFFER_F_BIAS] = numbers(first + offers)
    logit = np.full(offers + 2, 7.5)
    score(offers_f, first, offers, weights, before, feature, features, logit)
    for offer in range(offers):
        total = float(offers_f[first + offer, OFFER_F_BIAS])
        for f in range(features):
            total += float(weights[before + f * offers + offer]) * float(feature[f])
        assert float(logit[offer]).hex() == total.hex()
    assert logit[offers:].tolist() == [7.5, 7.5]


def test_many_offers_have_the_same_bits() -> None:
    """Enough lanes for every width of vector, and a remainder."""
    random = np.random.default_rng(1)
    features, offers = 33, 131
    feature, weights = random.normal(size=features) * 1e3, random.normal(size=features * offers)
    offers_f = random.normal(size=(offers, OFFER_F_WORDS))
    logit = np.zeros(offers)
    score(offers_f, 0, offers, weights, 0, feature, features, logit)
    expected = offers_f[:, OFFER_F_BIAS].copy()
    for f in range(features):
        expected = expected + weights[f * offers : (f + 1) * offers] * feature[f]
    assert logit.tobytes() == expected.tobytes()


def test_the_clamp_is_the_bound_of_the_limits() -> None:
    """Kernels know nothing of segue.limits, so the number stands twice."""
    assert score_kernels.LOGIT_MAX == limits.LOGIT_MAX
