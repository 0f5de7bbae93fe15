"""The order of arrival is a sort by (clock, partition, row), whatever the batches and whoever is faster."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segue.routing.arrivals import Arrivals, Released
from segue.routing.packet import ANY_PLACE, CLOCK_END, ROW_BITS, Packet, Place
from segue_kernels import record
from segue_kernels.route import no_rows
from tests.kernels.drivers import Bytes, Words, quick

SENDERS = 2
LATENESS_MS = 3
# of each event: how far the clock moves, lines, and which way it comes (-1 straight, else an anonymous shard)
PARTITION = st.lists(
    st.tuples(
        st.sampled_from((0, 0, 1, 5)), st.integers(0, 2), st.sampled_from((-1, -1, 0, 1)), st.booleans()
    ),
    max_size=14,
)
Partition = list[tuple[int, int, int, bool]]


@dataclass
class Rows:
    """Rows of one packet while it is put together."""

    records: list[Words] = field(default_factory=list)
    text: bytes = b""
    histories: list[tuple[int, Words]] = field(default_factory=list)

    def packed(self) -> tuple[Words, Bytes]:
        if not self.records:
            return no_rows()
        return np.array(self.records), np.frombuffer(self.text, np.uint8)


def make_rows(partition: int, row: int, clock: int, lines: int) -> list[tuple[Words, bytes]]:
    """An event's records: their number is in STORE, their string says which they are."""
    made = []
    for n in range(lines + 1):
        words = np.zeros(record.RECORD_WORDS, np.int64)
        words[record.CLOCK] = clock
        words[record.SEQUENCE] = partition << ROW_BITS | row
        words[record.STORE] = n
        made.append((words, b"%d/%d/%d" % (partition, row, n)))
    return made


def add(rows: Rows, of: list[tuple[Words, bytes]]) -> None:
    for words, name in of:
        words = words.copy()
        words[record.HEAP] = len(rows.text) << 32 | len(name)
        rows.text += name
        rows.records.append(words)


@dataclass
class Way:
    """A world of partitions, anonymous shards that pass rows on, and the merge in front of one known shard."""

    sources: list[deque[tuple[Packet, dict[int, Rows]]]]
    expected: list[tuple[int, int, int, bytes]] = field(default_factory=list)
    histories: dict[bytes, int] = field(default_factory=dict)
    with_rows: Counter[tuple[int, int]] = field(default_factory=Counter)
    batches: dict[tuple[int, int], set[int]] = field(default_factory=dict)  # the sequences in them
    final_clock: int = -1


def build(partitions: list[Partition], data: st.DataObject) -> Way:
    way = Way([])
    for p, events in enumerate(partitions):
        queue: deque[tuple[Packet, dict[int, Rows]]] = deque()
        clock, row, batch = -1, 0, 0
        left = deque(events)
        while left:
            start: Place = (clock, p << ROW_BITS | row)
            straight, passed = Rows(), {}
            for _ in range(data.draw(st.sampled_from((1, 2, 5)))):
                if not left:
                    break
                later, lines, via, history = left.popleft()
                clock = max(clock, 0) + later
                made = make_rows(p, row, clock, lines)
                way.expected += [(clock, p << ROW_BITS | row, n, name) for n, (_, name) in enumerate(made)]
                rows = straight if via < 0 else passed.setdefault(via, Rows())
                if history and via >= 0:
                    rows.histories.append((len(rows.records), np.array([p, row], np.int64)))
                    way.histories[made[0][1]] = 1
                add(rows, made)
                row += 1
            records, text = straight.packed()
            end: Place = (clock, p << ROW_BITS | row)
            packet = Packet(p, batch, start, end, records, text, tuple(sorted(passed)))
            way.with_rows[p, batch] += len(records) > 0
            way.batches[p, batch] = set(range(start[1], end[1]))
            queue.append((packet, passed))
            batch += 1
            if data.draw(st.booleans()):  # the wall clock moves the partition's
                clock += 2
                nothing, none = no_rows()
                queue.append((Packet(p, batch, end, (clock, end[1]), nothing, none), {}))
                batch += 1
        place: Place = (clock, p << ROW_BITS | row)
        records, text = no_rows()
        queue.append((Packet(p, batch, place, (CLOCK_END, place[1]), records, text), {}))
        way.sources.append(queue)
        way.final_clock = max(way.final_clock, clock)
    way.expected.sort()
    return way


