"""Live reading: what the wall clock may move, and what it may not."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.clock import ManualClock
from segue.events.decode import Decoder
from segue.events.names import CODE_BY_NAME
from segue.limits import AHEAD_MS_MAX, HOUR_MS, LATENESS_MS_DEFAULT, MINUTE_MS, TICK_BEHIND_MS
from segue.routing.arrivals import Arrivals
from segue.routing.packet import CLOCK_END, Packet, SourceBatch, packets
from segue.settings import secret
from segue.sources.files import FilePartition, FilePosition, file_source
from segue.sources.interface import LineChunk, QuietChunk
from segue.sources.pace import Pace
from segue.sources.reader import BatchReader, ReadBatch
from segue_kernels.record import CLOCK, HEAP, PACK, TIME
from tests.kernels.drivers import quick
from tests.sources.scripted import Event, ScriptedPartition, Step, event, live_script, with_outage

START_MS = 1_772_438_400_000  # 2026-03-02T08:00:00Z
_FAR_MS = 253_402_300_799_000


def reader_of(
    steps: list[Step], *, live: bool = True, index: int = 0, pace: Pace | None = None
) -> BatchReader:
    clock = ManualClock(START_MS)
    decoder = Decoder(secret(), "EUR", _FAR_MS if live else START_MS, LATENESS_MS_DEFAULT)
    partition = ScriptedPartition(f"script {index}", steps, clock)
    return BatchReader(
        partition, index, decoder, pace or Pace.create(1, 1, in_flight=1_000), 1_000, clock if live else None
    )


def read_all(reader: BatchReader) -> list[ReadBatch]:
    found = []
    while not reader.ended:
        found.append(reader.read())
    return found


def batches(found: list[ReadBatch]) -> list[SourceBatch]:
    return [batch for read in found for batch in read.batches]


def clocks(found: list[ReadBatch]) -> list[int]:
    """The partition's clock after each batch but the last, after START_MS."""
    return [batch.end[0] - START_MS for batch in batches(found) if batch.end[0] < CLOCK_END]


def quiet(*after_ms: int, confirmed: bool = True) -> list[Step]:
    return [Step(START_MS + at_ms, confirmed=confirmed) for at_ms in after_ms]


def test_a_confirmed_pause_moves_the_clock_once_a_second() -> None:
    first = Step(START_MS, [event(1, "page", START_MS, "u")])
    found = read_all(reader_of([first, *quiet(400, 999, 1_000, 1_400, 1_999, 2_000, 5_500)]))
    assert clocks(found) == [0, 400, 1_400, 5_500]
    ticks = batches(found)[1:-1]
    assert all(batch.decoded is None for batch in ticks)
    for before, after in zip(batches(found), batches(found)[1:], strict=False):
        assert before.end == after.start
        assert before.batch + 1 == after.batch
    assert {batch.end[1] for batch in ticks} == {1}  # the row numbers stand still


def test_an_unconfirmed_pause_moves_nothing() -> None:
    first = Step(START_MS, [event(1, "page", START_MS, "u")])
    found = read_all(reader_of([first, *quiet(MINUTE_MS, HOUR_MS, 9 * HOUR_MS, confirmed=False)]))
    assert clocks(found) == [0]


def test_a_replay_knows_only_event_time() -> None:
    first = Step(START_MS, [event(1, "page", START_MS, "u")])
    assert clocks(read_all(reader_of([first, *quiet(MINUTE_MS, HOUR_MS)], live=False))) == [0]


def test_the_clock_never_goes_back() -> None:
    """The wall clock may."""
    back = Step(START_MS + 2 * MINUTE_MS, [event(1, "page", START_MS + 2 * MINUTE_MS, "u")])
    found = read_all(reader_of([*quiet(HOUR_MS, 50 * MINUTE_MS), *quiet(HOUR_MS + 1_000), back]))
    assert clocks(found) == [HOUR_MS, HOUR_MS + 1_000, HOUR_MS + 1_000]


