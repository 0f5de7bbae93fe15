"""What goes from step to step, and its keys: labels of shards, chosen so that shard i runs on worker i modulo workers
for every number of workers that divides LABEL_PERIOD.
"""

from __future__ import annotations

from functools import cache
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from segue.routing.packet import Packet
from segue.sinks.kafka.message import LaneMessage
from segue_kernels.siphash import hash_bytes

LABEL_PERIOD = 48
KNOWN, ANONYMOUS = "known", "anonymous"  # prefixes of labels

WAKE = None  # to an output: nothing to write, but it belongs into the next snapshot

Addressed = tuple[int, Packet | None]  # (shard, packet); None only wakes it
Item: TypeAlias = bytes | pa.RecordBatch | list[LaneMessage] | None
Output = tuple[str, Item]  # (name of a file or label of a lane, what goes there)


@cache
def shard_label(prefix: str, shard: int) -> str:
    """The key of a shard: Bytewax sends a key to worker SipHash-1-3(key, 0xff) modulo workers."""
    zero = np.uint64(0)
    suffix = 0
    while True:
        label = f"{prefix}-{shard:04d}-{suffix}"
        hashed = int(hash_bytes(np.frombuffer(label.encode() + b"\xff", np.uint8), zero, zero))
        if hashed % LABEL_PERIOD == shard % LABEL_PERIOD:
            return label
        suffix += 1
