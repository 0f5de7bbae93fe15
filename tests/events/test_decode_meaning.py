"""What an event means, against the naive decoder of the reference, which shares no code with this one."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.events.batch import string_of
from segue.events.decode import Decoder, Origin
from segue.events.hashing import hash_customer, hash_message, hash_text
from segue.events.money import letters_code
from segue.events.names import (
    CHANNELS,
    CODE_BY_NAME,
    CODE_BY_SPELLING,
    PURPOSES,
    consent_word,
    suppression_word,
)
from segue_kernels import record
from tests.reference.decoding import DeadError, DecodeSettings, decode_line
from tests.reference.event import Event

ARRIVAL_MS = 1_772_366_400_000
DECODER = Decoder(b"fedcba9876543210", "EUR", ARRIVAL_MS, 300_000)

names_ = st.one_of(
    st.sampled_from(["a", "sku-1", "", "Zoë"]), st.text(st.characters(codec="utf-8"), max_size=12)
)
numbers = st.one_of(
    st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**6), max_value=10**6).map(
        float
    ),
    st.sampled_from(["12.345", "x", 0.125, 2.675, 1e15, 1e14, -3, 0, True]),
)
products = st.lists(
    st.fixed_dictionaries(
        {"product_id": names_},
        optional={"category": names_, "price": numbers, "quantity": st.integers(-1, 9)},
    ),
    max_size=3,
)
messages = st.fixed_dictionaries(
    {
        "id": st.sampled_from(["m1", "m2", ""]),
        "type": st.sampled_from([*sorted(CODE_BY_SPELLING), "Nope"]),
        "time": st.sampled_from(
            [
                "2026-03-01T11:00:00.123Z",
                "2026-03-01T11:00:00+02:00",
                "2026-03-01T11:00:00",
                "1990-01-01T00:00:00Z",
            ]
        ),
    },
    optional={
        "source": names_,
        "userId": names_,
        "loyaltyId": names_,
        "anonymousId": names_,
        "previousId": names_,
        "product_id": names_,
        "category": names_,
        "store_id": names_,
        "coupon_id": names_,
        "promotion_id": names_,
        "price": numbers,
        "quantity": st.sampled_from([0, 1, 2, 2.0, 2.5, -1, 10**6, 10**7]),
        "currency": st.sampled_from(["EUR", "JPY", "KWD", "XAU", "eur"]),
        "amount": numbers,
        "channel": st.sampled_from(["email", "sms", "fax"]),
        "purpose": st.sampled_from(["marketing", "service"]),
        "granted": st.booleans(),
        "products": products,
    },
)


def words_of(event: Event) -> list[list[int]]:
    """The record words of a reference event, from single hashes; CLOCK and SEQUENCE 0."""
    k0, k1 = DECODER.k0, DECODER.k1
    kind = {"user": 0, "loyalty": 1, "anonymous": 2}.get(str(event.kind), event.kind)
    header = [0] * record.RECORD_WORDS
    header[record.TIME] = event.time_ms
    if event.customer:
        header[2:4] = hash_customer(event.customer, int(kind), k0, k1)
    header[4:6] = hash_message(event.id, k0, k1)
    header[record.PRODUCT] = hash_text(event.product, k0, k1)
    header[record.CATEGORY] = hash_text(event.category, k0, k1)
    if event.anonymous:
        header[6:8] = hash_customer(event.anonymous, record.KIND_ANONYMOUS, k0, k1)
    header[record.STORE] = hash_text(event.store, k0, k1)
    header[record.CODE] = hash_text(event.code, k0, k1)
    if event.consent and event.type == "Consent Changed":
        header[record.CODE] = consent_word(
            CHANNELS.index(event.consent.channel),
            PURPOSES.index(event.consent.purpose),
            event.consent.granted,
        )
    elif event.consent and event.type == "Unsubscribed":
        header[record.CODE] = suppression_word(CHANNELS.index(event.consent.channel))
    header[record.SOURCE] = hash_text(event.source, k0, k1)
    shared = CODE_BY_NAME[event.type] | letters_code(event.currency) << 16
    rows = [header]
    for item in (event, *event.lines):
        row = header if item is event else list(header)
        flags = int(kind) if event.customer else 0
        flags |= record.FLAG_HAS_PRICE * item.has_price | record.FLAG_HAS_AMOUNT * item.has_amount
        flags |= record.FLAG_HAS_QUANTITY * item.has_quantity
        if item is event:
            flags |= record.FLAG_HAS_LINES * bool(event.lines)
        else:
            flags |= record.FLAG_IS_LINE
            row[record.PRODUCT] = hash_text(item.product, k0, k1)
            row[record.CATEGORY] = hash_text(item.category, k0, k1)
            rows.append(row)
        row[record.PRICE] = item.price_minor
        row[record.AMOUNT] = item.amount_minor
        row[record.PACK] = shared | flags << 8 | item.quantity << 32
    return rows


@settings(max_examples=200, deadline=None)
@given(messages, st.booleans())
def test_records_say_what_the_reference_reads(message: dict[str, object], escape: bool) -> None:
    line = json.dumps(message, ensure_ascii=escape).encode()
    decoded, _ = DECODER.json_lines(np.frombuffer(line, dtype=np.uint8), 0, 100, Origin("f"))
    try:
        (event,) = decode_line(line, DecodeSettings(ARRIVAL_MS))
    except DeadError:
        assert decoded.rows == 0
        assert len(decoded.dead) == 1
        return
    assert decoded.dead == []
    assert decoded.records.tolist() == words_of(event)
    strings = [string_of(decoded, 0, k) for k in range(4)]
    assert strings == [event.customer, event.id, event.product, event.category]
    for row, item in enumerate(event.lines, start=1):
        assert [string_of(decoded, row, k) for k in range(4)] == ["", "", item.product, item.category]


def _events(text: str) -> list[tuple[str, str, int]]:
    payload = np.frombuffer(text.encode(), dtype=np.uint8)
    decoded, _ = DECODER.json_lines(payload, 0, 100, Origin("f"))
    assert decoded.dead == []
    return [
        (string_of(decoded, r, 0), string_of(decoded, r, 1), int(decoded.records[r, 0]))
        for r in range(decoded.rows)
    ]


def test_a_segment_batch_is_many_events_with_the_clients_clock_corrected() -> None:
    batch = {
        "batch": [
            {"type": "track", "event": "Product Viewed", "messageId": "1", "userId": "u",
             "originalTimestamp": "2026-03-01T10:00:00Z", "sentAt": "2026-03-01T10:00:05Z",
             "receivedAt": "2026-03-01T11:00:05Z", "properties": {"id": "not this", "price": 3}},
            {"type": "page", "messageId": "2", "anonymousId": "a", "timestamp": "2026-03-01T11:00:00Z"},
        ]
    }  # fmt: skip
    eleven = ARRIVAL_MS - 3_600_000
    assert _events(json.dumps(batch)) == [("u", "1", eleven), ("a", "2", eleven)]


def test_a_cloud_event_has_its_rest_in_data() -> None:
    cloud = {"specversion": "1.0", "id": "c", "source": "s", "type": "Cart Viewed", "time": "2026-03-01T11:00:00Z",
             "price": "an extension", "data": {"id": "not this", "userId": "u"}}  # fmt: skip
    assert _events(json.dumps(cloud)) == [("u", "c", ARRIVAL_MS - 3_600_000)]


def test_a_late_event_leaves_with_its_lines_and_its_bytes() -> None:
    first = b'{"id":"1","type":"screen","time":"2026-03-01T11:00:00Z","userId":"u"}'
    second = b'{"id":"2","type":"purchase","time":"2026-03-01T10:00:00Z","userId":"u","products":[{"product_id":"a"}]}'
    decoded, _ = DECODER.json_lines(
        np.frombuffer(first + b"\n" + second, dtype=np.uint8), 0, 9, Origin("f", 1, 1000)
    )
    assert decoded.events == 2
    assert DECODER.stamp(decoded, 0, 0, 0) == ARRIVAL_MS - 3_600_000
    assert decoded.rows == 1
    (late,) = decoded.late
    assert (late.raw, late.line, late.offset, late.delay_ms) == (second, 2, 1000 + len(first) + 1, 3_600_000)


@pytest.mark.parametrize("secret", [b"", b"short", b"x" * 17])
def test_a_secret_has_sixteen_bytes(secret: bytes) -> None:
    from segue.errors import SettingsError

    with pytest.raises(SettingsError):
        Decoder(secret, "EUR", 0, 0)
