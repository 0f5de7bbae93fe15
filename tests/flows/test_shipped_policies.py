"""The shipped policies on the simulator's stream, and on streams made for them: they act when they should only."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import segue.policy
from segue.policy.examples import Example, messages, read_examples
from segue.simulate import SimulationSettings, write_simulation
from segue.testing.judge import judge
from segue.testing.play import Played
from tests.flows.runs import Case, Told, check_against, judged, run_processes, run_threads, seeds, write_case

SHIPPED = Path(segue.policy.__file__).parent / "shipped"
A4 = "contextual-voucher"
LAPSED = "lapsed-category-coupon"
START = datetime(2026, 3, 2, 8, tzinfo=UTC)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


def shipped_case(folder: Path, payloads: Sequence[bytes], **settings: Any) -> Case:
    texts = [path.read_text() for path in sorted(SHIPPED.glob("*.toml"))]
    assert len(texts) >= 2
    return write_case(folder, payloads, texts, **settings)


@pytest.mark.parametrize("seed", seeds(2))
def test_simulated_shoppers(seed: int, tmp_path: Path) -> None:
    """Every second seed in two processes. SEGUE_FLOW_SEEDS as in tests/flows/runs.py."""
    stream = io.BytesIO()
    write_simulation(SimulationSettings(seed=seed, customers=120, events=6_000, products=60), stream)
    lines = stream.getvalue().splitlines(keepends=True)
    payloads = [b"".join(lines[n::2]) for n in range(2)]
    case = shipped_case(tmp_path, payloads, batch_rows=500)
    reference = judged(case)
    assert reference.actions
    told = run_threads(case) if seed % 2 == 0 else run_processes(case)
    check_against(told, reference)
    assert told.summary.duplicates > 0
    assert told.summary.late > 0


class Story:
    """Events of a few people, written down one after the other."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def tell(self, who: str, what: str, when: timedelta, **fields: Any) -> None:
        time = (START + when).isoformat()
        event = {"id": f"e{len(self.events)}", "type": what, "time": time, "userId": who, **fields}
        self.events.append(event)

    def run(self, folder: Path) -> Told:
        told = sorted(self.events, key=lambda event: str(event["time"]))
        case = shipped_case(folder, ["".join(json.dumps(event) + "\n" for event in told).encode()], shards=2)
        result = run_threads(case)
        assert not result.dead
        assert not result.late
        check_against(result, judged(case))
        return result


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.toml")), ids=lambda path: path.stem)
def test_examples_through_the_flow(path: Path, tmp_path: Path) -> None:
    """Each policy acts, and does not, as its examples say: an input an example, on one worker and on two."""
    examples = read_examples(path).examples
    assert any(example.expect for example in examples)
    assert not all(example.expect for example in examples)
    payloads = []
    for n, example in enumerate(examples):
        told = messages(example)
        for message in told:
            message["id"] = f"{n}:{message['id']}"
            for name in ("userId", "anonymousId", "loyaltyId"):
                if name in message:
                    message[name] = f"{n}:{message[name]}"
        payloads.append("".join(json.dumps(message) + "\n" for message in told).encode())
    end_ms = max(example.start_ms + example.end_ms for example in examples)
    end = datetime.fromtimestamp(end_ms / 1_000, UTC).isoformat()
    last = {"id": "end", "type": "page", "userId": "somebody else", "time": end}
    payloads.append(json.dumps(last).encode())  # until then time moves for all
    case = write_case(tmp_path, payloads, [path.read_text()], batch_rows=5)
    reference = judged(case)
    for workers in (1, 2):
        result = run_threads(case, workers)
        assert not result.dead
        assert not result.late
        check_against(result, reference)
        for n, example in enumerate(examples):
            verdict = judge(example, _played(result, example, f"{n}:"))
            assert verdict.passed, (example.name, verdict.hints)


def _played(told: Told, example: Example, prefix: str) -> Played:
    """What came out about the example's customers by its end."""
    played = Played()
    for row in (*told.all_actions(), *told.changes):
        time = row["time"]
        moment = datetime.fromisoformat(time) if isinstance(time, str) else time
        at_ms = round(moment.timestamp() * 1_000) - example.start_ms
        if row["customer_id"].startswith(prefix) and at_ms <= example.end_ms:
            row = {**row, "customer_id": row["customer_id"].removeprefix(prefix), "at_ms": at_ms}
            (played.changes if "change" in row else played.actions).append(row)
    return played


def acted(told: Told, journey: str) -> list[tuple[str, str, str | None]]:
    """(customer, event, product or category) of each action of a journey, in order of time."""
    found = [action for action in told.all_actions() if action["journey"] == journey]
    return [
        (a["customer_id"], a["causation_id"], a["product_id"] or a["category"])
        for a in sorted(found, key=lambda a: (a["time"], a["customer_id"]))
    ]


