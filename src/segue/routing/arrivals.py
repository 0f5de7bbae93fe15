"""The order of arrival: rows of several partitions merged by (clock of their partition, partition, row).

The order is a property of the input: it depends neither on where batches end, nor on how many workers there are, nor on
who was faster. A row is released once no row that may still come could stand before it. Rows that pass an
anonymous shard first are waited for; their batch's start is as far as the known shard may go meanwhile.

Not merged (live input from a broker) a row waits for its own partition only: one that lags must not delay the others.
It is released once no row of its partition that may still come could stand before it; what is released together stands
in the same order as above.

The watermark is what the order says about time: the least clock that a row to come can have. Timers due more than the
lateness before it are due for good. At the end nothing can come any more, and all that is due by the final clock is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import numpy as np
import numpy.typing as npt

from segue.routing.packet import CLOCK_END, ROW_BITS, Packet, Place
from segue_kernels.record import CLOCK, HEAP, RECORD_WORDS, SEQUENCE, STRINGS
from segue_kernels.route import no_rows

Words = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


@dataclass(slots=True)
class Released:
    """Rows in order of arrival, with their strings; histories by index of the identify record.

    finished   (partition, batch) of which every row is now released
    """

    records: Words
    text: Bytes
    histories: list[tuple[int, Words]] = field(default_factory=list)
    finished: tuple[tuple[int, int], ...] = ()


class Arrivals:
    """The merge in front of one shard.

    lateness_ms  how far an event may be behind the clock at its row
    merged       rows wait for the clocks of all partitions, not only of their own
    """

    def __init__(self, partitions: int, lateness_ms: int, merged: bool = True) -> None:
        self._lateness_ms = lateness_ms
        self._merged = merged
        self._final_clock_ms = -1  # the greatest last clock of the partitions that have ended
        self._next: list[Place] = [(-1, p << ROW_BITS) for p in range(partitions)]
        self._waiting: list[Packet] = []
        self._unfinished: list[Packet] = []  # packets with rows, until every row of theirs is released
        self._awaited: dict[tuple[int, int, int], Place] = {}  # (sender, partition, batch) -> its start
        self._early: set[tuple[int, int, int]] = set()  # reports that came before the batch itself
        self._until: Place | None = None

    def push(self, packet: Packet) -> None:
        """Take a packet in; packets of one partition come in order."""
        if packet.sender < 0:
            self._next[packet.partition] = packet.end
            if packet.end[0] >= CLOCK_END:
                self._final_clock_ms = max(self._final_clock_ms, packet.start[0])
            for sender in packet.via:
                key = (sender, packet.partition, packet.batch)
                if key in self._early:
                    self._early.discard(key)
                else:
                    self._awaited[key] = packet.start
        for partition, batch in packet.finished:
            key = (packet.sender, partition, batch)
            if key in self._awaited:
                del self._awaited[key]
            else:
                self._early.add(key)
        if len(packet.records):
            self._waiting.append(packet)
            if packet.sender < 0 and not packet.heard:
                self._unfinished.append(packet)

    def frontier(self) -> Place:
        """No row that may still come stands before this place."""
        return min([*self._next, *self._awaited.values()])

    def _frontiers(self) -> list[Place]:
        """For each partition: its rows that stand before this place may go."""
        if self._merged:
            return [self.frontier()] * len(self._next)
        frontiers = self._next.copy()
        for (_, partition, _), start in self._awaited.items():
            frontiers[partition] = min(frontiers[partition], start)
        return frontiers

    @property
    def ended(self) -> bool:
        """Whether nothing more can come."""
        return not self._waiting and self.frontier()[0] >= CLOCK_END

    def watermark_clock(self) -> int:
        """The least clock that a row can have which was not released; right after `release`, one that is to come.

        When all has ended it stands beyond the final clock by the lateness: a timer due at the final clock is
        due for good.
        """
        clock_ms = self.frontier()[0] if self._until is None else self._until[0]
        return clock_ms if clock_ms < CLOCK_END else self._final_clock_ms + 1 + self._lateness_ms

    def watermark_ms(self) -> int:
        """Timers due before this are due for good: no event that may still come is older."""
        return self.watermark_clock() - self._lateness_ms

    @property
    def has_more(self) -> bool:
        """Whether the last release came to `until` only: the next one follows at once."""
        return self._until is not None

    def release(self, singly: bool = False) -> Released | None:
        """The rows that may go, in order; None if there are none and no batch was finished.

        singly  one batch's rows after the other, where they do not overlap: what is released together, and how far the
                watermark comes behind it, does not depend on how much has arrived
        """
        self._until = None
        if not self._waiting and not self._unfinished:
            return None
        frontiers = self._frontiers()
        if singly and self._merged and len(self._waiting) > 1:
            self._until = self._end_of_first(frontiers[0])
            if self._until is not None:
                frontiers = [self._until] * len(frontiers)
        done = [packet for packet in self._unfinished if packet.end <= frontiers[packet.partition]]
        if done:
            self._unfinished = [
                packet for packet in self._unfinished if packet.end > frontiers[packet.partition]
            ]
        finished = tuple((packet.partition, packet.batch) for packet in done)
        waiting = self._waiting
        if not waiting:
            return _nothing(finished)
        alone = len(waiting) == 1 or (self.has_more and all(packet.sender < 0 for packet in waiting))
        if alone and _all_before(waiting[0], frontiers):
            packet = waiting.pop(0)
            return Released(packet.records, packet.text, packet.histories, finished)
        parts: list[Packet] = []
        masks: list[npt.NDArray[np.bool_] | None] = []  # None = all rows
        kept: list[Packet] = []
        for packet in waiting:
            if _all_before(packet, frontiers):
                parts.append(packet)
                masks.append(None)
                continue
            ready = _before(packet.records, frontiers)
            count = int(np.count_nonzero(ready))
            if count == 0:
                kept.append(packet)
                continue
            parts.append(packet)
            masks.append(ready)
            if count < len(ready):
                kept.append(_rest(packet, ~ready))
        self._waiting = kept
        if not parts:
            return _nothing(finished)
        return _merge(parts, masks, finished)

    def _end_of_first(self, frontier: Place) -> Place | None:
        """Where the first batch that waits ends, if it may go as a whole and others wait behind it, not beside it."""
        batches = [packet for packet in self._waiting if packet.sender < 0]
        if len(batches) < 2 or batches[0].end > frontier:
            return None
        first, *others = batches
        return first.end if all(first.end <= other.start for other in others) else None

    # --- out of memory and back ---------------------------------------------------------------------------

    def save(self) -> bytes:
        """All that has arrived and is not done with: rows with their own strings only."""
        unfinished = [(packet.partition, packet.batch, packet.end) for packet in self._unfinished]
        waiting = []
        for packet in self._waiting:
            records, text = _with_own_text(packet.records, packet.text)
            histories = [(at, history.tobytes()) for at, history in packet.histories]
            place = (packet.partition, packet.batch, packet.start, packet.end, packet.sender)
            waiting.append((*place, records.tobytes(), text.tobytes(), histories))
        saved = _Saved(
            self._final_clock_ms,
            self._next,
            waiting,
            unfinished,
            list(self._awaited.items()),
            sorted(self._early),
        )
        return msgspec.msgpack.encode(saved)

    def restore(self, saved: bytes, carry_history: Callable[[Words], Words]) -> None:
        """Put a merge to which nothing was pushed into the state that was saved; partitions may have been added.

        carry_history  of the shard behind it, which was restored before (ShardState.carry_history)
        """
        known = msgspec.msgpack.decode(saved, type=_Saved)
        self._final_clock_ms = known.final_clock_ms
        self._next[: len(known.next)] = known.next
        for partition, batch, start, end, sender, words, text, histories in known.waiting:
            self._waiting.append(
                Packet(
                    partition,
                    batch,
                    start,
                    end,
                    np.frombuffer(bytearray(words), np.int64).reshape(-1, RECORD_WORDS),
                    np.frombuffer(bytearray(text), np.uint8),
                    sender=sender,
                    histories=[
                        (at, carry_history(np.frombuffer(bytearray(of), np.int64))) for at, of in histories
                    ],
                )
            )
        none, no_text = no_rows()
        self._unfinished = [
            Packet(partition, batch, end, end, none, no_text) for partition, batch, end in known.unfinished
        ]
        self._awaited = dict(known.awaited)
        self._early = set(known.early)


class _Saved(msgspec.Struct, frozen=True, array_like=True):
    """What Arrivals keeps. waiting: partition, batch, start, end, sender, records, text, histories."""

    final_clock_ms: int
    next: list[Place]
    waiting: list[tuple[int, int, Place, Place, int, bytes, bytes, list[tuple[int, bytes]]]]
    unfinished: list[tuple[int, int, Place]]
    awaited: list[tuple[tuple[int, int, int], Place]]
    early: list[tuple[int, int, int]]


def _with_own_text(records: Words, text: Bytes) -> tuple[Words, Bytes]:
    """The rows, and of the text only their strings: one row's behind the other's."""
    heap = records[:, HEAP]
    length = np.zeros(len(records), np.int64)
    for string in range(STRINGS):
        length += (heap >> (8 * string)) & 0xFF
    end = np.cumsum(length)
    start = end - length
    at = np.arange(int(length.sum())) + np.repeat((heap >> 32) - start, length)
    moved = records.copy()
    moved[:, HEAP] = (start << 32) | (heap & 0xFFFFFFFF)
    return moved, text[at]


def _all_before(packet: Packet, frontiers: list[Place]) -> bool:
    """Whether its place alone says that all rows of the packet may go; of one that was passed on it says nothing."""
    return packet.sender < 0 and packet.end <= frontiers[packet.partition]


def _before(records: Words, frontiers: list[Place]) -> npt.NDArray[np.bool_]:
    """Which rows stand before the frontier of their partition."""
    limits = np.array(frontiers, np.int64)[records[:, SEQUENCE] >> ROW_BITS]
    clock, sequence = records[:, CLOCK], records[:, SEQUENCE]
    before: npt.NDArray[np.bool_] = (clock < limits[:, 0]) | (
        (clock == limits[:, 0]) & (sequence < limits[:, 1])
    )
    return before


def _nothing(finished: tuple[tuple[int, int], ...]) -> Released | None:
    if not finished:
        return None
    records, text = no_rows()
    return Released(records, text, finished=finished)


def _rest(packet: Packet, mask: npt.NDArray[np.bool_]) -> Packet:
    index_of = np.cumsum(mask) - 1
    histories = [(int(index_of[at]), history) for at, history in packet.histories if mask[at]]
    return Packet(
        packet.partition,
        packet.batch,
        packet.start,
        packet.end,
        packet.records[mask],
        packet.text,
        sender=packet.sender,
        histories=histories,
    )


def _merge(
    parts: list[Packet], masks: list[npt.NDArray[np.bool_] | None], finished: tuple[tuple[int, int], ...]
) -> Released:
    histories: list[tuple[int, Words]] = []
    chosen = [
        packet.records if mask is None else packet.records[mask]
        for packet, mask in zip(parts, masks, strict=True)
    ]
    merged = np.concatenate(chosen)
    text_at = 0
    row_at = 0
    for packet, rows, mask in zip(parts, chosen, masks, strict=True):
        merged[row_at : row_at + len(rows), HEAP] += text_at << 32
        if packet.histories:
            index_of = np.arange(len(rows)) if mask is None else np.where(mask, np.cumsum(mask) - 1, -1)
            histories += [(row_at + int(index_of[at]), h) for at, h in packet.histories if index_of[at] >= 0]
        text_at += len(packet.text)
        row_at += len(rows)
    order = np.lexsort((merged[:, SEQUENCE], merged[:, CLOCK]))  # stable: lines stay behind their header
    if histories:
        place_of = np.empty(len(order), np.int64)
        place_of[order] = np.arange(len(order))
        histories = sorted((int(place_of[at]), h) for at, h in histories)
    text = np.concatenate([packet.text for packet in parts])
    return Released(merged[order], text, histories, finished)
