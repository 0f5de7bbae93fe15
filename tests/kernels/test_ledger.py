"""The ledger against the naive one: whatever is asked in whatever order, both say the same and add up the same."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segue.vouchers.ledger import VoucherLedger
from segue_kernels import ledger as layout
from segue_kernels.ledger import A_CODE, A_REASON
from tests.kernels.drivers import quick
from tests.vouchers.both import NAMES, OWN, SHOPS, Both
from tests.vouchers.campaigns import (
    DAY_MS,
    EUR,
    HOUR_MS,
    MINUTE_MS,
    START_MS,
    USD,
    campaign,
    grants,
    hashed,
    keyring,
    terms_of,
)

LATE = st.sampled_from((0, 0, 0, 1, -1, 29 * MINUTE_MS, -3 * HOUR_MS, 40 * DAY_MS, -90 * DAY_MS))
CURRENCIES = st.sampled_from((EUR, EUR, EUR, EUR, USD))
REQUEST = st.tuples(
    st.sampled_from(NAMES),
    st.integers(1, 4),
    st.integers(1, 30),
    LATE,
    st.sampled_from((0, 0, 1, 999, 1_000, 1_001, 1_201, -1)),
    CURRENCIES,
)
REDEMPTION = st.tuples(
    st.integers(0, 12),
    st.sampled_from(("plain", "plain", "lower", "bare", "swap", "drop")),
    st.integers(0, 4),
    st.sampled_from((*SHOPS, SHOPS[0], SHOPS[0])),
    st.sampled_from((0, 500, 501, 999, 2_500, 4_444, 10**15, 10**15 + 1, -1)),
    CURRENCIES,
    st.sampled_from(((), (), (1,), (1, hashed("spring")))),
    LATE,
    st.integers(1, 3),
)
WHICH = st.lists(st.integers(0, 12), max_size=4)
RANKING = st.tuples(
    st.lists(
        st.tuples(st.sampled_from(NAMES), st.sampled_from((0, 0, 1_000, 1_201)), CURRENCIES), max_size=4
    ),
    st.integers(1, 4),
    st.integers(1, 30),
    LATE,
)
STEP = st.one_of(
    st.tuples(st.just("issue_best"), st.lists(RANKING, max_size=6)),
    st.tuples(st.just("grant"), st.lists(REQUEST, max_size=6)),
    st.tuples(st.just("grant"), st.lists(REQUEST, max_size=6)),
    st.tuples(st.just("redeem"), st.lists(REDEMPTION, max_size=4)),
    st.tuples(st.just("pass_on"), st.sampled_from(("issue", "issue", "release", "cancel")), WHICH, LATE),
    st.tuples(
        st.just("turn"),
        st.sampled_from((0, 1, 30 * MINUTE_MS, 7 * HOUR_MS, DAY_MS, 9 * DAY_MS)),
        st.integers(1, 5),
    ),
    st.tuples(st.just("bring"), st.lists(st.sampled_from(OWN), max_size=5)),
    st.tuples(st.just("rebuild"), st.integers(0, 99), st.booleans()),
    st.tuples(st.just("declare"), st.integers(0, 9)),
)
STOP = st.one_of(
    st.none(), st.tuples(st.just("stop"), st.sampled_from(NAMES[:3]), st.booleans(), st.integers(0, 40))
)


@quick(400)
@given(st.lists(STEP, max_size=25), STOP)
def test_it_says_what_the_naive_ledger_says(steps: list[Any], stop: Any) -> None:
    both = Both()
    for number, (step, *told) in enumerate(steps):
        if stop and stop[3] == number:
            both.stop(stop[1], stop[2])
        getattr(both, step)(*told)
        both.check()


def likely_step(made: random.Random, both: Both) -> tuple[Any, ...]:
    """A step as a campaign sees it: mostly what is right, and the same once more."""

    def mostly(good: Any, *others: Any) -> Any:
        return good if made.random() < 0.9 else made.choice(others)

    def late() -> int:
        return mostly(0, 1, -HOUR_MS, 20 * MINUTE_MS, -8 * DAY_MS, -8 * DAY_MS, 40 * DAY_MS, -(10**13))

    step = made.choice(
        ("grant", "grant", "grant", "redeem", "redeem", "issue", "issue", "other", "turn", "rebuild")
    )
    if step == "grant":
        rows = [
            (
                mostly(made.choice(NAMES[:3]), "none"),
                made.randint(1, 8),
                made.randint(1, 60),
                late(),
                mostly(0, 700, 1_201, -1),
                mostly(EUR, USD),
            )
            for _ in range(made.randint(1, 4))
        ]
        return step, rows
    if step == "redeem":
        redeemed = []
        for _ in range(made.randint(1, 3)):
            which = made.randint(0, 20)
            text = both.texts[-1 - which] if which < len(both.texts) else ""
            voucher = both.naive.find(text)
            owner = voucher.customer[0] if voucher and voucher.customer else 0
            redeemed.append(
                (
                    which,
                    mostly("plain", "lower", "bare", "swap", "drop"),
                    mostly(owner, 0, 5),
                    mostly(SHOPS[0], SHOPS[1]),
                    mostly(made.choice((501, 999, 2_500, 4_444)), 0, 500, 10**15 + 1),
                    mostly(EUR, USD),
                    mostly((), (1, hashed("spring"))),
                    late(),
                    made.randint(1, 2),
                )
            )
        return step, redeemed
    which_ones = [made.randint(0, 12) for _ in range(made.randint(1, 3))]
    if step == "issue":
        return "pass_on", "issue", which_ones, late()
    if step == "other":
        return made.choice(
            (
                ("pass_on", "release", which_ones, late()),
                ("pass_on", "cancel", which_ones[:1], late()),
                ("bring", [f"Sale {made.randint(1, 30)}" for _ in range(3)]),
                ("declare", made.randint(3, 12)),
            )
        )
    if step == "turn":
        return (
            step,
            made.choice((0, 1, MINUTE_MS, 31 * MINUTE_MS, 5 * HOUR_MS, DAY_MS, 4 * DAY_MS)),
            made.randint(1, 5),
        )
    return "rebuild", made.randint(0, 99), made.random() < 0.5


@quick(150)
@given(st.integers(0, 2**32))
def test_a_whole_campaign_is_what_the_naive_ledger_makes_of_it(seed: int) -> None:
    made = random.Random(seed)
    both = Both()
    for _ in range(60):
        step, *told = likely_step(made, both)
        getattr(both, step)(*told)
        both.check()
    if made.random() < 0.5:
        both.stop(made.choice(NAMES[:3]), made.random() < 0.5)
        for _ in range(15):
            step, *told = likely_step(made, both)
            getattr(both, step)(*told)
            both.check()


@quick(20)
@given(st.integers(0, 10**6), st.integers(1_000, 3_000))
def test_indices_grow_and_nothing_is_lost(seed: int, count: int) -> None:
    """Many vouchers of few customers, through several sizes of both indices."""
    real = VoucherLedger(terms_of(campaign("a", per_customer=None)), keyring(), rows_max=1 << 13)
    made = random.Random(seed)
    rows = [
        (0, (made.randrange(count), 1), (number, seed), START_MS + number, 0, EUR) for number in range(count)
    ]
    first = real.grant(grants(rows))
    assert not first.answers[:, A_REASON].any()
    again = real.grant(grants(rows))
    assert (again.answers[:, A_REASON] == layout.AGAIN).all()
    assert not len(again.changes)
    np.testing.assert_array_equal(again.answers[:, A_CODE:], first.answers[:, A_CODE:])
    real.check()
    assert len(real.expire(START_MS + 2 * HOUR_MS, count)) == count
