"""What may be taken back, in policy files: what it becomes, what contradicts, and what `segue check` says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from segue.errors import PolicyError
from segue.events.names import CODE_BY_NAME
from segue.limits import HOUR_MS, OUTSTANDING_PER_CUSTOMER_MAX
from segue.policy.check import check, render
from segue_kernels import plan
from tests.policy.test_policy_caps import load

ORDER = CODE_BY_NAME["Order Completed"]


def journey(name: str, *fields: str, offer: str = "") -> str:
    lines = ["[[journeys]]", f'id = "{name}"', 'on = ["Product Viewed"]', "when = 'True'", *fields]
    return "\n".join([*lines, "[[journeys.offers]]", 'id = "o"', 'channel = "email"', offer, ""])


def test_rows_and_report(tmp_path: Path) -> None:
    first = journey(
        "first", 'expires_after = "6h"', 'goal = ["Order Completed", "Cart Viewed"]', offer='take_back = "6h"'
    )
    compiled = load(tmp_path, first, journey("other", 'goal = ["Order Completed"]'))
    assert compiled.offers[:, plan.OFFER_TAKE_BACK_MS].tolist() == [6 * HOUR_MS, 0]
    assert compiled.goal[compiled.goal_start[ORDER] : compiled.goal_start[ORDER + 1]].tolist() == [0, 1]
    assert compiled.goal_start[-1] == 3
    assert compiled.journey_infos[0].goals == ("Order Completed", "Cart Viewed")
    report = check(compiled)
    assert (report.outstanding, report.outstanding_bytes) == (OUTSTANDING_PER_CUSTOMER_MAX, 64)
    assert "Cart Viewed" in report.policies[0].events
    text = render(report)
    assert "    first: Order Completed, Cart Viewed\n" in text
    assert "first: o -> email/default (consent email marketing, taken back for 6h)" in text
    assert "that may be taken back: at most 16 actions a customer, of 64 bytes each" in text


def test_policies_without_it_have_none_of_it(tmp_path: Path) -> None:
    compiled = load(tmp_path, journey("plain"))
    assert not compiled.offers[:, plan.OFFER_TAKE_BACK_MS].any()
    assert len(compiled.goal) == 0
    assert "taken back" not in render(check(compiled))


@pytest.mark.parametrize(
    ("text", "path", "message", "hint"),
    [
        (
            journey("j", 'expires_after = "2h"', offer='take_back = "3h"'),
            "$.journeys[0].offers[0].take_back`",
            '"3h" is longer than the action holds good, 2h',
            'take_back = "2h"',
        ),
        (journey("j", offer='take_back = "soon"'), "$.journeys[0].offers[0].take_back`", "soon", "30m"),
        (journey("j", offer="take_back = true"), "$.journeys[0].offers[0].take_back`", "Expected", "quotes"),
        (
            journey("j", 'goal = ["Order Complete"]'),
            "$.journeys[0].goal[0]`",
            "Order Complete",
            "Order Completed",
        ),
        (
            journey("j", 'goal = ["Cart Viewed", "Cart Viewed"]'),
            "$.journeys[0].goal[1]`",
            "stands here twice",
            "once",
        ),
        (journey("j", "goal = []"), "$.journeys[0].goal`", "length >= 1", "at least 1"),
    ],
)
def test_what_contradicts_is_refused(tmp_path: Path, text: str, path: str, message: str, hint: str) -> None:
    with pytest.raises(PolicyError) as raised:
        load(tmp_path, text)
    assert path in raised.value.found
    assert message in raised.value.found
    assert hint in raised.value.hint
