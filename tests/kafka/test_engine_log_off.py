"""Without a decision log the topics are as exact as with one: its receipts are there, its rows are not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from deploy.kafka.broker import Broker
from tests.brokers import Topics
from tests.kafka.engines import Deployment, event, now_ms

OPTIONS = ("--log", "off", "--delivery", "web=transactional")
CUSTOMERS = 20


def seen(deployment: Deployment, times: int) -> None:
    """Everybody looks at something so often, all at once: three greetings each at most."""
    first, at_ms = deployment.sent, now_ms()
    views = range(first, first + times * CUSTOMERS)
    deployment.send([event(f"v{n}", "Product Viewed", f"u{n % CUSTOMERS}", at_ms) for n in views])


def test_what_was_sent_before_a_crash_is_not_sent_again(
    broker: Broker, topics: Topics, tmp_path: Path
) -> None:
    deployment = Deployment(broker.brokers, topics.prefix, tmp_path).make_topics()
    try:
        # nothing is saved before it is killed: all that it sent is read back
        engine = deployment.start(*OPTIONS, "--epoch", "60s")
        seen(deployment, 2)
        before = deployment.wait_for_actions(2 * CUSTOMERS, "web")
        engine.kill()
        seen(deployment, 5)
        deployment.start(*OPTIONS)
        deployment.wait_for_actions(3 * CUSTOMERS, "web")
        deployment.stop()
        actions = deployment.actions("web")
        assert set(Counter(action["decision_id"] for action in actions).values()) == {1}
        assert {action["decision_id"] for action in before} < {action["decision_id"] for action in actions}
        assert set(Counter(action["customer_id"] for action in actions).values()) == {3}
        assert len(deployment.records("decisions")) > 0
        assert deployment.rows("decisions") == []
    finally:
        deployment.close()
