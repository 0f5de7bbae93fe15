"""What became of all vouchers, read back from their topic: every lane's partition, from its beginning to its end."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from confluent_kafka import Message

from segue.errors import SinkError
from segue.kafka.settings import KafkaSettings
from segue.outputs import LEDGER
from segue.sinks.kafka.clients import Trouble, make_reader
from segue.sinks.kafka.tail import place_of, read_to_end, span
from segue_kernels.ledger import CHANGE_WORDS

_BYTES = 8 * CHANGE_WORDS


def read_ledger(settings: KafkaSettings) -> npt.NDArray[np.int64]:
    """The committed changes, int64[n, CHANGE_WORDS], those of a key in their order. Raises SinkError."""
    topic = settings.prefix + LEDGER
    found: list[bytes] = []

    def take(message: Message) -> None:
        value = message.value() or b""
        if len(value) != _BYTES:
            _, partition = place_of(message)
            raise SinkError(
                "read the ledger of vouchers",
                f'topic "{topic}" partition {partition} offset {message.offset()}: {len(value)} bytes are no change',
                "did something else write to this topic?",
            )
        found.append(value)

    trouble = Trouble(settings)
    reader = make_reader(settings, trouble)
    try:
        spans = {
            (topic, lane): span(settings, reader, (topic, lane), None, trouble)
            for lane in range(settings.lanes)
        }
        starts = {place: first for place, (first, end) in spans.items() if first < end}
        read_to_end(settings, reader, starts, take, trouble)
    finally:
        reader.close()
    return np.frombuffer(b"".join(found), "<i8").astype(np.int64).reshape(-1, CHANGE_WORDS)
