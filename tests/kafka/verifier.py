"""What consumers see against the naive reference: exit 0 only if nothing is missing, doubled or wrong.

    python -m tests.kafka.verifier --brokers H:P --inputs NAME[:FORM] … --prefix P --policies FILE …
        [--delivery CHANNEL=transactional|idempotent …] [--lateness 5m] [--due-before TIME] [--one-in N] [--engine]

Reads the topics as a `read_committed` consumer, in a process of its own. What is demanded: segue/chaos/verify.py. The
engine must have been stopped: while it is at work what goes out at once is seen before its row in the log.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from segue.chaos.oracle import EngineOracle
from segue.chaos.topics import parse_topic
from segue.chaos.verify import Oracle, Verdict, check_topics, read_input, read_output, rules_of, verify
from segue.kafka.settings import InputTopic, KafkaSettings
from segue.limits import LATENESS_MS_DEFAULT
from segue.policy.load import load_policies
from segue.run.arguments import duration_ms, time_ms
from segue.settings import Settings, secret
from tests.kafka.naive_oracle import NaiveOracle


def judge(
    settings: Settings,
    *,
    due_ms: int | None = None,
    may_ms: int | None = None,
    one_in: int = 1,
    engine: bool = False,
) -> Verdict:
    """Compare the topics that the settings name. Without `due_ms` no timer need have fired by time alone.

    engine  the engine itself is the oracle: faster, and blind to what it always does wrong
    """
    kafka = settings.kafka
    check_topics(kafka.topics)
    policies = load_policies(settings.policies, secret=secret(), currency=settings.currency, native=False)
    itself = EngineOracle(policies, settings.engine(), settings.currency)
    oracle: Oracle = itself if engine else NaiveOracle(settings)
    # the output first: an action that is seen was caused by an event that is there by then
    output = read_output(kafka.brokers, kafka.prefix)
    now_ms = round(time.time() * 1_000)
    return verify(
        read_input(kafka.brokers, kafka.topics),
        output,
        oracle,
        rules_of(policies, settings.timezone),
        kafka,
        lateness_ms=settings.lateness_ms,
        due_ms=1 if due_ms is None else due_ms,
        may_ms=now_ms if may_ms is None else may_ms,
        one_in=one_in,
    )


def main(arguments: list[str] | None = None) -> int:
    """Print the verdict."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.kafka.verifier",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--inputs", required=True, nargs="+", metavar="NAME[:FORM]")
    parser.add_argument("--prefix", default="segue.")
    parser.add_argument("--policies", required=True, nargs="+")
    parser.add_argument("--delivery", nargs="*", default=[], metavar="CHANNEL=DELIVERY")
    parser.add_argument("--lateness", default=f"{LATENESS_MS_DEFAULT}ms")
    parser.add_argument("--due-before", metavar="TIME", help="timers due before this must have fired")
    parser.add_argument("--one-in", type=int, default=1, help="look at one customer in so many")
    parser.add_argument("--engine", action="store_true", help="the engine is its own oracle")
    chosen = parser.parse_args(arguments)
    kafka = KafkaSettings(
        brokers=chosen.brokers,
        prefix=chosen.prefix,
        topics=tuple(InputTopic(*parse_topic(text)) for text in chosen.inputs),
        delivery=dict(text.split("=", 1) for text in chosen.delivery),
    )
    settings = Settings(
        policies=tuple(str(Path(p)) for p in chosen.policies),
        lateness_ms=duration_ms("--lateness", chosen.lateness),
        live=True,
        kafka=kafka,
    )
    due_ms = time_ms("--due-before", chosen.due_before) if chosen.due_before else None
    verdict = judge(settings, due_ms=due_ms, one_in=chosen.one_in, engine=chosen.engine)
    print(verdict)
    return 0 if verdict.ok else 1


if __name__ == "__main__":
    sys.exit(main())