def test_an_event_a_little_ahead_keeps_its_time_but_moves_nobody_elses() -> None:
    """Late events of the same batch, and the lines of orders, find their times again."""
    ahead_ms = START_MS + AHEAD_MS_MAX
    late_ms = START_MS - LATENESS_MS_DEFAULT - 1
    lines = [{"product_id": "a", "price": 1}]
    events = [
        event(1, "page", START_MS - 5, "u"),
        event(2, "Order Completed", ahead_ms, "u", products=lines),
        event(3, "Order Completed", late_ms, "u", products=lines),
        event(4, "page", START_MS - 7, "v"),
        event(5, "page", ahead_ms - 1, "v"),
    ]
    found = read_all(reader_of([Step(START_MS, events), *quiet(1_000)]))
    batch = batches(found)[0].decoded
    assert batch is not None
    kept_ms = [START_MS - 5, ahead_ms, ahead_ms, START_MS - 7, ahead_ms - 1]
    clock_ms = [START_MS - 5, START_MS, START_MS, START_MS, START_MS]
    assert batch.records[:, TIME].tolist() == kept_ms
    assert batch.records[:, CLOCK].tolist() == clock_ms
    assert [lost.event_time_ms for read in found for lost in read.late] == [late_ms]
    assert clocks(found) == [0, 1_000]
    counts = found[-1].counts
    assert counts is not None
    assert counts.ahead == 0


def test_an_event_older_than_the_confirmed_time_allows_is_late() -> None:
    on_time, late = START_MS + HOUR_MS - LATENESS_MS_DEFAULT, START_MS + HOUR_MS - LATENESS_MS_DEFAULT - 1
    later = Step(START_MS + HOUR_MS, [event(1, "page", on_time, "u"), event(2, "page", late, "u")])
    found = read_all(reader_of([*quiet(HOUR_MS), later]))
    (_, with_rows, _) = batches(found)
    assert with_rows.decoded is not None
    assert with_rows.decoded.records[:, [TIME, CLOCK]].tolist() == [[on_time, START_MS + HOUR_MS]]
    assert [lost.event_time_ms for read in found for lost in read.late] == [late]


def test_an_event_far_ahead_is_set_to_its_arrival_with_its_lines() -> None:
    products = [{"product_id": "a", "price": 1}, {"product_id": "b", "price": 2}]
    limit_ms = START_MS + AHEAD_MS_MAX
    events = [
        event(1, "page", limit_ms, "u"),
        event(2, "Order Completed", limit_ms + 1, "u", products=products),
        event(3, "page", START_MS + 400 * 24 * HOUR_MS, "u"),
    ]
    found = read_all(reader_of([Step(START_MS, events)]))
    (batch, _) = batches(found)
    assert batch.decoded is not None
    assert batch.decoded.records[:, TIME].tolist() == [limit_ms, START_MS, START_MS, START_MS, START_MS]
    counts = found[-1].counts
    assert counts is not None
    assert (counts.ahead, counts.events, counts.dead_letters, counts.late) == (2, 3, 0, 0)


def test_a_replay_refuses_what_is_far_ahead() -> None:
    events = [event(1, "page", START_MS + HOUR_MS, "u"), event(2, "page", START_MS + 400 * 24 * HOUR_MS, "u")]
    found = read_all(reader_of([Step(START_MS, events)], live=False))
    (batch, _) = batches(found)
    assert batch.decoded is not None
    assert batch.decoded.records[:, TIME].tolist() == [START_MS + HOUR_MS]
    assert [len(read.dead) for read in found] == [1, 0]
    counts = found[-1].counts
    assert counts is not None
    assert counts.ahead == 0


# --- several partitions ---------------------------------------------------------------------------------


def test_ticks_come_sooner_where_another_partition_is_further() -> None:
    pace = Pace.create(2, 1, in_flight=1_000)
    reader = reader_of(
        quiet(0, 1, TICK_BEHIND_MS - 1, TICK_BEHIND_MS, 50, 60, 900, 1_000, 1_899, 1_900), pace=pace
    )
    pace.emitted(1, START_MS + 55)
    assert clocks(read_all(reader)) == [0, TICK_BEHIND_MS, 50, 900, 1_900]


