"""Named points at which a test kills this process as kill -9 does: SEGUE_KILL_AT="name:n", the n-th time it comes by.

Several stand side by side: SEGUE_KILL_AT="after_poll:3,after_manifest:2". Without the variable a point costs a look
at an empty dictionary.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "SEGUE_KILL_AT"
POINTS = (
    "after_poll",  # a source has read a batch; nobody has seen it
    "after_engine",  # a shard has decided; nothing of it was written
    "after_delta",  # a checkpoint's records are durable; Bytewax knows nothing of them
    "after_manifest",  # Bytewax has what a step's snapshot said; the epoch is not durable
    "after_produce",  # a transaction is filled and not committed
    "after_commit",  # it is committed; the epoch is not durable
    "after_epoch",  # the epoch is durable: a source begins to read for the next
)


def _left() -> dict[str, int]:
    left = {}
    for entry in filter(None, os.environ.get(VARIABLE, "").split(",")):
        name, _, count = entry.partition(":")
        if name not in POINTS:
            raise ValueError(f"{VARIABLE}: no point {name!r}; there are {', '.join(POINTS)}")
        left[name] = int(count or 1)
    return left


_remaining = _left()


def point(name: str) -> None:
    """Here a test may end this process."""
    if name in _remaining:
        _remaining[name] -= 1
        if _remaining[name] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
