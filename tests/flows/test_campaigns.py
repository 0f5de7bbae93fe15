"""Campaigns that run dry: the flow against the reference, which is fed the ledger's order of requests."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segue.actions.ledger import read_changes
from segue.outputs import LEDGER
from segue.settings import secret
from segue.sinks.files import read_batches
from segue.vouchers.keys import load_keys
from segue.vouchers.ledger import VoucherLedger
from segue.vouchers.rankings import Answering, Granted, Rankings
from segue_kernels import ledger as layout
from tests.flows.resumable import with_kills
from tests.flows.runs import Case, Told, check_against, judged, run_processes, run_threads, seeded_case, seeds
from tests.reference import engine
from tests.reference.choice import Seeded
from tests.reference.vouchers import grant_all, ids_of

SCARCE = """
policy = "vouchers"
version = 1
currency = "EUR"

[[campaigns]]
id = "dry"
start = "2020-01-01T00:00:00Z"
end = "2040-01-01T00:00:00Z"
budget = {budget}
per_customer = 2
discount_amount = "5.00"
when = 'event.amount < 1000000'
[[campaigns]]
id = "money"
start = "2020-01-01T00:00:00Z"
end = "2040-01-01T00:00:00Z"
budget_amount = 25
per_customer = 0
discount_percent = 12.5
discount_max = 10
valid_for = "2h"
[[campaigns]]
id = "post"
start = "2020-01-01T00:00:00Z"
end = "2040-01-01T00:00:00Z"
budget = {budget}
per_customer = 0
discount_amount = 3
[[campaigns]]
id = "over"
start = "2020-01-01T00:00:00Z"
end = "2020-02-01T00:00:00Z"
discount_amount = 1.5

[[journeys]]
id = "granted"
on = ["Product Viewed", "Product Added", "Order Completed"]
when = "True"
alongside = true
limits = [{{ times = 3, within = "1d" }}, {{ times = 1, within = "1h", by = "product" }}]
[[journeys.offers]]
id = "first"
channel = "web"
value = 5.0
voucher = {{ campaign = "dry" }}
[[journeys.offers]]
id = "second"
channel = "web"
value = 4.0
purpose = "service"
voucher = {{ campaign = "money" }}
[[journeys.offers]]
id = "third"
channel = "web"
value = 3.0
voucher = {{ campaign = "dry" }}
[[journeys.offers]]
id = "mail"
channel = "email"
value = 3.0
voucher = {{ campaign = "post" }}

[[journeys]]
id = "instead"
on = ["Product Viewed", "Order Completed"]
when = "event.quantity >= 0"
alongside = true
limits = [{{ times = 2, within = "1h" }}]
[[journeys.offers]]
id = "plain"
channel = "web"
value = 0.5
items = {{ recent = "Product Viewed", up_to = 2 }}
[[journeys.offers]]
id = "between"
channel = "web"
value = 4.5
voucher = {{ campaign = "over" }}
"""


class Watched:
    """The order in which a ledger is asked, by all threads of this process."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.order: list[str] = []
        answer = Answering.answer

        def watched(owner: Answering, rankings: Rankings) -> Granted:
            for request in rankings.requests[rankings.starts[:-1]].astype(np.uint64).tolist():
                high, low = request[layout.G_DECISION_HI], request[layout.G_DECISION_LO]
                self.order.append(f"{high:016x}{low:016x}")
            return answer(owner, rankings)

        patch.setattr(Answering, "answer", watched)

    def taken(self) -> list[str]:
        order, self.order = self.order, []
        return order


def vouchers(told: Told) -> dict[str, dict[str, Any]]:
    """Vouchers that went out with a code, by decision."""
    return {
        action["decision_id"]: action["voucher"]
        for action in told.all_actions()
        if action["voucher"] is not None and action["voucher"]["code"] is not None
    }