@pytest.mark.parametrize("in_flight", [1, 2, 4])
def test_an_idle_partition_holds_nobody_for_longer_than_a_tick(in_flight: int) -> None:
    """Both bounds of the pace hold, and every row of the busy one comes through while the other one is idle."""
    pace = Pace.create(2, 1, in_flight=in_flight)
    busy_steps = [Step(START_MS + n, [event(n, "page", START_MS + n, "u")]) for n in range(0, 4_000, 10)]
    busy = reader_of(busy_steps, pace=pace)
    idle = reader_of([Step(START_MS + n) for n in range(0, 4_100, 5)], index=1, pace=pace)
    arrivals = Arrivals(2, LATENESS_MS_DEFAULT)
    came: list[int] = []
    for _ in range(0, 4_100, 5):
        if not busy.ended and pace.may_read(0):
            push(busy.read(), arrivals, pace)
        assert pace.may_read(1)
        push(idle.read(), arrivals, pace)
        released = arrivals.release()
        came += [] if released is None else released.records[:, TIME].tolist()
    push(idle.read(), arrivals, pace)
    while not busy.ended:
        assert pace.may_read(0)
        push(busy.read(), arrivals, pace)
    released = arrivals.release()
    came += [] if released is None else released.records[:, TIME].tolist()
    assert came == [START_MS + n for n in range(0, 4_000, 10)]
    assert arrivals.ended


def push(read: ReadBatch, arrivals: Arrivals, pace: Pace) -> None:
    for batch in read.batches:
        for destination, packet in packets(batch, 1, 2)[0]:
            if destination == 0:
                arrivals.push(
                    Packet(
                        packet.partition, packet.batch, packet.start, packet.end, packet.records, packet.text
                    )
                )
                pace.taken(0, packet.partition)


# --- pipes ----------------------------------------------------------------------------------------------


def open_pipe(path: Path, clock: ManualClock) -> tuple[FilePartition, int]:
    os.mkfifo(path)
    keeper = os.open(path, os.O_RDWR)
    entries = file_source([path], live=True).files[str(path)]
    return FilePartition(str(path), entries, FilePosition(), clock), keeper


def look(partition: FilePartition) -> LineChunk | QuietChunk | None:
    chunk = partition.read(10, 1 << 20)
    assert chunk is None or isinstance(chunk, LineChunk | QuietChunk)
    return chunk


def test_an_empty_pipe_with_a_writer_is_caught_up(tmp_path: Path) -> None:
    clock = ManualClock(1_000)
    partition, keeper = open_pipe(tmp_path / "pipe", clock)
    assert look(partition) == QuietChunk(1_000)
    os.write(keeper, b'{"id":"1"}\n{"id":')
    assert isinstance(look(partition), LineChunk)
    assert look(partition) == QuietChunk(None)  # a line has begun: something is missing
    clock.set(2_000)
    os.write(keeper, b'"2"}\n')
    assert isinstance(look(partition), LineChunk)
    assert look(partition) == QuietChunk(2_000)
    os.close(keeper)
    assert look(partition) is None
    partition.close()


def test_what_a_compressor_holds_back_nobody_knows(tmp_path: Path) -> None:
    partition, keeper = open_pipe(tmp_path / "pipe.gz", ManualClock(1_000))
    assert look(partition) == QuietChunk(1_000)  # nobody has written anything
    os.write(keeper, gzip.compress(b'{"id":"1"}\n'))
    assert isinstance(look(partition), LineChunk)
    assert look(partition) == QuietChunk(None)
    os.close(keeper)
    assert look(partition) is None
    partition.close()


