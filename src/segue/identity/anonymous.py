"""Anonymous customers of one shard of identifiers: decided here until an identify or alias says who they are.

From then on their events go to the known customer's shard, and the identify takes their history along.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segue.decide.bench import Bench, Turn, records_of_event
from segue.decide.decisions import Decisions
from segue.decide.engine import ShardEngine
from segue.events.names import ERASURE
from segue.limits import IDENTIFIER_BYTES_MAX
from segue.policy.compiled import CompiledPolicies
from segue.reference.world import ReferenceWorld
from segue.routing.arrivals import Arrivals, Released
from segue.routing.packet import ANY_PLACE, Packet, scatter_rows
from segue.state.delta import ShardDelta, read_rest
from segue.state.shard import EngineSettings
from segue_kernels.erase import hear_erasure
from segue_kernels.receipt import ANONYMOUS_PART
from segue_kernels.record import (
    CLOCK,
    FLAG_IS_LINE,
    FLAG_KIND,
    HEAP,
    KIND_ANONYMOUS,
    PACK,
    STRING_CUSTOMER,
    STRINGS,
)
from segue_kernels.redirect import GOES, STAYS, leave_redirect, resolve
from segue_kernels.row import CLOCK as ROW_CLOCK
from segue_kernels.shard import STOP_END

Words = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

_ARRIVALS = "arrivals"  # in Rest.more
_TYPE_AND_LINE = 0xFF | FLAG_IS_LINE << 8  # of PACK
_LENGTHS = 0xFFFFFFFF  # of HEAP: of a row's strings
_NO_TEXT = np.zeros(0, np.uint8)
_NO_ROWS = np.zeros(0, np.int64)


@dataclass(slots=True)
class Taken:
    """Rows that were released: `stays` is for anonymous customers; `records` belong to known ones.

    names, name_at  of the known customers whom events without a name of theirs belong to: offset << 8 | length, or -1
    history_of      the row whose history an identify takes along, or -1
    finished        as in Packet
    """

    stays: Turn | None
    records: Words
    text: Bytes
    names: Bytes
    name_at: Words
    history_of: Words
    finished: tuple[tuple[int, int], ...]


class AnonymousShard:
    """State of the anonymous customers whose identifiers fall into one shard, and where the others' events go."""

    def __init__(
        self,
        shard: int,
        policies: CompiledPolicies,
        settings: EngineSettings,
        partitions: int,
        world: ReferenceWorld | None = None,
        merged: bool = True,
        bench: Bench | None = None,
    ) -> None:
        self.shard = shard
        self.shards = settings.shards
        self.engine = ShardEngine(policies, settings, world, merged, shard + ANONYMOUS_PART, bench)
        self.arrivals = Arrivals(partitions, settings.lateness_ms, merged)
        self._words = self.engine.state.words

    def process(self) -> tuple[list[Decisions], list[tuple[int, Packet]]]:
        """Decide what has arrived; (shard, packet) for what is passed on to known customers.

        Timers that the watermark has passed are fired afterwards, by `engine.advance`: never before the histories of
        these rows are taken, for a timer later than an identify belongs to the known customer.
        """
        decided: list[Decisions] = []
        passed: list[tuple[int, Packet]] = []
        more = True
        while more:
            taken = self.take(decided, passed)
            if taken is not None:
                if taken.stays is not None:
                    decided += self.engine.bench.process([taken.stays])
                passed += self.pass_on(taken, decided)
            more = self.arrivals.has_more
        return decided, passed

    def take(self, decided: list[Decisions], passed: list[tuple[int, Packet]]) -> Taken | None:
        """Release what has arrived and may go: what is left to do with it, for `process` in two steps. None = nothing.

        Each call of `take` is followed by deciding what stays, and then by `pass_on`.
        """
        released = self.arrivals.release(singly=True)
        if released is None:
            return None
        released = self.engine.hear(released)
        records, text = released.records, released.text
        erasures = np.flatnonzero(records[:, PACK] & _TYPE_AND_LINE == ERASURE).tolist()
        start = 0
        for at in erasures:  # what came before one has been decided and passed on when it counts
            taken = self._split(records[start:at], text, ())
            if taken.stays is not None:
                decided += self.engine.bench.process([taken.stays])
            passed += self.pass_on(taken, decided)
            start = at + records_of_event(records, at)
            self._erase(records[at:start], text, decided)
        return self._split(records[start:], text, released.finished)

    def _split(self, records: Words, text: Bytes, finished: tuple[tuple[int, int], ...]) -> Taken:
        """Some rows, by whether they stay or belong to known customers."""
        if not len(records):
            return Taken(None, records, text, _NO_TEXT, _NO_ROWS, _NO_ROWS, finished)
        records = records.copy()
        goes, history_of, names, name_at = self._resolve(records, text)
        stays, going = goes == STAYS, goes == GOES
        turn = self.engine.turn(Released(records[stays], text)) if stays.any() else None
        return Taken(turn, records[going], text, names, name_at[going], history_of[going], finished)

    def _erase(self, records: Words, text: Bytes, decided: list[Decisions]) -> None:
        """An erasure: of an anonymous identifier's own row, or of a known customer's name in any row. An identifier
        that comes without strings is another shard's: only the tables of this process had to hear of it."""
        if (records[0, PACK] >> 8) & FLAG_KIND == KIND_ANONYMOUS:
            if not records[0, HEAP] & _LENGTHS:
                return
            decided += self.engine.decide(Released(records, text))
            return
        while True:
            stop = hear_erasure(self.engine.state.arrays, records, 0, _NO_TEXT, self._words)
            if stop == STOP_END:
                return
            self.engine.make_room(stop)

    def advance(self, timers_max: int) -> tuple[list[Decisions], bool]:
        """Fire what is due by now, `timers_max` timers at most; whether that was all. Call it after `process`: a
        history that was passed on took its timers along."""
        return self.engine.advance(self.arrivals.watermark_ms(), timers_max)

    def _resolve(self, records: Words, text: Bytes) -> tuple[npt.NDArray[np.uint8], Words, Bytes, Words]:
        n = len(records)
        row_of = np.empty(n, np.int64)
        goes = np.empty(n, np.uint8)
        history_of = np.empty(n, np.int64)
        names = np.empty(n * IDENTIFIER_BYTES_MAX, np.uint8)  # touched only as far as it is used
        name_at = np.empty(n, np.int64)
        position = used = 0
        while True:
            position, stop, used = resolve(
                self.engine.state.arrays,
                records,
                text,
                row_of,
                goes,
                history_of,
                names,
                name_at,
                position,
                used,
                self._words,
            )
            if stop == STOP_END:
                return goes, history_of, names[:used], name_at
            self.engine.make_room(stop)

    def pass_on(self, taken: Taken, decided: list[Decisions]) -> list[tuple[int, Packet]]:
        """What belongs to known customers, once what stays has been decided."""
        records, text, names, name_at = taken.records, taken.text, taken.names, taken.name_at
        if not len(records) and not taken.finished:
            return []
        spans = _spans(records)
        renamed = name_at >= 0
        spans[renamed, STRING_CUSTOMER] = name_at[renamed] + (len(text) << 8)
        histories = {}
        for at in np.flatnonzero(taken.history_of >= 0).tolist():
            limit = int(records[at, CLOCK]) - self.engine.state.lateness_ms
            history = self._take_history(int(taken.history_of[at]), limit, decided)
            if history is not None:
                histories[at] = history
        routed = scatter_rows(records, spans, np.concatenate([text, names]), self.shards, resolved=True)
        packets = []
        for shard in range(self.shards):
            packet = Packet(
                -1,
                -1,
                ANY_PLACE,
                ANY_PLACE,
                routed.records[shard],
                routed.texts[shard],
                sender=self.shard,
                finished=taken.finished,
            )
            packets.append((shard, packet))
        for at, history in histories.items():
            packet = packets[int(routed.destination[at])][1]
            index = int(np.count_nonzero(routed.destination[:at] == routed.destination[at]))
            packet.histories.append((index, history))
        return packets

    def _take_history(self, row: int, limit: int, decided: list[Decisions]) -> Words | None:
        """What the row holds, once its timers due before the limit have fired here."""
        state = self.engine.state
        untouched = state.arrays.rows[row * state.row_words + ROW_CLOCK] == 0
        history = None
        if not untouched:
            decided += self.engine.fire_timers_of(row, limit)
            history = state.history(row)
        leave_redirect(state.arrays, state.plan, row, self._words)
        return history

    def save(self, more: Mapping[str, bytes] | None = None, room: Words | None = None) -> ShardDelta:
        """What changed since the last call, what has arrived and was not released, and all else needed to go on."""
        return self.engine.save({**(more or {}), _ARRIVALS: self.arrivals.save()}, room)

    def restore(self, delta: ShardDelta) -> list[str]:
        """Put a shard that has processed nothing into the state that was saved; see ShardState.restore."""
        sentences = self.engine.restore(delta)
        self.arrivals.restore(read_rest(delta).more[_ARRIVALS], self.engine.state.carry_history)
        return sentences


def _spans(records: Words) -> Words:
    """Where each row's strings lie, from HEAP: offset << 8 | length."""
    heap = records[:, HEAP]
    spans = np.empty((len(records), STRINGS), np.int64)
    at = heap >> 32
    for string in range(STRINGS):
        length = (heap >> (8 * string)) & 0xFF
        spans[:, string] = (at << 8) | length
        at = at + length
    return spans
