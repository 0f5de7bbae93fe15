"""Packets: who gets one, and what crosses to another process."""

from __future__ import annotations

import pickle

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segue.events.batch import Decoded, Origin
from segue.events.names import CODE_BY_NAME
from segue.routing.arrivals import Arrivals
from segue.routing.packet import CLOCK_END, REFERENCE_TYPES, Packet, SourceBatch, packets
from segue_kernels import record
from segue_kernels.route import FOR_ALL
from tests.kernels.drivers import key_of, quick, records_of


def decoded(customers: list[tuple[int, int]]) -> Decoded:
    """A batch of (customer, kind), each with a name of its own."""
    names = [b"customer %d" % n for n in range(max((c for c, _ in customers), default=0) + 1)]
    records, text = records_of([{"time": 1, "customer": c, "kind": k} for c, k in customers], names)
    spans = np.zeros((len(records), record.STRINGS), np.int64)
    spans[:, record.STRING_CUSTOMER] = (records[:, record.HEAP] >> 32) << 8 | (records[:, record.HEAP] & 0xFF)
    where = np.zeros((len(records), 2), np.int64)
    return Decoded(records, spans, text, where, [], len(records), len(records), Origin("-"))


def batch_of(customers: list[tuple[int, int]]) -> SourceBatch:
    return SourceBatch(3, 7, (5, 30), (9, 30 + len(customers)), decoded(customers))


CUSTOMERS = st.lists(st.tuples(st.integers(0, 30), st.sampled_from((0, 1, 2))), max_size=20)


@quick(100)
@given(CUSTOMERS, st.sampled_from((1, 3, 8)), st.sampled_from((1, 2)), st.booleans())
def test_every_shard_that_must_know_gets_a_packet(
    customers: list[tuple[int, int]], shards: int, partitions: int, merged: bool
) -> None:
    made, nobody = packets(batch_of(customers), shards, partitions, merged=merged)
    assert nobody == 0
    by_destination = dict(made)
    assert len(by_destination) == len(made)
    anonymous = {
        shards + ((((key_of(c)[1] % 2**64) >> 1 & 0x7FFFFFFF) * shards) >> 31)
        for c, kind in customers
        if kind == record.KIND_ANONYMOUS
    }
    everyone = set(range(2 * shards)) if merged and partitions > 1 else set(range(shards)) | anonymous
    assert set(by_destination) == everyone
    assert sum(len(packet.records) for packet in by_destination.values()) == len(customers)
    for destination, packet in made:
        assert (packet.partition, packet.batch, packet.start) == (3, 7, (5, 30))
        assert packet.via == (tuple(sorted(a - shards for a in anonymous)) if destination < shards else ())
        assert packet.sender == -1


def test_the_end_of_a_partition_is_told_to_all() -> None:
    made, _ = packets(SourceBatch(0, 1, (5, 9), (CLOCK_END, 9), None), 4, 1)
    assert [destination for destination, _ in made] == list(range(8))
    assert all(packet.end == (CLOCK_END, 9) and not len(packet.records) for _, packet in made)


def test_what_all_hear_of_asks_nobody_to_wait() -> None:
    """An anonymous shard that only hears of a price passes nothing on: known shards do not wait for it."""
    rows = decoded([(1, record.KIND_USER), (2, record.KIND_USER), (3, record.KIND_ANONYMOUS)])
    rows.records[0, record.PACK] = CODE_BY_NAME["Price Updated"]
    batch = SourceBatch(0, 7, (5, 0), (9, 3), rows)
    told = REFERENCE_TYPES.copy()
    told[CODE_BY_NAME["Price Updated"]] = FOR_ALL
    made, nobody = packets(batch, 8, 1, told)
    assert nobody == 1
    assert [destination for destination, _ in made] == list(range(16))
    assert sum(len(packet.records) for _, packet in made) == 16 + 2
    passing = [destination - 8 for destination, packet in made if destination >= 8 and not packet.heard]
    assert len(passing) == 1
    for destination, packet in made:
        assert packet.via == (tuple(passing) if destination < 8 else ())
        arrivals = Arrivals(1, 300_000)
        arrivals.push(packet)
        released = arrivals.release()
        if not packet.via:
            assert released is not None
            assert len(released.records) == len(packet.records)
            assert released.finished == (() if packet.heard else ((0, 7),))


def test_a_tick_is_told_to_all_and_a_batch_that_says_so() -> None:
    made, _ = packets(SourceBatch(0, 1, (5, 9), (900, 9), None), 4, 1)
    assert [destination for destination, _ in made] == list(range(8))
    assert all(packet.end == (900, 9) and not len(packet.records) for _, packet in made)
    batch = batch_of([(1, 0)])
    batch.tell_clock = True
    assert [destination for destination, _ in packets(batch, 4, 1)[0]] == list(range(8))


def same(first: Packet, second: Packet) -> None:
    for name in ("partition", "batch", "start", "end", "via", "sender", "finished", "heard"):
        assert getattr(first, name) == getattr(second, name)
    assert np.array_equal(first.records, second.records)
    assert np.array_equal(first.text, second.text)
    assert [at for at, _ in first.histories] == [at for at, _ in second.histories]
    for (_, mine), (_, theirs) in zip(first.histories, second.histories, strict=True):
        assert np.array_equal(mine, theirs)


@quick(60)
@given(CUSTOMERS, st.lists(st.lists(st.integers(-9, 9), max_size=5), max_size=3))
def test_a_packet_survives_the_way_to_another_process(
    customers: list[tuple[int, int]], histories: list[list[int]]
) -> None:
    for _, packet in packets(batch_of(customers), 3, 2)[0]:
        packet.histories = [(n, np.array(words, np.int64)) for n, words in enumerate(histories)]
        packet.finished = ((1, 2), (3, 4))
        copy = pickle.loads(pickle.dumps(packet))
        same(copy, packet)
        copy.records[:] = 0  # the engine writes into it
        copy.text[:] = 0


def test_only_its_own_rows_are_pickled() -> None:
    """A packet is a view of its batch; a pickle of the whole batch for each shard would be no routing at all."""
    customers = [(n, n % 3) for n in range(20_000)]
    made, _ = packets(batch_of(customers), 512, 1)
    whole = sum(packet.records.nbytes + packet.text.nbytes for _, packet in made)
    for _, packet in made:
        own = packet.records.nbytes + packet.text.nbytes
        assert len(pickle.dumps(packet)) <= own + 400 + 10 * len(packet.via)
        assert own < whole / 50
