"""Routing against plain lists: rows keep their order and their strings, and go where their customer lives."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segue.events.names import CODE_BY_NAME, REFERENCE_CODES
from segue.routing.packet import REFERENCE_TYPES, scatter_rows
from segue_kernels import record
from segue_kernels.route import FOR_ALL, FOR_ALL_ANONYMOUS, FOR_ANONYMOUS
from tests.kernels.drivers import Bytes, Words, key_of, quick, records_of

IDENTIFY, ALIAS, VIEWED = (CODE_BY_NAME[name] for name in ("identify", "alias", "Product Viewed"))
ERASURE = CODE_BY_NAME["Profile Erasure Requested"]
NOBODY = -1
ROWS = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 20), st.integers(0, 20), st.just(NOBODY)),  # customer
        st.sampled_from((record.KIND_USER, record.KIND_LOYALTY, record.KIND_ANONYMOUS)),
        st.sampled_from((VIEWED, VIEWED, IDENTIFY, ALIAS)),
        st.one_of(st.none(), st.integers(30, 40)),  # the anonymous identifier it links
        st.integers(0, 2),  # lines
        st.tuples(*[st.one_of(st.just(b""), st.binary(max_size=255))] * 4),
    ),
    max_size=12,
)
Rows = list[tuple[int, int, int, "int | None", int, tuple[bytes, ...]]]


def built(rows: Rows, padding: int) -> tuple[Words, Words, Bytes, list[tuple[bytes, ...]]]:
    """Records, spans and text as a decoder gives them, and the strings of each record."""
    events, links, strings = [], [], []
    for customer, kind, type_, anonymous, lines, texts in rows:
        flags = [record.FLAG_HAS_LINES if lines else 0] + [record.FLAG_IS_LINE] * lines
        for n, flag in enumerate(flags):
            events.append({"time": 1, "customer": customer, "kind": kind, "type": type_, "flags": flag})
            links.append((customer, anonymous if n == 0 and type_ != VIEWED else None))
            strings.append(texts if n == 0 else (b"", b"", *texts[2:]))
    records, _ = records_of(events)
    for words, (customer, anonymous) in zip(records, links, strict=True):
        if customer == NOBODY:
            words[[record.CUSTOMER_LO, record.CUSTOMER_HI]] = 0
        if anonymous is not None:
            words[[record.ANONYMOUS_LO, record.ANONYMOUS_HI]] = key_of(anonymous)
    text, spans = b"\x01" * padding, np.zeros((len(records), record.STRINGS), np.int64)
    for n, parts in enumerate(strings):
        for s, part in enumerate(parts):
            if part:  # an absent string may point anywhere
                spans[n, s] = len(text) << 8 | len(part)
                text += part
    return records, spans, np.frombuffer(text, np.uint8), strings


def plain_destination(words: list[int], shards: int, resolved: bool) -> int:
    def shard_of(high: int) -> int:
        return (((high % 2**64 >> 1) & 0x7FFFFFFF) * shards) >> 31

    type_, kind = words[record.PACK] & 0xFF, (words[record.PACK] >> 8) & record.FLAG_KIND
    anonymous = kind == record.KIND_ANONYMOUS
    linked = words[record.ANONYMOUS_LO] or words[record.ANONYMOUS_HI]
    if type_ in (IDENTIFY, ALIAS) and not resolved and not anonymous and linked:
        return shards + shard_of(words[record.ANONYMOUS_HI])
    if not words[record.CUSTOMER_LO] and not words[record.CUSTOMER_HI]:
        return -1
    return shard_of(words[record.CUSTOMER_HI]) + (shards if anonymous else 0)


@quick(150)
@given(ROWS, st.sampled_from((1, 2, 5, 16)), st.booleans(), st.integers(0, 40))
def test_each_destination_gets_its_rows_in_order(
    rows: Rows, shards: int, resolved: bool, padding: int
) -> None:
    records, spans, text, strings = built(rows, padding)
    before = records.copy()
    routed = scatter_rows(records, spans, text, shards, resolved=resolved)
    assert np.array_equal(records, before)
    expected: list[list[int]] = [[] for _ in range(2 * shards)]
    nobody, to = 0, -1
    for n, words in enumerate(records.tolist()):
        if not (words[record.PACK] >> 8) & record.FLAG_IS_LINE:
            to = plain_destination(words, shards, resolved)
            nobody += to < 0
        assert routed.destination[n] == to
        if to >= 0:
            expected[to].append(n)
    assert routed.about_nobody == nobody
    for to, numbers in enumerate(expected):
        found, run = routed.records[to], routed.texts[to].tobytes()
        assert len(found) == len(numbers)
        for words, n in zip(found.tolist(), numbers, strict=True):
            assert words[: record.HEAP] == records[n, : record.HEAP].tolist()
            assert words[record.HEAP + 1 :] == records[n, record.HEAP + 1 :].tolist()
            at = words[record.HEAP] >> 32
            for s, part in enumerate(strings[n]):
                length = (words[record.HEAP] >> 8 * s) & 0xFF
                assert run[at : at + length] == part
                at += length
        assert len(run) == sum(len(part) for n in numbers for part in strings[n])


@quick(60)
@given(
    st.lists(st.tuples(st.integers(1, 6), st.sampled_from((0, 2)), st.sampled_from((VIEWED, ERASURE)))),
    st.sampled_from((1, 3)),
    st.sampled_from((FOR_ANONYMOUS, FOR_ALL_ANONYMOUS)),
)
def test_anonymous_shards_hear_of_customers(
    rows: list[tuple[int, int, int]], shards: int, hears: int
) -> None:
    """Of known ones or of all, in its place among their own rows, without strings; whom it is about gets it as any
    row."""
    told = REFERENCE_TYPES.copy()
    told[ERASURE] = hears
    least = shards if hears == FOR_ANONYMOUS else 2 * shards
    events = [
        {"time": 5, "customer": customer, "kind": kind, "type": type_, "sequence": n}
        for n, (customer, kind, type_) in enumerate(rows)
    ]
    records, text = records_of(events, [b"name"] * 7)
    spans = np.zeros((len(records), record.STRINGS), np.int64)
    spans[:, 0] = [(n * 4) << 8 | 4 for n in range(len(records))]
    routed = scatter_rows(records, spans, text, shards, nobody=told)
    expected: list[list[tuple[int, int]]] = [[] for _ in range(2 * shards)]
    for n, words in enumerate(records.tolist()):
        to = plain_destination(words, shards, False)
        for other in range(2 * shards):
            if other == to:
                expected[other].append((n, 4))
            elif words[record.PACK] & 0xFF == ERASURE and to < least and other >= shards:
                expected[other].append((n, 0))
    for other in range(2 * shards):
        found = routed.records[other][:, [record.SEQUENCE, record.HEAP]].tolist()
        assert [(n, heap & 0xFF) for n, heap in found] == expected[other]
        for n, heap in found:
            if heap & 0xFF:
                assert routed.texts[other][heap >> 32 : (heap >> 32) + 4].tobytes() == b"name", n
    assert routed.about_nobody == 0


@quick(100)
@given(
    st.lists(
        st.tuples(
            st.sampled_from((NOBODY, 1, 2, 3)),
            st.sampled_from((0, 2)),
            st.integers(0, 2),
            st.sampled_from((VIEWED, VIEWED, *REFERENCE_CODES)),
        )
    ),
    st.sampled_from((1, 3)),
)
def test_rows_for_all_go_everywhere_in_their_place(
    rows: list[tuple[int, int, int, int]], shards: int
) -> None:
    """Whoever they name: they are about nobody. Their strings stay behind."""
    price, stock = CODE_BY_NAME["Price Updated"], CODE_BY_NAME["Inventory Updated"]
    told = REFERENCE_TYPES.copy()
    told[price] = FOR_ALL
    drawn: Rows = [
        (customer, kind, type_, None, lines, (b"c", b"m", b"p%d" % n, b""))
        for n, (customer, kind, lines, type_) in enumerate(rows)
    ]
    records, spans, text, strings = built(drawn, 3)
    records[:, record.SEQUENCE] = np.arange(len(records))
    routed = scatter_rows(records, spans, text, shards, nobody=told)
    plain = scatter_rows(records, spans, text, shards)
    types = records[:, record.PACK] & 0xFF
    assert np.array_equal(routed.destination, plain.destination)
    assert (routed.destination[(types == price) | (types == stock)] == NOBODY).all()
    assert routed.about_nobody == plain.about_nobody
    for to in range(2 * shards):
        found, run = routed.records[to], routed.texts[to].tobytes()
        assert routed.own[to] == len(plain.records[to])
        expected = np.flatnonzero((routed.destination == to) | (types == price)).tolist()
        assert found[:, record.SEQUENCE].tolist() == expected
        assert run == plain.texts[to].tobytes()
        for words, n in zip(found, expected, strict=True):
            assert np.array_equal(np.delete(words, record.HEAP), np.delete(records[n], record.HEAP))
            at, lengths = int(words[record.HEAP]) >> 32, int(words[record.HEAP]) & 0xFFFFFFFF
            if routed.destination[n] == to:
                whole = b"".join(strings[n])
                assert run[at : at + len(whole)] == whole
            else:
                assert lengths == 0


def test_shards_are_filled_evenly() -> None:
    shards = 16
    records, _ = records_of([{"time": 1, "customer": n} for n in range(16_000)])
    spans = np.zeros((len(records), record.STRINGS), np.int64)
    routed = scatter_rows(records, spans, np.zeros(0, np.uint8), shards)
    counts = [len(run) for run in routed.records[:shards]]
    assert sum(counts) == 16_000
    assert 800 < min(counts) <= max(counts) < 1_200
