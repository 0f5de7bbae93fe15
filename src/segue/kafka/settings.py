"""What a deployment says about Kafka. Secrets are not here: they come from the environment or a file (client.py)."""

from __future__ import annotations

from typing import Literal

import msgspec

from segue import limits

Start = Literal["earliest", "latest"]
Form = Literal["auto", "json", "cloudevents", "many", "arrow"]
TableName = Literal["", "catalogue", "price", "stock", "profile"]
Delivery = Literal["transactional", "idempotent"]
IDEMPOTENT_CHANNELS = ("web", "till")  # where every millisecond counts: consumers drop repeats by decision id


class InputTopic(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A topic that is read.

    form  json: a bare event a message · cloudevents: binary mode, the envelope in headers · many: a JSON array or lines
          of events · arrow: an Arrow IPC stream · auto: told by the first bytes of each message (no headers are read)
    compact  how the topic is made: only the newest message of each key stays, for ever. For tables whose every
             message is complete (catalogue, stock); of events, or of changes to single fields, it would lose some
    table    its messages are no events but rows of this table, each complete: a JSON object, named by its fields or by
             the message's key; without a payload (a tombstone) the row is gone. It is compact, and read from its
             beginning to its end before any event is decided on. `form` says nothing of it
    """

    name: str
    form: Form = "auto"
    compact: bool = False
    table: TableName = ""

    @property
    def is_compact(self) -> bool:
        """Whether only the newest message of each key stays."""
        return self.compact or bool(self.table)


class KafkaSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Brokers, topics, and how actions are delivered. Without brokers there is no Kafka.

    name         identity of the deployment: of two engines with the same one the second fences the first
    start        where a partition that was never read is begun; that of a table always at its beginning
    prefix       in front of the names of output topics: prefix + channel, prefix + "decisions", …
    lanes        partitions of every output topic, each with one producer; fixed for life. Shard s goes to lane s modulo
                 lanes
    delivery     by channel, where it differs from the default (IDEMPOTENT_CHANNELS, all others transactional)
    compression  of what is produced
    gather_ms    a transaction waits so long for more to share it; one of logs only at least limits.GATHER_LOGS_MS
    properties   librdkafka's own, for all clients
    properties_file  the same from a file of `name=value` lines
    """

    brokers: str = ""
    name: str = "segue"
    topics: tuple[InputTopic, ...] = ()
    start: Start = "earliest"
    prefix: str = "segue."
    lanes: int = limits.LANES_DEFAULT
    delivery: dict[str, Delivery] = {}
    compression: Literal["zstd", "lz4"] = "lz4"
    gather_ms: int = 10
    properties: dict[str, str] = {}
    properties_file: str = ""

    def delivery_of(self, channel: str) -> Delivery:
        """How a channel's actions are delivered."""
        return self.delivery.get(channel, "idempotent" if channel in IDEMPOTENT_CHANNELS else "transactional")
