"""What waits in the merge comes back from its bytes, and no more of a packet's text than its rows have."""

from __future__ import annotations

import numpy as np

from segue.routing.arrivals import Arrivals, Released
from segue.routing.packet import ANY_PLACE, CLOCK_END, ROW_BITS, Packet, Place
from segue_kernels import record
from segue_kernels.route import no_rows
from tests.kernels.drivers import Bytes, Words

LATENESS_MS = 3


def rows(partition: int, *clocks: int, text: bytes = b"nobody's") -> tuple[Words, Bytes]:
    """Rows at these clocks, each with a string of its own behind a text that is none's."""
    made = np.zeros((len(clocks), record.RECORD_WORDS), np.int64)
    for n, (words, clock) in enumerate(zip(made, clocks, strict=True)):
        customer, message = b"customer %d" % clock, b"m" * n
        words[record.CLOCK], words[record.SEQUENCE] = clock, partition << ROW_BITS | n
        words[record.HEAP] = len(text) << 32 | len(customer) | len(message) << 8
        text += customer + message
    return made, np.frombuffer(text, np.uint8)


def packet(partition: int, batch: int, start: Place, end: Place, *clocks: int, text: bytes = b"x") -> Packet:
    return Packet(partition, batch, start, end, *rows(partition, *clocks, text=text))


def strings(released: Released | None) -> list[bytes]:
    if released is None:
        return []
    found = []
    for heap in released.records[:, record.HEAP].tolist():
        at, length = heap >> 32, (heap & 0xFF) + (heap >> 8 & 0xFF)
        found.append(released.text[at : at + length].tobytes())
    return found


def restored(arrivals: Arrivals, partitions: int = 2) -> Arrivals:
    again = Arrivals(partitions, LATENESS_MS)
    again.restore(arrivals.save(), lambda history: history)
    assert again.save() == arrivals.save() or partitions != 2
    return again


def test_what_waits_is_released_as_if_nothing_had_happened() -> None:
    arrivals = Arrivals(2, LATENESS_MS)
    first = packet(0, 0, (0, 0), (9, 4), 1, 5, 5, 8)
    first.via = (1,)
    first.histories = [(2, np.arange(5))]
    arrivals.push(first)
    arrivals.push(packet(1, 0, (0, 1 << ROW_BITS), (6, (1 << ROW_BITS) + 1), 4))
    early = Packet(-1, -1, ANY_PLACE, ANY_PLACE, *no_rows(), sender=0, finished=((1, 7),))
    arrivals.push(early)
    late = Packet(-1, -1, ANY_PLACE, ANY_PLACE, *rows(0, 5), sender=1, finished=((0, 0),))
    both = [arrivals, restored(arrivals)]
    assert [one.frontier() for one in both] == [(0, 0)] * 2
    for one in both:
        assert one.release() is None
        one.push(late)
    both.append(restored(both[1]))
    said = [one.release() for one in both]
    assert strings(said[0]) == [b"customer 1", b"customer 4", b"customer 5", b"customer 5m", b"customer 5mm"]
    for other in said[1:]:
        assert other is not None
        assert said[0] is not None
        assert strings(other) == strings(said[0])
        assert np.array_equal(other.records[:, : record.HEAP], said[0].records[:, : record.HEAP])
        assert other.finished == said[0].finished == ((1, 0),)
        assert [(at, of.tolist()) for at, of in other.histories] == [
            (at, of.tolist()) for at, of in said[0].histories
        ]
        assert len(other.histories) == 1
    both = [*both, restored(both[0])]
    for one in both:  # the report of sender 0 came before the batch: nobody waits for it
        next_one = Packet(1, 7, (6, (1 << ROW_BITS) + 1), (CLOCK_END, 0), *no_rows(), via=(0,))
        one.push(next_one)
        one.push(Packet(0, 1, (9, 4), (CLOCK_END, 0), *no_rows()))
        assert one.frontier() == (CLOCK_END, 0)
        assert strings(one.release()) == [b"customer 8mmm"]
        assert one.ended
        assert one.watermark_ms() == 10


def test_only_the_strings_of_what_waits_are_kept() -> None:
    arrivals = Arrivals(1, LATENESS_MS)
    arrivals.push(packet(0, 0, (0, 0), (9, 3), 1, 2, 8, text=b"long" * 1_000))
    arrivals._next[0] = (3, 3)
    assert strings(arrivals.release()) == [b"customer 1", b"customer 2m"]
    assert len(arrivals.save()) < 300
    again = restored(arrivals, partitions=1)
    assert [len(packet.records) for packet in again._waiting] == [1]


def test_partitions_may_be_added() -> None:
    arrivals = Arrivals(1, LATENESS_MS)
    arrivals.push(packet(0, 0, (0, 0), (9, 1), 4))
    again = restored(arrivals, partitions=3)
    assert again.frontier() == (-1, 1 << ROW_BITS)
    assert again.release() is None
    for partition in (1, 2):
        again.push(packet(partition, 0, (-1, partition << ROW_BITS), (7, partition << ROW_BITS)))
    assert strings(again.release()) == [b"customer 4"]
