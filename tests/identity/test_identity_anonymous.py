"""Anonymous customers: decided on here until an identify; then all they did goes along, and so do their events."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from segue.decide.decisions import Decisions
from segue.events.names import CODE_BY_NAME
from segue.identity.anonymous import AnonymousShard
from segue.routing.packet import ANY_PLACE, CLOCK_END, Packet
from segue.state.shard import block_words
from segue_kernels import plan, record, row
from segue_kernels.history import H_CLOCK, H_EVENTS
from segue_kernels.route import no_rows
from segue_kernels.shard import LOG_SLOT
from tests.kernels import canonical, naive_timers
from tests.kernels.drivers import (
    START_MS,
    engine_settings,
    key_of,
    meta,
    records_of,
    released,
    stream,
    tables,
)

ERASURE = CODE_BY_NAME["Profile Erasure Requested"]
IDENTIFY, VIEWED = CODE_BY_NAME["identify"], CODE_BY_NAME["Product Viewed"]
NAMES = [b"visitor-%d" % n for n in range(4)] + [f"Zoë {n} ".encode() * 12 for n in range(4)]
KNOWN = 4  # numbers of known customers start here
Event = dict[str, int]


def viewed(who: int, n: int, **more: int) -> Event:
    return {"customer": who, "kind": record.KIND_ANONYMOUS, "time": START_MS + n, "message": n + 1, **more}


def identify(who: int, known: int, n: int) -> Event:
    return {"customer": known, "type": IDENTIFY, "time": START_MS + n, "message": n + 1, "links": who}


def shard_of(shards: int = 1) -> AnonymousShard:
    made = tables([stream(plan.COUNT, type=VIEWED)])
    return AnonymousShard(0, made, engine_settings(shards=shards), 1)  # type: ignore[arg-type]


class Feeder:
    """Packets of one partition, one after the other."""

    def __init__(self, to: AnonymousShard) -> None:
        self.to, self.row, self.batch, self.end = to, 0, 0, (-1, 0)
        self.decided: list[Decisions] = []

    def push(self, events: list[Event]) -> list[tuple[int, Packet]]:
        given = [{"type": VIEWED, **event, "sequence": self.row + n} for n, event in enumerate(events)]
        records, text = records_of(given, NAMES)
        for words, event in zip(records, given, strict=True):
            if "links" in event:
                words[[record.ANONYMOUS_LO, record.ANONYMOUS_HI]] = key_of(event["links"])
        self.row += len(given)
        end = (int(records[-1, record.CLOCK]), self.row)
        self.to.arrivals.push(Packet(0, self.batch, self.end, end, records, text))
        self.end, self.batch = end, self.batch + 1
        decided, passed = self.to.process()
        self.decided += decided
        return passed


def rows_of(passed: list[tuple[int, Packet]]) -> list[dict[str, Any]]:
    """What was passed on, row by row."""
    found = []
    for shard, packet in passed:
        assert (packet.sender, packet.start, packet.end) == (0, ANY_PLACE, ANY_PLACE)
        brought = dict(packet.histories)
        for n, words in enumerate(packet.records.tolist()):
            at, length = words[record.HEAP] >> 32, words[record.HEAP] & 0xFF
            found.append(
                {
                    "to": shard,
                    "sequence": words[record.SEQUENCE],
                    "key": (words[record.CUSTOMER_LO], words[record.CUSTOMER_HI]),
                    "kind": (words[record.PACK] >> 8) & record.FLAG_KIND,
                    "name": packet.text[at : at + length].tobytes(),
                    "history": brought.get(n),
                }
            )
    return sorted(found, key=lambda one: one["sequence"])


def test_before_the_identify_here_and_after_it_there() -> None:
    shard = shard_of()
    feeder = Feeder(shard)
    events = [viewed(0, 0), viewed(1, 1), viewed(0, 2), identify(0, KNOWN, 3), viewed(0, 4), viewed(1, 5)]
    found = rows_of(feeder.push(events))
    assert [one["sequence"] for one in found] == [3, 4]
    assert all(one["key"] == key_of(KNOWN) and one["kind"] == record.KIND_USER for one in found)
    assert all(one["name"] == NAMES[KNOWN] for one in found)
    history = found[0]["history"]
    assert history[H_EVENTS] == 2
    assert history[H_CLOCK] == START_MS + 2
    assert found[1]["history"] is None
    assert meta(shard.engine.state, row.COUNT_EVENTS) == 4  # two of each visitor


def erasure(known: int, n: int, **more: int) -> Event:
    return {"customer": known, "type": ERASURE, "time": START_MS + n, "message": 1_000 + n, **more}


def test_an_erasure_cuts_the_links_to_the_customer() -> None:
    shard = shard_of()
    feeder = Feeder(shard)
    other = KNOWN + 1
    feeder.push([identify(0, KNOWN, 1), identify(1, KNOWN, 2), identify(2, other, 3)])
    state = shard.engine.state
    state.take_dirty()
    # one row goes before it; of the rows after it the older are dropped, the newer are nobody's
    events = [viewed(0, 4), erasure(KNOWN, 6), viewed(0, 5), viewed(0, 7), viewed(2, 8), viewed(1, 6)]
    found = rows_of(feeder.push(events))
    assert [(one["sequence"], one["key"]) for one in found] == [(3, key_of(KNOWN)), (7, key_of(other))]
    assert state.counters()["redirects"] == 1
    assert state.counters()["erased_events"] == 2
    assert meta(state, row.COUNT_EVENTS) == 1
    assert len(state.take_dirty()) == 3  # the rows that were linked, and the customer's mark
    memory = state.arrays.pool[: meta(state, row.POOL_BUMP)].tobytes()
    assert NAMES[KNOWN] not in memory
    assert NAMES[other] in memory
    # a link that is older than the erasure is not made again; a newer one is, and takes along what came since
    assert rows_of(feeder.push([identify(1, KNOWN, 5), erasure(KNOWN, 3)])) == []
    found = rows_of(feeder.push([identify(0, KNOWN, 9)]))
    assert found[0]["history"][H_EVENTS] == 1
    assert state.counters()["redirects"] == 2


def test_an_erasure_under_an_anonymous_identifier_takes_what_is_kept_under_it() -> None:
    shard = shard_of()
    feeder = Feeder(shard)
    anonymous = record.KIND_ANONYMOUS
    feeder.push([viewed(0, 0), viewed(1, 1), identify(1, KNOWN, 2)])
    passed = feeder.push([erasure(0, 3, kind=anonymous), erasure(1, 4, kind=anonymous), viewed(1, 5)])
    assert rows_of(passed) == []  # the visitor that was linked is nobody again
    state = shard.engine.state
    assert state.counters()["redirects"] == 0
    assert state.counters()["erasures"] == 2
    # a link older than its erasure is not made, but what the customer did there is the customer's
    found = rows_of(feeder.push([identify(1, KNOWN, 4), viewed(1, 6)]))
    assert [(one["key"], one["history"]) for one in found] == [(key_of(KNOWN), None)]
    assert meta(state, row.COUNT_EVENTS) == 4


def test_the_erasure_of_an_identifier_of_another_shard_is_only_heard() -> None:
    """It comes without strings, for the tables of this process."""
    shard = shard_of()
    records, text = records_of([erasure(0, 3, kind=record.KIND_ANONYMOUS)])
    shard.arrivals.push(Packet(0, 0, (-1, 0), (int(records[0, record.CLOCK]), 1), records, text, heard=True))
    assert shard.process() == ([], [])
    assert shard.engine.state.customers == shard.engine.state.counters()["erasures"] == 0


def test_it_goes_along_once_and_the_last_link_holds() -> None:
    feeder = Feeder(shard_of())
    feeder.push([viewed(0, 0)])
    found = rows_of(feeder.push([identify(0, KNOWN, 1), identify(0, KNOWN + 1, 2), viewed(0, 3)]))
    assert [one["history"] is not None for one in found] == [True, False, False]
    assert [one["key"] for one in found] == [key_of(KNOWN), key_of(KNOWN + 1), key_of(KNOWN + 1)]
    assert found[2]["name"] == NAMES[KNOWN + 1]
    found = rows_of(feeder.push([viewed(0, 4), identify(2, KNOWN, 5), viewed(2, 6)]))
    assert [one["name"] for one in found] == [NAMES[KNOWN + 1], NAMES[KNOWN], NAMES[KNOWN]]
    assert all(one["history"] is None for one in found)  # nobody had seen visitor 2


def test_lines_follow_their_header() -> None:
    feeder = Feeder(shard_of())
    order = viewed(0, 2, flags=record.FLAG_HAS_LINES)
    line = viewed(0, 2, flags=record.FLAG_IS_LINE, product=9)
    found = rows_of(feeder.push([viewed(1, 0), identify(0, KNOWN, 1), order, line, line, viewed(1, 3)]))
    assert [one["sequence"] for one in found] == [1, 2, 3, 4]
    assert {one["key"] for one in found} == {key_of(KNOWN)}


@pytest.mark.parametrize("shards", [2, 5])
def test_each_history_goes_to_the_shard_of_its_customer(shards: int) -> None:
    feeder = Feeder(shard_of(shards))
    feeder.push([viewed(who, n) for n, who in enumerate((0, 1, 1, 2, 2, 2))])
    passed = feeder.push([identify(who, KNOWN + who, 10 + who) for who in range(3)])
    assert [shard for shard, _ in passed] == list(range(shards))
    assert all(packet.finished == ((0, 1),) for _, packet in passed)
    found = rows_of(passed)
    assert [one["history"][H_EVENTS] for one in found] == [1, 2, 3]
    for who, one in enumerate(found):
        assert one["to"] == (((key_of(KNOWN + who)[1] % 2**64) >> 1 & 0x7FFFFFFF) * shards) >> 31


def test_what_was_taken_along_is_gone_here() -> None:
    shard = shard_of()
    feeder = Feeder(shard)
    feeder.push([viewed(0, n) for n in range(9)])
    state = shard.engine.state
    held = meta(state, row.POOL_WORDS_USED)
    feeder.push([identify(0, KNOWN, 20)])
    assert meta(state, row.REDIRECTS) == 1
    words = state.arrays.rows.reshape(-1, state.row_words)[0]
    assert not words[plan.HEADER_WORDS :].any()
    assert words[row.CLOCK] == words[row.EVENTS] == words[row.RING] == 0
    block = 3 + (len(NAMES[KNOWN]) + 7) // 8
    assert meta(state, row.POOL_WORDS_USED) == block_words(block) < held


def test_timers_that_an_identify_has_passed_fire_here_and_the_others_go_along() -> None:
    """What is due before the identify's clock less the lateness is decided for the visitor, the rest is not."""
    lateness = naive_timers.LATENESS_MS
    first, second, _ = naive_timers.DELAYS[naive_timers.STEPS]
    for later, fired, waits in ((first + lateness, 0, 1), (first + lateness + 1, 1, 1), (second, 1, 1)):
        shard = AnonymousShard(0, naive_timers.world(), engine_settings(), 1)  # type: ignore[arg-type]
        feeder = Feeder(shard)
        feeder.push([viewed(0, 0, type=naive_timers.A)])
        found = rows_of(feeder.push([identify(0, KNOWN, later), viewed(0, later + 9 * lateness)]))
        assert meta(shard.engine.state, row.COUNT_TIMERS_FIRED) >= fired
        decided = [log for part in feeder.decided for log in part.log]
        assert sum(log[LOG_SLOT] == naive_timers.STEPS for log in decided) == fired
        history = found[0]["history"]
        known = AnonymousShard(0, naive_timers.world(), engine_settings(), 1).engine  # type: ignore[arg-type]
        known.process(released(*records_of([{"customer": KNOWN, "time": START_MS, "message": 99}], NAMES)))
        known.state.join(0, history, START_MS + later)
        assert len(canonical.of_row(known.state, 0)["waits"]) == waits
        assert shard.engine.advance(START_MS + 9 * second) == ([], True)
        assert meta(shard.engine.state, row.TIMERS) == 0


def test_the_end_is_passed_on() -> None:
    shard = shard_of()
    feeder = Feeder(shard)
    passed = feeder.push([viewed(0, 0)])
    assert [packet.finished for _, packet in passed] == [((0, 0),)]
    records, text = no_rows()
    shard.arrivals.push(Packet(0, 1, feeder.end, (CLOCK_END, feeder.row), records, text))
    assert shard.process() == ([], [])
    assert shard.arrivals.ended


def test_a_batch_larger_than_the_index() -> None:
    shard = shard_of()
    records, text = records_of(
        [
            {"customer": 10 + n, "kind": 2, "time": START_MS, "message": n + 1, "sequence": n, "type": VIEWED}
            for n in range(3_000)
        ]
    )
    shard.arrivals.push(Packet(0, 0, (-1, 0), (START_MS, 3_000), records, text))
    shard.process()
    assert shard.engine.state.customers == 3_000
    assert np.unique(shard.engine.state.take_dirty()).size == 3_000
