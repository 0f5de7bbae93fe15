"""What tests of lanes share, and a process of its own that writes to lanes until it is killed or fails.

python lanes.py BROKERS PREFIX ITEMS    writes ITEMS numbered items, a few ms apart; with 0 it stays idle for ever
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
from confluent_kafka import Message

from segue.errors import SegueError
from segue.kafka.receipts import RECEIPTS, pack_receipts
from segue.kafka.settings import KafkaSettings
from segue.run.stop import FAILED
from segue.sinks.kafka.clients import Trouble, make_reader
from segue.sinks.kafka.lane import Lane
from segue.sinks.kafka.message import LaneMessage
from segue.sinks.kafka.tail import prepare_outputs, read_to_end
from segue_kernels import receipt

NAMES = ("email", "web", "decisions", "changes", "dead_letters", "late", "heartbeat")
LANES = 2


def settings_of(brokers: str, prefix: str, **other: Any) -> KafkaSettings:
    """A deployment with the prefix's name."""
    return KafkaSettings(brokers=brokers, name=prefix[:-1], prefix=prefix, lanes=LANES, **other)


def topic_names(prefix: str) -> list[str]:
    """All topics of such a deployment."""
    return [prefix + name for name in NAMES]


def told(number: int, part: int, flags: int) -> tuple[str, bytes]:
    """The header of decision `number`."""
    words = np.zeros((1, receipt.RECEIPT_WORDS), np.int64)
    words[0, receipt.RECEIPT_PART] = part
    words[0, receipt.RECEIPT_SEQUENCE] = words[0, receipt.RECEIPT_DECISION_LO] = number
    words[0, receipt.RECEIPT_FLAGS] = flags
    return RECEIPTS, pack_receipts(words)


def item(prefix: str, number: int, part: int, channel: str = "email", size: int = 10) -> list[LaneMessage]:
    """An action and its log row."""
    key = b"customer-%d" % number
    value = b"%d" % number + b" " * (size - len(b"%d" % number))
    action = LaneMessage(prefix + channel, key, value, [told(number, part, receipt.RECEIPT_IS_SENT)])
    log = LaneMessage(
        prefix + "decisions", None, b"%d" % number, [told(number, part, receipt.RECEIPT_IS_LOGGED)]
    )
    return [action, log]


def visible(settings: KafkaSettings, name: str) -> list[list[int]]:
    """The numbers that a read_committed consumer sees in a topic, by partition."""
    return [[int(value) for value in found] for found in values(settings, name)]


def visible_soon(
    settings: KafkaSettings, name: str, wanted: list[list[int]], seconds: float = 10.0
) -> list[list[int]]:
    """`visible`, once it is what is wanted, or after so long. Right behind a commit it need not be: the broker answers
    before it writes the marks, and until those are there nobody sees what was committed."""
    deadline = time.monotonic() + seconds
    while (seen := visible(settings, name)) != wanted and time.monotonic() < deadline:
        time.sleep(0.1)
    return seen


def values(settings: KafkaSettings, name: str) -> list[list[bytes]]:
    """What a read_committed consumer sees of a topic, by partition."""
    trouble = Trouble(settings)
    reader = make_reader(settings, trouble)
    found: list[list[bytes]] = [[] for _ in range(settings.lanes)]

    def take(message: Message) -> None:
        found[message.partition() or 0].append(bytes(message.value() or b""))

    read_to_end(
        settings, reader, {(settings.prefix + name, lane): 0 for lane in range(settings.lanes)}, take, trouble
    )
    reader.close()
    return found


def main() -> None:
    brokers, prefix, items, channel = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    settings = settings_of(brokers, prefix)
    try:
        tail = prepare_outputs(settings, topic_names(prefix), {})
        lanes = [Lane(settings, number, tail) for number in range(LANES)]
        for lane in lanes:
            lane.snapshot()
        print("ready", flush=True)
        for number in range(items):
            lanes[number % LANES].write([item(prefix, number, number % LANES, channel)])
            time.sleep(0.004)
        while not items:
            FAILED.raise_if_set()
            time.sleep(0.02)
        for lane in lanes:
            lane.snapshot()
            lane.close()
    except SegueError as error:
        print(error, flush=True)
        sys.exit(3)


if __name__ == "__main__":
    main()
