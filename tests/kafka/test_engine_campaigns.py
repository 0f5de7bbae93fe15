"""A scarce campaign on the broker, the engine killed at named points and rescaled: the vouchers that people got are
those of the ledger, each once, and the budget is spent to the last and never passed."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from deploy.kafka.broker import Broker
from segue.cli import app
from segue.kafka.settings import KafkaSettings
from segue.policy.load import load_policies
from segue.run.kill import POINTS
from segue.settings import secret
from segue.sinks.kafka.ledger import read_ledger
from segue.vouchers.answers import change_keys
from segue.vouchers.keys import load_keys
from segue.vouchers.ledger import VoucherLedger
from segue_kernels import ledger as layout
from tests.brokers import Topics
from tests.kafka.engines import Deployment, event, make_topics, now_ms

BUDGET = 60
PEOPLE = 20  # that come by in each round
POLICY = f"""
policy = "scarce"
version = 1
currency = "EUR"
[[purposes]]
id = "service"
unknown = "granted"

[[campaigns]]
id = "dry"
start = "2020-01-01T00:00:00Z"
end = "2040-01-01T00:00:00Z"
budget = {BUDGET}
budget_amount = 1000
discount_amount = "5.00"

[[journeys]]
id = "seen"
on = ["Product Viewed"]
when = "True"
[[journeys.offers]]
id = "five-off"
channel = "email"
purpose = "service"
value = 2.0
voucher = {{ campaign = "dry" }}
[[journeys.offers]]
id = "hello"
channel = "email"
purpose = "service"
"""

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def deployment(broker: Broker, topics: Topics, tmp_path: Path) -> Iterator[Deployment]:
    made = Deployment(broker.brokers, topics.prefix, tmp_path / "engine", policies=POLICY).make_topics()
    make_topics(made.brokers, {f"{made.prefix}ledger": made.lanes}, {"cleanup.policy": "compact"})
    try:
        yield made
    finally:
        made.close()


def check(deployment: Deployment, events: int) -> None:
    """Every event led to one action; codes of actions are those of the ledger, which add up."""
    actions = deployment.actions("email")
    assert max(Counter(action["decision_id"] for action in actions).values()) == 1
    assert len(actions) == events
    codes = [action["voucher"]["code"] for action in actions if action["voucher"] is not None]
    assert None not in codes
    assert len(set(codes)) == len(codes) == BUDGET
    settings = KafkaSettings(
        brokers=deployment.brokers, name=deployment.prefix, prefix=deployment.prefix, lanes=deployment.lanes
    )
    changes = read_ledger(settings)
    policies = load_policies([deployment.folder / "policies.toml"], secret=secret(), native=False)
    terms = [info.terms for info in policies.campaign_infos]
    ledger = VoucherLedger.rebuild(terms, load_keys(secret()), changes)
    ledger.check()
    sums = ledger.sums("dry")
    assert (sums.issued, sums.charged, sums.left, sums.held_minor) == (BUDGET, BUDGET, 0, BUDGET * 500)
    rows = np.flatnonzero(ledger.arrays.rows[: ledger.rows, layout.CODE])
    assert set(ledger.texts(rows)) == set(codes)
    written = Counter(key for key, row in zip(change_keys(changes), changes, strict=True) if row[0] == 1)
    assert set(written.values()) == {1}, "a voucher's grant is one message"
    (report,) = json.loads(campaigns(deployment, "list", "--json"))
    assert (report["granted"], report["left"], report["left_minor"]) == (BUDGET, 0, 100_000 - BUDGET * 500)
    told = [json.loads(line)["code"] for line in campaigns(deployment, "codes", "dry").splitlines()]
    assert sorted(told) == sorted(codes)
    reasons = Counter(reason for row in deployment.rows("decisions") for reason in row["reasons"])
    assert reasons[0] == events


def campaigns(deployment: Deployment, *arguments: str) -> str:
    """What the operator's command says, of the topic."""
    options = ("--policies", str(deployment.folder / "policies.toml"), "--prefix", deployment.prefix)
    command = ["campaigns", *arguments, *options, "--brokers", deployment.brokers]
    told = CliRunner().invoke(app, command, env={"SEGUE_SETTINGS": ""})
    assert told.exit_code == 0, told.output
    return told.stdout


def test_killed_and_rescaled_with_a_scarce_campaign(deployment: Deployment, seed: int) -> None:
    chance = random.Random(seed)
    points = [point for point in POINTS if point != "after_poll"]
    chance.shuffle(points)
    events = 0

    def some_come_by(number: int) -> int:
        told = [
            event(f"{number}-{person}-{look}", "Product Viewed", f"u{number}-{person}", now_ms())
            for look in range(2)
            for person in range(PEOPLE)
        ]
        deployment.send(told)
        return len(told)

    for number, point in enumerate(points):
        engine = deployment.start(
            "--processes", str(1 + number % 2), kill_at=f"{point}:{chance.randint(1, 4)}"
        )
        deadline = time.monotonic() + 10.0  # a point that is not come by so often is left for another seed
        events += some_come_by(2 * number)
        while engine.code is None and time.monotonic() < deadline:
            time.sleep(0.2)
        events += some_come_by(2 * number + 1)
        engine.kill()
    deployment.start("--processes", "2")
    deployment.wait_for_actions(events, "email")
    deployment.stop()
    check(deployment, events)


def test_vouchers_need_transactions(deployment: Deployment) -> None:
    deployment.start("--delivery", "email=idempotent")
    code, said = deployment.ended()
    assert code == 1
    assert "the offer `five-off` of the journey `seen`" in said
    assert "--delivery email=transactional" in said
