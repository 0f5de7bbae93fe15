"""`segue` that says when its lanes open, and opens them a second later: python -m tests.kafka.slow_lanes run …"""

from __future__ import annotations

import time

from confluent_kafka import Producer

from segue.cli import main
from segue.sinks.kafka.lane import Lane

SAYS = "a lane opens"
_open = Lane._open


def _open_late(lane: Lane, producer: Producer) -> None:
    print(SAYS, flush=True)
    time.sleep(1)
    _open(lane, producer)


if __name__ == "__main__":
    Lane._open = _open_late  # type: ignore[method-assign]
    main()
