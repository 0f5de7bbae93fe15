"""Quiet hours over ten days in five time zones, two of which change their clocks meanwhile.

Nothing is sent while the customer's clock shows a time of quiet, judged from the actions alone; and the flow, on one
worker and on two, killed three times, and cut anywhere, says what the reference says.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from segue.settings import secret
from segue_kernels.shard import EXPIRED, HELD, QUIET_HOURS
from tests.flows.resumable import with_kills
from tests.flows.runs import Case, check_against, judged, run_threads, write_case
from tests.flows.test_ten_days import ZONES, ten_days
from tests.reference.caps import Who, caps_passed
from tests.reference.choice import Seeded
from tests.reference.policies import read_policies
from tests.reference.quiet import HOLDING, sent_in_quiet


def case_of(folder: Path, seed: int, **settings: Any) -> Case:
    """Every event names its customer's zone."""
    payloads = ten_days(Seeded(seed), 25, 3, tells=100)
    return write_case(folder, payloads, [HOLDING], native=False, **settings)


def zone_of(who: Who) -> str:
    return ZONES[int(who[1][1:]) % len(ZONES)]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nothing_is_sent_in_quiet_hours(seed: int, tmp_path: Path) -> None:
    case = case_of(tmp_path, seed, batch_rows=(1_000, 40)[seed % 2], shards=5)
    one = run_threads(case)
    policies = read_policies([HOLDING], secret())
    assert sent_in_quiet(one.all_actions(), policies, zone_of) == []
    assert caps_passed(one.all_actions(), policies, zone_of) == []
    reference = judged(case)
    check_against(one, reference)
    reasons = Counter(c.reason for decision in reference.decisions for c in decision.candidates)
    assert min(reasons[reason] for reason in (HELD, EXPIRED, QUIET_HOURS)) > 10, reasons
    released = [action for action in one.all_actions() if action["time"][14:16] in ("00", "30")]
    assert len(released) > 20
    assert run_threads(case, 2).essence() == one.essence()


def test_the_judge_sees_what_is_sent_in_quiet_hours() -> None:
    action = {
        "customer_kind": "user", "customer_id": "u0", "journey": "letters", "offer": "mail", "channel": "email",
        "time": "2026-03-29T06:00:00.000Z",
    }  # fmt: skip
    policies = read_policies([HOLDING], secret())
    assert "morning" in sent_in_quiet([action], policies, zone_of)[0]  # 08:00 in Berlin, on a Sunday
    assert sent_in_quiet([action | {"offer": "letter", "channel": "mail"}], policies, zone_of) == []
    assert sent_in_quiet([action | {"time": "2026-03-29T07:30:00.000Z"}], policies, zone_of) == []


def test_killed_three_times(tmp_path: Path) -> None:
    case = case_of(tmp_path, 4, batch_rows=40, shards=5)
    told = with_kills(case, ["after_engine:4", "after_delta:2", "after_manifest:3"])
    check_against(told, judged(case))


def test_expires_from_the_first_decision_on(tmp_path: Path) -> None:
    """What a released action says: the event that caused it, and until when it holds good."""
    event = {"id": "e1", "type": "Cart Viewed", "userId": "u0", "time": "2026-03-03T22:30:00Z"}
    later = {"id": "e2", "type": "page", "userId": "u9", "time": "2026-03-04T12:00:00Z"}
    payload = b"\n".join(msgspec.json.encode(each) for each in (event, later))
    told = run_threads(write_case(tmp_path, [payload], [HOLDING], native=False))
    (action,) = (
        each for each in told.all_actions() if each["customer_id"] == "u0" and each["channel"] == "email"
    )
    assert (action["time"], action["expires_at"]) == ("2026-03-04T08:00:00.000Z", "2026-03-05T22:30:00.000Z")
    assert (action["causation_id"], action["journey"], action["step"]) == ("e1", "letters", 1)
