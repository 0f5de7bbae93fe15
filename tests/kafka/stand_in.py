"""A stand-in for the engine on Kafka, to try the tools on: topics in, topics out, and no state of its own.

At each start it fences its predecessor, reads what it said before, decides all of the input again, and says in
transactions what it has not said yet. `--fault` makes it do something wrong that the verifier must see.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from segue.actions.encode import encode_dead
from segue.chaos.oracle import UndisturbedRun
from segue.chaos.topics import lines_of, parse_topic
from segue.decide.decisions import Decisions
from segue.events.names import CHANNELS
from segue.kafka.read import Record, partitions_of, read_topics
from segue.outputs import CHANGES, DEAD_LETTERS, DECISIONS, JOINS
from segue.policy.load import load_policies
from segue.run.arguments import duration_ms
from segue.settings import Settings, secret

FAULTS = ("", "drop", "double")
_OUTPUTS = (*CHANNELS, DECISIONS, CHANGES, JOINS, DEAD_LETTERS, "late")


class Partition(UndisturbedRun):
    """One input partition, decided by itself; what is said is kept as messages (topic, key, value)."""

    said: list[tuple[str, bytes | None, bytes]]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.said = []

    def _take(self, decided: list[Decisions]) -> None:
        for name, payload in self._encoder.encode(decided) if decided else ():
            if isinstance(payload, bytes):
                for line in payload.splitlines():
                    self.said.append((name, msgspec.json.decode(line)["customer_id"].encode(), line))
            else:
                for row in range(len(payload)):
                    self.said.append((name, None, _ipc(payload.slice(row, 1))))


def _ipc(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def _identity(name: str, value: bytes) -> bytes:
    """What tells a message from others of its output."""
    if name in (DECISIONS, CHANGES, JOINS):
        row = pa.ipc.open_stream(value).read_all().to_pylist()[0]
        return str(row.get("decision_id") or sorted(row.items(), key=str)).encode()
    message = msgspec.json.decode(value)
    return f"{message.get('kind')} {message.get('decision_id', value)}".encode()


class KillPoints:
    """SEGUE_KILL_AT="name:n": kill -9 at the n-th pass of a point."""

    def __init__(self) -> None:
        self._name, _, number = os.environ.get("SEGUE_KILL_AT", ":0").partition(":")
        self._left = int(number)

    def __call__(self, name: str) -> None:
        if name == self._name:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser()
    for name in ("brokers", "prefix", "name"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--topic", action="append", required=True)
    parser.add_argument("--policies", action="append", required=True)
    parser.add_argument("--lateness", default="5m")
    parser.add_argument("--fault", choices=FAULTS, default="")
    chosen, _ = parser.parse_known_args(arguments)
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))

    topics = dict(parse_topic(text) for text in chosen.topic)
    settings = Settings(
        policies=tuple(chosen.policies), shards=2, lateness_ms=duration_ms("--lateness", chosen.lateness)
    )
    policies = load_policies(settings.policies, secret=secret(), native=False)
    producer = Producer({"bootstrap.servers": chosen.brokers, "transactional.id": f"{chosen.name}-lane-0"})
    producer.init_transactions(60)
    names = {chosen.prefix + name: name for name in _OUTPUTS}
    known = {
        (names[record.topic], _identity(names[record.topic], record.value))
        for record in read_topics(chosen.brokers, list(names))
    }
    consumer = Consumer(
        {"bootstrap.servers": chosen.brokers, "group.id": chosen.name, "isolation.level": "read_committed"}
    )
    places = [
        TopicPartition(topic, number, OFFSET_BEGINNING)
        for topic, count in partitions_of(chosen.brokers, list(topics)).items()
        for number in range(count)
    ]
    consumer.assign(places)
    engine = settings.engine()
    runs = {
        (place.topic, place.partition): Partition(policies, engine, settings.currency, None, 1)
        for place in places
    }
    fault = chosen.fault
    passes = KillPoints()
    heard = time.monotonic()
    while not stopped:
        messages = consumer.consume(2_000, 0.05)
        passes("after_poll")
        idle = not messages and time.monotonic() > heard + 1
        if messages:
            heard = time.monotonic()
        lines: dict[tuple[str, int], list[bytes]] = {}
        for message in messages:
            if message.error() is not None:
                continue
            record = Record(
                message.topic(), message.partition(), message.offset(), 0, None,
                message.value(), tuple(message.headers() or ()),
            )  # fmt: skip
            each = [line.line for line in lines_of(record, topics[record.topic])]
            lines.setdefault((record.topic, record.partition), []).extend(each)
        out: list[tuple[str, bytes | None, bytes]] = []
        for place, run in runs.items():
            run.feed(lines.get(place, []))
            if idle:
                run.advance(round(time.time() * 1_000) - settings.lateness_ms)
            out += run.said + [(DEAD_LETTERS, None, encode_dead([letter])) for letter in run.dead]
            run.said, run.dead = [], []
        new = []
        for name, key, value in out:
            identity = (name, _identity(name, value))
            if name == DEAD_LETTERS or identity not in known:
                known.add(identity)
                new.append((name, key, value))
        passes("after_engine")
        if not new:
            continue
        email = [message for message in new if message[0] == "email"]
        if email and fault:
            new += email[:1] if fault == "double" else []
            new = [message for message in new if fault != "drop" or message is not email[0]]
            fault = ""
        producer.begin_transaction()
        for name, key, value in new:
            producer.produce(chosen.prefix + name, value, key)
        producer.flush()
        passes("after_produce")
        producer.commit_transaction(60)
        passes("after_commit")
    return 0


if __name__ == "__main__":
    sys.exit(main())
