"""What a lane sends, and how far it has come."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from segue.kafka.settings import KafkaSettings
from segue.outputs import LOG_OUTPUTS

Header = tuple[str, bytes]


class LaneMessage(NamedTuple):
    """One message to the lane's partition of a topic."""

    topic: str
    key: bytes | None
    value: bytes
    headers: list[Header]


LaneItem = tuple[int, list[LaneMessage]]  # (lane, messages that become visible together)


class LanePosition(msgspec.Struct, frozen=True):
    """Where a lane stood at a checkpoint.

    offsets  by topic: the next message of the lane's partition
    pending  by topic: ids (receipts.py) read back after a crash whose rows have not come again yet
    """

    offsets: dict[str, int] = {}
    pending: dict[str, bytes] = {}


def lane_label(lane: int) -> str:
    """The key of a lane."""
    return f"lane-{lane:02d}"


def is_idempotent(settings: KafkaSettings, topic: str) -> bool:
    """Whether messages to the topic go out at once, without a transaction."""
    return settings.delivery_of(topic.removeprefix(settings.prefix)) == "idempotent"


def is_log(settings: KafkaSettings, topic: str) -> bool:
    """Whether nobody acts at once on what the topic gets: its messages wait for others to share a transaction."""
    return topic.removeprefix(settings.prefix) in LOG_OUTPUTS


def header(headers: Any, name: str) -> bytes | None:
    """The header's value; of a message that was read, or is to be sent."""
    return next((value for key, value in headers or () if key == name), None)