def ledger_in(out: Path, reference: engine.Reference) -> VoucherLedger:
    """The ledger as a run left it, every sum checked."""
    changes = read_changes(read_batches(out / f"{LEDGER}.arrows"))
    ledger = VoucherLedger.rebuild(reference.policies.campaigns, load_keys(secret()), changes)
    ledger.check()
    return ledger


def last_out(case: Case) -> Path:
    return max(case.folder.glob("out-*"), key=lambda path: int(path.name.removeprefix("out-")))


def check(case: Case, told: Told, order: list[str]) -> None:
    """Decisions, actions and codes are those of the reference; nobody got a code that the ledger does not know of."""
    reference = judged(case)
    granted = grant_all(reference, load_keys(secret()), order)
    check_against(told, reference)
    found = vouchers(told)
    assert {one: said.text for one, said in granted.items()} == {
        one: voucher["code"] for one, voucher in found.items()
    }
    codes = Counter(voucher["code"] for voucher in found.values())
    assert not codes or max(codes.values()) == 1
    if not found:
        return
    ledger = ledger_in(last_out(case), reference)
    issued = Counter(voucher["campaign_id"] for voucher in found.values())
    for terms in reference.policies.campaigns:
        sums = ledger.sums(terms.name)
        assert sums.issued == sums.charged == issued[terms.name]
        assert terms.budget < 0 or sums.charged <= terms.budget
        assert terms.budget_minor < 0 or sums.held_minor <= terms.budget_minor


@pytest.mark.parametrize("seed", seeds(8))
def test_one_worker_and_two(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = seeded_case(tmp_path, 30_000 + seed, 250, [SCARCE.format(budget=5)])
    watched = Watched(monkeypatch)
    for workers in (1, 2, 3):
        told = run_threads(case, workers)
        check(case, told, watched.taken())


@pytest.mark.parametrize("seed", seeds(2))
def test_two_processes(seed: int, tmp_path: Path) -> None:
    """What is scarce was granted to those who have it, in whatever order; who was refused would be at the end, too."""
    text = SCARCE.format(budget=4).replace("budget_amount = 25\n", "")
    case = seeded_case(tmp_path, 40_000 + seed, 300, [text]).with_settings(native=False)
    told = run_processes(case)
    reference = judged(case)
    scarce = ("dry", "post")
    granted = [one for one, voucher in vouchers(told).items() if voucher["campaign_id"] in scarce]
    others = Counter(ids_of(reference)) - Counter(granted)
    check(case, told, [*granted, *others.elements()])


def test_enough_for_all_is_granted_alike_on_any_number_of_workers(tmp_path: Path) -> None:
    """The lines are compared as they are: the same customers get the same codes."""
    text = SCARCE.format(budget=1_000_000).replace("budget_amount = 25\n", "")
    case = seeded_case(tmp_path, 50_000, 300, [text])
    one = run_threads(case)
    assert len(vouchers(one)) > 10
    assert run_threads(case, 2).essence() == one.essence()


POINTS = ("after_engine", "after_delta", "after_manifest", "after_epoch")


@pytest.mark.parametrize("point", POINTS)
def test_killed_and_gone_on_it_grants_what_it_would_have(point: str, tmp_path: Path) -> None:
    """The ledger is read back up to the cut, and what was granted behind it is granted again, as the same codes."""
    choice = Seeded(POINTS.index(point))
    text = SCARCE.format(budget=40)
    case = seeded_case(tmp_path, 60_000 + POINTS.index(point), 600, [text]).with_settings(batch_rows=20)
    told = with_kills(case, [f"{point}:{choice.integer(2, 4)}", f"{point}:{choice.integer(1, 3)}"])
    reference = judged(case)
    found = vouchers(told)
    issued = Counter(voucher["campaign_id"] for voucher in found.values())
    ledger = ledger_in(tmp_path / "out", reference)
    for terms in reference.policies.campaigns:
        sums = ledger.sums(terms.name)
        assert sums.issued == sums.charged == issued[terms.name]
    assert len({voucher["code"] for voucher in found.values()}) == len(found)
    assert told.essence() == run_threads(case).essence()
