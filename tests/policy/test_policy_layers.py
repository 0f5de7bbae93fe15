"""Applicability and suitability of offers: what the fields become, what they cost, and what is said of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from segue.decide.bench import plain_journeys
from segue.explain.rows import Candidate, Decision
from segue.explain.words import Policies, why
from segue.policy import ir
from segue.policy.check import check
from segue.policy.compiled import CompiledPolicies
from segue.policy.load import load_policies
from segue_kernels import plan, record

POLICY = """
policy = "p"
version = 1
[[journeys]]
id = "j"
on = ["Product Viewed"]
when = "True"
{journey}
[[journeys.offers]]
id = "a"
channel = "web"
[[journeys.offers]]
id = "b"
channel = "web"
{offer}
"""
DEAR, BULK = "event.price > 100", "event.quantity > 5"
PRICE, QUANTITY = record.PRICE, plan.FIELD_QUANTITY


def load(folder: Path, journey: str = "", offer: str = "") -> CompiledPolicies:
    file = folder / "p.toml"
    file.write_text(POLICY.format(journey=journey, offer=offer), encoding="utf-8")
    return load_policies([file], secret=bytes(16), native=False)


def fields_asked(compiled: CompiledPolicies, word: int) -> list[list[int]]:
    """The fields of the event that each offer's condition reads, in their order."""
    programs = [
        compiled.programs[at] if at >= 0 else ir.Number(1.0) for at in compiled.offers[:, word].tolist()
    ]
    return [[n.field for n in ir.walk(tree) if isinstance(n, ir.EventNumber)] for tree in programs]


@pytest.mark.parametrize(
    ("journey", "offer", "alike", "asked"),
    [
        ("", "", 1, [[], []]),
        ("suitable = 'True'", "suitable = 'True'", 1, [[], []]),
        (f"suitable = '{DEAR}'", "", 1, [[PRICE], [PRICE]]),
        ("", f"suitable = '{BULK}'", 0, [[], [QUANTITY]]),
        (f"suitable = '{DEAR}'", f"suitable = '{BULK}'", 0, [[PRICE], [PRICE, QUANTITY]]),
        (f"suitable = '{DEAR}'", f"applicable = '{BULK}'", 0, [[PRICE], [PRICE]]),
    ],
)
def test_what_the_journey_asks_is_asked_of_every_offer(
    tmp_path: Path, journey: str, offer: str, alike: int, asked: list[list[int]]
) -> None:
    compiled = load(tmp_path, journey, offer)
    assert fields_asked(compiled, plan.OFFER_SUITABLE) == asked
    assert plain_journeys(compiled).tolist() == [
        alike
    ]  # offers that share their conditions stay on the fast path


def test_what_they_count_is_kept_and_found_by_product(tmp_path: Path) -> None:
    compiled = load(tmp_path, """applicable = 'count("Product Added", by="product", within="1d") < 2'""")
    [stream] = range(len(compiled.streams))
    assert compiled.streams[stream, plan.STREAM_BY] == plan.BY_PRODUCT
    assert compiled.locate.tolist() == compiled.journey_locate.tolist() == [stream]
    assert "Product Added" in check(compiled).policies[0].events


def test_why_an_offer_was_not_applicable_or_suitable(tmp_path: Path) -> None:
    load(tmp_path, f"applicable = '{DEAR}'\nsuitable = '{DEAR}'", f"suitable = '{BULK}'")
    policies = Policies([tmp_path / "p.toml"])
    lost = [Candidate("b", "j", "p@1", reason, "") for reason in ("not_applicable", "not_suitable")]
    decision = Decision("0", "anna", 0, None, "web", "default", None, lost)
    said = [why(decision, candidate, [decision], policies) for candidate in lost]
    assert said == [
        f"it does not apply to this situation: {DEAR}",
        f"it would not do this customer good: {DEAR} and {BULK}",
    ]