def test_a_pipe_of_a_replay_confirms_nothing(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    source = file_source([path])
    keeper = os.open(path, os.O_RDWR)
    partition = source.open(str(path))
    assert partition.read(10, 1 << 20) == QuietChunk(None)
    os.close(keeper)
    partition.close()


# --- outages --------------------------------------------------------------------------------------------

WAIT_MS = 30 * MINUTE_MS
ADDED, ORDERED = "Product Added", "Order Completed"


def carts(steps: list[Step]) -> tuple[list[tuple[str, int]], int]:
    """(customer, due time) of the carts that were left for half an hour, by the law of timers (and what stood first
    in a cart counts until it was bought or the mail was sent); late events."""
    reader = reader_of(steps)
    arrivals = Arrivals(1, LATENESS_MS_DEFAULT)
    due: dict[str, int] = {}
    clock_of: dict[str, int] = {}
    fired: list[tuple[str, int]] = []
    late = 0

    def fire(limit_ms: int, customers: list[str]) -> None:
        for customer in customers:
            if due.get(customer, limit_ms) < limit_ms:
                clock_of[customer] = max(clock_of[customer], due[customer])
                fired.append((customer, due.pop(customer) - START_MS))

    while not reader.ended:
        read = reader.read()
        late += len(read.late)
        for batch in read.batches:
            for _, packet in packets(batch, 1, 1)[0][:1]:
                arrivals.push(packet)
        released = arrivals.release()
        if released is not None:
            for words in released.records.tolist():
                at, length = words[HEAP] >> 32, words[HEAP] & 0xFF
                customer = released.text[at : at + length].tobytes().decode()
                fire(words[CLOCK] - LATENESS_MS_DEFAULT, [customer])
                now = clock_of[customer] = max(clock_of.get(customer, 0), words[TIME])
                fire(now, [customer])
                if words[PACK] & 0xFF == CODE_BY_NAME[ADDED]:
                    due.setdefault(customer, words[TIME] + WAIT_MS)
                    fire(now, [customer])
                else:
                    due.pop(customer, None)
        fire(arrivals.watermark_ms(), sorted(due))
    return sorted(fired), late


def shopping(seed_events: list[tuple[int, int, bool, int]]) -> list[tuple[int, Event]]:
    """(arrival, event): who, when, whether he buys, and how long it is on its way."""
    made = []
    at_ms = START_MS
    for number, (pause, customer, buys, delay) in enumerate(seed_events):
        at_ms += pause
        made.append((at_ms + delay, event(number, ORDERED if buys else ADDED, at_ms, f"c{customer}")))
    return sorted(made, key=lambda pair: pair[0])


SHOPPING = st.lists(
    st.tuples(
        st.integers(0, 25 * MINUTE_MS),
        st.integers(0, 5),
        st.booleans(),
        st.sampled_from((0, 0, 500, 40_000)),
    ),
    min_size=1,
    max_size=40,
)


@quick(60)
@given(SHOPPING, st.integers(0, 4 * HOUR_MS))
def test_an_outage_changes_nothing_of_what_is_done(
    seed_events: list[tuple[int, int, bool, int]], outage_after_ms: int
) -> None:
    """Two hours unreachable, then the backlog: nobody is taken to have left his cart who bought meanwhile."""
    arrivals = shopping(seed_events)
    end_ms = max(arrivals[-1][0], START_MS + 7 * HOUR_MS) + HOUR_MS
    script = live_script(arrivals, START_MS, end_ms)
    from_ms = START_MS + outage_after_ms
    assert carts(with_outage(script, from_ms, from_ms + 2 * HOUR_MS)) == carts(script)


def test_a_confirmed_idle_night_sends_what_is_due_and_an_outage_does_not() -> None:
    added = (START_MS, event(1, ADDED, START_MS, "c"))
    night = live_script([added], START_MS, START_MS + 8 * HOUR_MS)
    ordered = Step(START_MS + 8 * HOUR_MS, [event(2, ORDERED, START_MS + 20 * MINUTE_MS, "c")])
    assert carts([*night, ordered]) == ([("c", WAIT_MS)], 1)
    outage = with_outage(night, START_MS + 1, START_MS + 8 * HOUR_MS)
    at_end = [step for step in outage if step.at_ms < START_MS + 8 * HOUR_MS]
    assert carts([*at_end, ordered]) == ([], 0)