def deliver(way: Way, partitions: int, data: st.DataObject, merged: bool = True) -> list[Released]:
    """Hand everything over in some order that keeps each sender's own; release after some of it.

    The watermark never goes back, and no row comes after it that is older. Not merged, every row goes as soon as its
    own partition has come so far and the anonymous shards have passed on what stands before it.
    """
    watermark = -1
    arrivals = Arrivals(partitions, LATENESS_MS, merged)
    come: list[Place] = [(-1, p << ROW_BITS) for p in range(partitions)]
    awaited: dict[tuple[int, int, int], Place] = {}
    early: set[tuple[int, int, int]] = set()
    here: list[tuple[int, int]] = []  # places of rows handed over
    mailboxes: list[deque[Packet]] = [deque() for _ in range(SENDERS)]
    found: list[Released] = []
    held: list[list[tuple[Packet, dict[int, Rows]]]] = [[] for _ in range(SENDERS)]
    while any(way.sources) or any(mailboxes) or any(held):
        choices = [("source", n) for n, queue in enumerate(way.sources) if queue]
        choices += [("shard", n) for n, boxes in enumerate(held) if boxes]
        choices += [("mail", n) for n, box in enumerate(mailboxes) if box]
        what, n = data.draw(st.sampled_from(choices))
        if what == "source":
            packet, passed = way.sources[n].popleft()
            for sender in passed:
                held[sender].append((packet, passed))
            # the straight packet may come after what the anonymous shard passes on
            arrivals.push(packet)
            come[n] = packet.end
            here += _places(packet.records)
            for sender in packet.via:
                awaited[sender, n, packet.batch] = packet.start
        elif what == "shard":
            taken, held[n] = held[n], []
            rows = Rows()
            for _, passed in taken:
                of = passed[n]
                rows.histories += [(at + len(rows.records), history) for at, history in of.histories]
                for words in of.records:
                    at, length = int(words[record.HEAP]) >> 32, int(words[record.HEAP]) & 0xFF
                    add(rows, [(words, of.text[at : at + length])])
            order = sorted(
                range(len(rows.records)),
                key=lambda i: (int(rows.records[i][record.CLOCK]), int(rows.records[i][record.SEQUENCE])),
            )
            place_of = {at: i for i, at in enumerate(order)}
            rows.records = [rows.records[i] for i in order]
            rows.histories = [(place_of[at], history) for at, history in rows.histories]
            records, text = rows.packed()
            finished = tuple((packet.partition, packet.batch) for packet, _ in taken)
            mailboxes[n].append(
                Packet(-1, -1, ANY_PLACE, ANY_PLACE, records, text, (), n, finished, rows.histories)
            )
        else:
            packet = mailboxes[n].popleft()
            arrivals.push(packet)
            here += _places(packet.records)
            for of in packet.finished:
                early.add((n, *of))
        if data.draw(st.booleans()):
            _take(arrivals, found, watermark)
            if not merged:
                waits = [start for of, start in awaited.items() if of not in early]
                bounds = [
                    min([come[p], *(start for start in waits if start[1] >> ROW_BITS == p)])
                    for p in range(partitions)
                ]
                ready = [place for place in here if place < bounds[place[1] >> ROW_BITS]]
                assert sorted(ready) == sorted(place for part in found for place in _places(part.records))
            assert arrivals.watermark_clock() >= watermark
            watermark = arrivals.watermark_clock()
    _take(arrivals, found, watermark)
    assert arrivals.ended
    assert arrivals.watermark_clock() == way.final_clock + 1 + LATENESS_MS
    assert arrivals.watermark_ms() == way.final_clock + 1
    return found


def _places(records: Words) -> list[tuple[int, int]]:
    return [(words[record.CLOCK], words[record.SEQUENCE]) for words in records.tolist()]


def _take(arrivals: Arrivals, found: list[Released], watermark: int) -> None:
    part = arrivals.release()
    if part is not None:
        assert (part.records[:, record.CLOCK] >= watermark).all()
        found.append(part)
        assert arrivals.release() is None  # nothing twice


@quick(150)
@given(st.lists(PARTITION, min_size=1, max_size=3), st.data())
def test_rows_are_merged_in_one_order(partitions: list[Partition], data: st.DataObject) -> None:
    way = build(partitions, data)
    assert _found(way, deliver(way, len(partitions), data)) == way.expected


@quick(150)
@given(st.lists(PARTITION, min_size=1, max_size=3), st.data())
def test_unmerged_a_row_waits_for_its_own_partition(partitions: list[Partition], data: st.DataObject) -> None:
    way = build(partitions, data)
    parts = deliver(way, len(partitions), data, merged=False)
    for part in parts:
        assert _places(part.records) == sorted(_places(part.records))
    found = _found(way, parts)
    for p in range(len(partitions)):
        of_partition = [row for row in way.expected if row[1] >> ROW_BITS == p]
        assert [row for row in found if row[1] >> ROW_BITS == p] == of_partition