def test_a4_acts_on_interest_and_not_on_a_purchase(tmp_path: Path) -> None:
    story = Story()
    shoe = {"product_id": "shoe", "category": "shoes", "price": 80, "currency": "EUR"}
    sock = {"product_id": "sock", "category": "shoes", "price": 8, "currency": "EUR"}
    for minute in (0, 9, 18):
        story.tell("looks", "Product Viewed", minute * MINUTE, **shoe)
    limited = len(story.events)
    for minute in (20, 25):  # one voucher a day
        story.tell("looks", "Product Viewed", minute * MINUTE, **shoe)
        for _ in range(3):
            story.tell("looks", "Product Viewed", minute * MINUTE, **sock)
    for minute in (0, 9, 18):  # one a week and product, but another product the next day
        story.tell("looks", "Product Viewed", 2 * DAY + minute * MINUTE, **shoe)
    for minute in (20, 21, 22):
        story.tell("looks", "Product Viewed", 2 * DAY + minute * MINUTE, **sock)
    again = len(story.events) - 1
    for minute in (0, 9):
        story.tell("buys", "Product Viewed", minute * MINUTE, **shoe)
    line = {name: shoe[name] for name in ("product_id", "category", "price")}
    story.tell("buys", "Order Completed", 10 * MINUTE, products=[line], currency="EUR")
    for minute in (11, 18, 19):
        story.tell("buys", "Product Viewed", minute * MINUTE, **shoe)
    for minute in (0, 29, 59, 89):  # never three within half an hour
        story.tell("strolls", "Product Viewed", minute * MINUTE, **shoe)
    for n in range(3):  # three products
        story.tell("browses", "Product Viewed", n * MINUTE, **{**shoe, "product_id": f"shoe-{n}"})
    story.tell("wishes", "Product Added to Wishlist", 3 * MINUTE, **shoe)
    wish = len(story.events) - 1
    told = story.run(tmp_path)
    assert acted(told, A4) == [
        ("wishes", f"e{wish}", "shoe"),
        ("looks", f"e{limited - 1}", "shoe"),
        ("looks", f"e{again}", "sock"),
    ]
    assert not acted(told, LAPSED)


def test_a4_needs_consent_for_push_and_email(tmp_path: Path) -> None:
    story = Story()
    shoe = {"product_id": "shoe", "category": "shoes", "price": 80, "currency": "EUR"}
    for who in ("asked", "silent"):
        if who == "asked":
            for channel in ("push", "email"):
                story.tell(who, "Consent Changed", -DAY, channel=channel, granted=True)
        for minute in (1, 2, 3):
            story.tell(who, "Product Viewed", minute * MINUTE, **shoe)
    told = story.run(tmp_path)
    reasons = {(row["customer_id"], row["channel"]): set(row["reasons"]) for row in told.decisions}
    for channel in ("push", "email"):
        assert 3 in reasons["silent", channel]
        assert 3 not in reasons["asked", channel]


def test_lapsed_buyers_get_a_coupon(tmp_path: Path) -> None:
    story = Story()

    def basket(who: str, days: int, *categories: str) -> None:
        lines = [{"product_id": f"{name}-1", "category": name, "price": 3.5} for name in categories]
        story.tell(who, "Order Completed", days * DAY, products=lines, currency="EUR")

    for who in ("lapsed", "came-back", "occasional"):
        for day in (0, 7, 14):
            basket(who, day, "wine", "bakery")
        basket(who, 60, "bakery", "bakery")
    basket("came-back", 50, "wine")
    for day in (0, 7):
        basket("seldom", day, "wine")
    basket("seldom", 60, "bakery")
    offered = [{"category": name} for name in ("garden", "bakery", "wine")]
    for who in ("lapsed", "came-back", "seldom"):
        story.tell(who, "Promotion Viewed", 80 * DAY, promotion_id="spring", products=offered)
    first = len(story.events) - 3
    for who, days in (
        ("occasional", 80),
        ("lapsed", 82),
        ("lapsed", 95),
    ):  # for another category; within limits
        only = [{"category": "garden"}] if who == "occasional" else offered
        story.tell(who, "Promotion Viewed", days * DAY, promotion_id="spring", products=only)
    told = story.run(tmp_path)
    assert acted(told, LAPSED) == [("lapsed", f"e{first}", "wine")]
    [action] = [a for a in told.all_actions() if a["journey"] == LAPSED]
    assert action["channel"] == "till"  # nobody agreed to mail
    assert action["voucher"]["campaign_id"] == "category-win-back-till"
    assert not acted(told, A4)