def _found(way: Way, parts: list[Released]) -> list[tuple[int, int, int, bytes]]:
    """All rows as they were released; with their own strings and histories, and every batch reported once."""
    histories, with_rows = way.histories, way.with_rows
    found, seen, reported = [], {}, Counter[tuple[int, int]]()
    for part in parts:
        names = []
        for words in part.records.tolist():
            at, length = words[record.HEAP] >> 32, words[record.HEAP] & 0xFF
            names.append(part.text[at : at + length].tobytes())
            found.append((words[record.CLOCK], words[record.SEQUENCE], words[record.STORE], names[-1]))
        for at, history in part.histories:
            partition, row = history.tolist()
            assert names[at] == b"%d/%d/0" % (partition, row)  # at its identify, still
            seen[names[at]] = 1
        reported.update(part.finished)
        out = {sequence for _, sequence, _, _ in found}
        for of in part.finished:
            assert way.batches[of] <= out  # also the rows that came by an anonymous shard
    assert seen == histories
    assert reported == Counter({of: 1 for of, n in with_rows.items() if n})
    return found


def test_a_finished_batch_has_all_its_rows_out() -> None:
    arrivals = Arrivals(2, LATENESS_MS)
    records = np.array([words for row in range(3) for words, _ in make_rows(0, row, 10 * row, 0)])
    first = Packet(0, 0, (-1, 0), (20, 3), records, np.zeros(0, np.uint8))
    arrivals.push(first)
    assert arrivals.release() is None  # the other partition may still be earlier
    nothing, text = no_rows()
    other = 1 << ROW_BITS
    arrivals.push(Packet(1, 0, (-1, other), (10, other), nothing, text))
    part = arrivals.release()
    assert part is not None
    assert part.records[:, record.CLOCK].tolist() == [0, 10]
    assert part.finished == ()
    arrivals.push(Packet(1, 1, (10, other), (CLOCK_END, other), nothing, text))
    part = arrivals.release()
    assert part is not None
    assert part.records[:, record.CLOCK].tolist() == [20]
    assert part.finished == ((0, 0),)
    assert not arrivals.ended


def test_unmerged_a_partition_that_lags_delays_no_other() -> None:
    arrivals = Arrivals(2, LATENESS_MS, merged=False)
    records = np.array([words for row in range(3) for words, _ in make_rows(0, row, 10 * row, 0)])
    arrivals.push(Packet(0, 0, (-1, 0), (20, 3), records, np.zeros(0, np.uint8)))
    part = arrivals.release()
    assert part is not None
    assert part.records[:, record.CLOCK].tolist() == [0, 10, 20]
    assert part.finished == ((0, 0),)
    assert arrivals.watermark_clock() == -1  # but time has not come so far: no timer is due


def test_a_report_may_come_before_its_batch() -> None:
    """Anonymous shards may be faster than the straight way."""
    arrivals = Arrivals(1, LATENESS_MS)
    nothing, text = no_rows()
    passed = np.array([make_rows(0, 1, 5, 0)[0][0]])
    report = Packet(-1, -1, ANY_PLACE, ANY_PLACE, passed, np.zeros(9, np.uint8), (), 1, ((0, 0),))
    arrivals.push(report)
    assert arrivals.release() is None
    straight = np.array([make_rows(0, row, 5, 0)[0][0] for row in (0, 2)])
    arrivals.push(Packet(0, 0, (-1, 0), (5, 3), straight, np.zeros(9, np.uint8), (1,)))
    part = arrivals.release()
    assert part is not None
    assert part.records[:, record.SEQUENCE].tolist() == [0, 1, 2]
    assert nothing.shape == (0, record.RECORD_WORDS)
    assert len(text) == 0


def test_the_watermark_waits_for_the_anonymous_shards() -> None:
    """What an identify brings along may have to come before what is due."""
    arrivals = Arrivals(1, LATENESS_MS)
    nothing, text = no_rows()
    arrivals.push(Packet(0, 0, (-1, 0), (5, 2), nothing, text))
    assert arrivals.watermark_clock() == 5
    arrivals.push(Packet(0, 1, (5, 2), (9, 4), nothing, text, (1,)))
    arrivals.push(Packet(0, 2, (9, 4), (CLOCK_END, 4), nothing, text))
    assert arrivals.watermark_ms() == 5 - LATENESS_MS
    arrivals.push(Packet(-1, -1, ANY_PLACE, ANY_PLACE, nothing, text, (), 1, ((0, 1),)))
    assert arrivals.watermark_ms() == 9 + 1


def test_the_slowest_partition_holds_the_watermark_until_it_ends() -> None:
    arrivals = Arrivals(2, LATENESS_MS)
    nothing, text = no_rows()
    other = 1 << ROW_BITS
    arrivals.push(Packet(0, 0, (-1, 0), (70, 0), nothing, text))
    assert arrivals.watermark_clock() == -1
    arrivals.push(Packet(1, 0, (-1, other), (20, other), nothing, text))
    assert arrivals.watermark_clock() == 20
    arrivals.push(Packet(1, 1, (20, other), (CLOCK_END, other), nothing, text))
    assert arrivals.watermark_clock() == 70
    arrivals.push(Packet(0, 1, (70, 0), (CLOCK_END, 0), nothing, text))
    assert arrivals.watermark_ms() == 71
