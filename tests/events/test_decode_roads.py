"""Whatever the bytes, both roads give the same records, strings and dead letters, and nothing raises."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.events.batch import Decoded, string_of
from segue.events.decode import Decoder, Origin
from segue.events.lines import ScanRoom, run_scanner
from segue.events.names import CODE_BY_SPELLING
from segue.reference.zones import zone_names
from segue_kernels import record

ARRIVAL_MS = 1_772_366_400_000  # 2026-03-01T12:00:00Z
SECRET = b"0123456789abcdef"
FAST = Decoder(SECRET, "EUR", ARRIVAL_MS, 300_000)
ZONES = [*zone_names(), ""]
ROOM = ScanRoom(FAST.terms, FAST.k0, FAST.k1)
PLAIN = Decoder(SECRET, "EUR", ARRIVAL_MS, 300_000, scanner=False)


def read(decoder: Decoder, payload: bytes, rows_max: int = 1 << 16, behind: bytes = b"") -> list[Decoded]:
    """All of a payload; `behind`: what its buffer holds behind it."""
    padded = np.frombuffer(payload + behind, dtype=np.uint8)
    array = padded[: len(payload)]
    batches = []
    at, line = 0, 1
    while at < len(payload):
        decoded, next_at = decoder.json_lines(
            array, at, rows_max, Origin("f", line), padded if behind else None
        )
        assert next_at > at
        at = next_at
        line += decoded.lines
        batches.append(decoded)
    assert at == len(payload)
    return batches


def content(batches: list[Decoded]) -> dict[str, Any]:
    return {
        "records": [row for batch in batches for row in batch.records.tolist()],
        "strings": [
            [string_of(batch, row, string) for string in range(4)]
            for batch in batches
            for row in range(batch.rows)
        ],
        "where": [row for batch in batches for row in batch.where.tolist()],
        "dead": [letter for batch in batches for letter in batch.dead],
        "events": sum(batch.events for batch in batches),
        "lines": sum(batch.lines for batch in batches),
    }


def check(payload: bytes, rows_max: int = 1 << 16) -> dict[str, Any]:
    found = content(read(FAST, payload, rows_max))
    expected = content(read(PLAIN, payload))
    assert found == expected
    assert content(read(FAST, payload, rows_max, behind=b"\n{}" * 30)) == expected
    assert all(letter.reason for letter in found["dead"])
    lines = payload.split(b"\n")
    for letter in found["dead"]:
        assert letter.raw in lines[letter.line - 1]
        assert payload[letter.offset :].startswith(lines[letter.line - 1])
    return found


# --- messages ----------------------------------------------------------------------------------------
words = st.sampled_from(
    ["a", "sku-1", "user-0001", "0123456789abcdef0123456789abcdef-0123", "", "x" * 255, "x" * 256]
)
texts = st.one_of(
    words, st.text(max_size=40), st.sampled_from(["é", 'quo"te', "back\\slash", "tab\t", "\u2028", "😀"])
)
times = st.sampled_from(
    [
        "2026-03-01T11:59:59.123Z",
        "2026-02-28T23:59:59Z",
        "2026-02-29T00:00:00Z",
        "2024-02-29T12:00:00.5+02:00",
        "2026-03-01T12:00:00-11:30",
        "2026-03-01T12:00:00.123456789Z",
        "2026-03-01T12:00:00.1234567890Z",
        "2026-03-01T12:00:00",
        "2026-03-01 12:00:00Z",
        "2026-03-01T12:00Z",
        "2026-03-01T24:00:00Z",
        "2026-03-01T12:00:60Z",
        "2026-13-01T12:00:00Z",
        "2026-03-01T12:00:00.Z",
        "2026-03-01T12:00:00+0200",
        "2026-03-01T12:00:00+25:00",
        "1999-12-31T23:59:59Z",
        "2000-01-01T00:00:00Z",
        "2026-03-02T12:00:00.000Z",
        "2026-03-02T12:00:00.001Z",
        "0000-01-01T00:00:00Z",
        "2026-0a-01T12:00:00Z",
    ]
)
numbers = st.one_of(
    st.sampled_from(
        [  # noqa: RUF005
            "12.99",
            "0",
            "-0",
            "-1.5",
            "0.125",
            "0.375",
            "1e2",
            "1E400",
            "1e-400",
            "NaN",
            "007",
            "5.",
            ".5",
            "-",
        ]
        + ["999999999999999", "9999999999999999", "10000000000000", "10000000000000.01", "0.000000000000001"]
        + [
            '"12.99"',
            '"abc"',
            '" 1"',
            '"Infinity"',
            "true",
            "null",
            "[]",
            "1.005",
            "2.675",
            "2.0",
            "1000000",
            "1000001",
        ]
    ),
    st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9).map(
        str
    ),
    st.integers(-5, 10**7).map(str),
)
types = st.one_of(
    st.sampled_from(sorted(CODE_BY_SPELLING)),
    st.sampled_from(
        ["identify", "alias", "Consent Changed", "Unsubscribed", "Inventory Updated", "track", "Nope", ""]
    ),
)


@st.composite
def json_text(draw: st.DrawFn, text: st.SearchStrategy[str]) -> str:
    return json.dumps(draw(text), ensure_ascii=draw(st.booleans()))


def object_text(draw: st.DrawFn, fields: list[tuple[str, str]]) -> str:
    space = draw(st.sampled_from(["", "", " ", "\t ", "\r"]))
    if draw(st.booleans()):
        fields = draw(st.permutations(fields))
    inner = f"{space},{space}".join(f'"{key}"{space}:{space}{value}' for key, value in fields)
    return "{" + space + inner + space + "}"


@st.composite
def products_text(draw: st.DrawFn) -> str:
    items = []
    for _ in range(draw(st.integers(0, 3))):
        fields = [("product_id", draw(json_text(texts)))]
        if draw(st.booleans()):
            fields.append(("price", draw(numbers)))
        if draw(st.booleans()):
            fields.append(("quantity", draw(numbers)))
        if draw(st.booleans()):
            fields.append(
                (draw(st.sampled_from(["category", "category", "brand", "price"])), draw(json_text(words)))
            )
        items.append(object_text(draw, fields))
    return f"[{', '.join(items)}]"


@st.composite
def zone_texts(draw: st.DrawFn) -> str:
    name = draw(st.sampled_from(ZONES))
    return json.dumps(
        draw(st.sampled_from([name, name, name, name[:-1], name + "x", name.lower(), "X" + name[1:]]))
    )


ANY = {
    "number": numbers,
    "text": json_text(texts),
    "deep": st.integers(1, 200).map(lambda depth: "[" * depth + "]" * depth),
    "nested": st.just('{"a": [1, {"b": null}]}'),
    "literal": st.sampled_from(["true", "false", "null", "nul", "undefined"]),
}
OPTIONAL: dict[str, st.SearchStrategy[str]] = {
    "source": json_text(texts),
    "loyaltyId": json_text(texts),
    "anonymousId": json_text(texts),
    "previousId": json_text(texts),
    "product_id": json_text(texts),
    "category": json_text(texts),
    "store_id": json_text(texts),
    "coupon_id": json_text(texts),
    "promotion_id": json_text(texts),
    "price": numbers,
    "quantity": numbers,
    "amount": numbers,
    "total": numbers,
    "revenue": numbers,
    "value": numbers,
    "currency": st.sampled_from(
        ['"EUR"', '"JPY"', '"KWD"', '"CLF"', '"eur"', '"XAU"', '""', "null", '"ZZZ"', "978"]
    ),
    "channel": st.sampled_from(['"email"', '"web"', '"fax"', "null"]),
    "purpose": st.sampled_from(['"marketing"', '"service"', '"x"']),
    "granted": st.sampled_from(["true", "false", "null", '"true"', "1"]),
    "products": st.one_of(products_text(), st.sampled_from(["null", "{}", "[1]", "[null]", "[{}]"])),
    "unknown": st.one_of(*ANY.values()),
    "": st.one_of(*ANY.values()),
    "a-key-of-more-than-sixteen-bytes": json_text(texts),
    "context": st.one_of(
        ANY["nested"],
        st.just('{"timezone":"Asia/Tokyo"}'),
        st.sampled_from(['"x"', "null", "[]", '{"timezone":7}']),
    ),
    "traits": st.sampled_from(['{"timezone":"Asia/Kolkata"}', "{}", "1", "null"]),
    "timezone": st.one_of(zone_texts(), ANY["nested"], numbers, json_text(texts)),
    "messageId": json_text(texts),
    "timestamp": times.map(json.dumps),
    "originalTimestamp": times.map(json.dumps),
    "sentAt": times.map(json.dumps),
    "receivedAt": times.map(json.dumps),
    "specversion": st.sampled_from(['"1.0"', '"0.3"', "null", "1"]),
    "data": st.sampled_from(["null", "{}", '{"userId":"u"}', '{"id":"z","userId":"u","price":2}', "1"]),
    "properties": st.sampled_from(["null", "{}", '{"price":2}', '{"timezone":"Europe/Paris"}']),
    "id": json_text(texts),
    "userId": json_text(texts),
}


@st.composite
def events(draw: st.DrawFn, fields_max: int = 8) -> str:
    fields = [
        ("id", draw(st.one_of(st.just('"m1"'), json_text(texts)))),
        ("type", draw(json_text(types))),
        ("time", json.dumps(draw(st.one_of(st.just("2026-03-01T11:00:00.000Z"), times)))),
        ("userId", draw(json_text(texts))),
    ]
    if not draw(st.integers(0, 9)):
        fields.pop(draw(st.integers(0, 3)))
    for key in draw(
        st.lists(st.sampled_from(sorted(OPTIONAL)), max_size=fields_max, unique=draw(st.booleans()))
    ):
        fields.append((key, draw(OPTIONAL[key])))  # noqa: PERF401
    return object_text(draw, fields)


# what most messages look like: the scanner takes these itself unless one thing is odd
plain_texts = st.sampled_from(
    ["a", "sku-1", "user-0001", "0123456789abcdef0123456789abcdef-012", "Zoë", "靴", "😀-1", "12345678"]
)
plain_numbers = st.one_of(
    st.sampled_from(
        ["12.99", "0", "-0", "-1.5", "0.125", "0.375", "1.005", "2.675", "99.995", "10000000000000", "null"]
    ),
    st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-(10**7), max_value=10**7).map(
        "{:f}".format
    ),
    st.integers(0, 10**6).map(str),
)
PLAIN_FIELDS: dict[str, st.SearchStrategy[str]] = {
    **{
        key: plain_texts.map(lambda text: json.dumps(text, ensure_ascii=False))
        for key in ("source", "loyaltyId", "anonymousId", "previousId", "product_id", "category", "store_id")
    },
    "coupon_id": st.sampled_from(['"C1"', '""', "null"]),
    "promotion_id": st.just('"P1"'),
    "price": plain_numbers,
    "quantity": st.sampled_from(["0", "1", "3", "1000000", "null", "1000001", "2.0"]),
    "amount": plain_numbers,
    "currency": st.sampled_from(['"EUR"', '"JPY"', '"KWD"', '"CLF"', "null"]),
    "channel": st.sampled_from(['"email"', '"till"', '"e-mail"', '""', "null"]),
    "purpose": st.sampled_from(['"marketing"', '"service"', '"servicE"', '""', "null"]),
    "granted": st.sampled_from(["true", "false", "null"]),
    "timezone": zone_texts(),
    "unknown": st.sampled_from(["true", "1.5", '"x"', "null", '"é"', "-0.25"]),
    "other": st.sampled_from(["false", "7", '""']),
    "products": st.sampled_from(
        [
            "[]",
            "null",
            '[{"product_id":"a","category":"c","price":1.255,"quantity":2},{"product_id":"b"}]',
            '[ { "price" : 3 , "product_id" : "" } , {} ]',
            '[{"product_id":null,"price":null,"quantity":null}]',
        ]
    ),
}


@st.composite
def plain_events(draw: st.DrawFn) -> str:
    fields = [
        ("id", '"m1"'),
        (
            draw(st.sampled_from(["type", "event"])),
            json.dumps(draw(st.sampled_from([*sorted(CODE_BY_SPELLING), *["Consent Changed"] * 8]))),
        ),
        (
            draw(st.sampled_from(["time", "timestamp"])),
            draw(
                st.sampled_from(
                    [
                        '"2026-03-01T11:00:00.000Z"',
                        '"2024-02-29T23:59:59Z"',
                        '"2000-12-31T23:59:59.999999+13:45"',
                        '"2025-06-30T00:00:00.1-09:30"',
                    ]
                )
            ),
        ),
        (draw(st.sampled_from(["userId", "loyaltyId", "anonymousId"])), '"user-1"'),
    ]
    taken = {key for key, _ in fields}
    for key in draw(st.lists(st.sampled_from(sorted(PLAIN_FIELDS)), max_size=10, unique=True)):
        if key not in taken:
            fields.append((key, draw(PLAIN_FIELDS[key])))  # noqa: PERF401
    if draw(st.integers(0, 9)) == 0:
        key = draw(st.sampled_from(sorted(OPTIONAL)))
        fields.append((key, draw(OPTIONAL[key])))
    if draw(st.integers(0, 3)) == 0:
        top = [field for field in fields if field[0] in ("id", "type", "time", "source")]
        data = object_text(draw, [field for field in fields if field not in top])
        fields = [("specversion", '"1.0"'), *top, ("data", data)]
    return object_text(draw, fields)


@st.composite
def cloud_events(draw: st.DrawFn) -> str:
    data = [("userId", draw(json_text(texts)))]
    for key in draw(st.lists(st.sampled_from(sorted(OPTIONAL)), max_size=5, unique=True)):
        data.append((key, draw(OPTIONAL[key])))  # noqa: PERF401
    fields = [
        ("specversion", '"1.0"'),
        ("id", draw(json_text(texts))),
        ("type", draw(json_text(types))),
        ("source", draw(json_text(texts))),
        ("time", '"2026-03-01T11:00:00.000Z"'),
        ("subject", draw(st.one_of(json_text(texts), st.just("null")))),
        ("data", object_text(draw, data)),
    ]
    if draw(st.booleans()):
        key = draw(st.sampled_from(["partitionkey", "messageId", "price", "datacontenttype"]))
        fields.append((key, draw(json_text(texts))))
    return object_text(draw, fields)


@st.composite
def segment_batches(draw: st.DrawFn) -> str:
    parts = []
    for _ in range(draw(st.integers(0, 3))):
        call = draw(st.sampled_from(["track", "identify", "alias", "page", "screen", "group"]))
        parts.append(
            object_text(
                draw,
                [
                    ("type", json.dumps(call)),
                    ("event", draw(json_text(types))),
                    ("messageId", draw(json_text(texts))),
                    ("userId", draw(json_text(texts))),
                    ("anonymousId", draw(json_text(texts))),
                    ("previousId", '"old"'),
                    (draw(st.sampled_from(["timestamp", "originalTimestamp"])), json.dumps(draw(times))),
                    ("sentAt", '"2026-03-01T11:00:10Z"'),
                    ("receivedAt", '"2026-03-01T11:00:12.5Z"'),
                    ("properties", draw(events(3))),
                ],
            )
        )
    return '{"batch":[' + ",".join(parts) + '],"sentAt":"2026-03-01T11:00:00Z"}'


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


lines = st.one_of(
    plain_events().map(_encode),
    plain_events().map(_encode),
    plain_events().map(_encode),
    events().map(_encode),
    cloud_events().map(_encode),
    segment_batches().map(_encode),
    st.sampled_from(
        [b"", b"  \r", b"[]", b"1", b"{}", b"\xff", b"\xef\xbb\xbf{}", b'"', b"{", b'{"id"', b"\x00", b"null"]
    ),
    st.binary(max_size=60).map(lambda line: line.replace(b"\n", b"")),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(lines, max_size=6), st.booleans())
def test_both_roads_agree_on_any_lines(parts: list[bytes], ends: bool) -> None:
    check(b"\n".join(parts) + (b"\n" if ends else b""))


@settings(max_examples=100, deadline=None)
@given(st.lists(plain_events().map(_encode), min_size=1, max_size=3), st.data())
def test_both_roads_agree_on_mutated_lines(parts: list[bytes], data: st.DataObject) -> None:
    payload = bytearray(b"\n".join(parts))
    for _ in range(data.draw(st.integers(1, 4))):
        if not payload:
            break
        at = data.draw(st.integers(0, len(payload) - 1))
        action = data.draw(st.sampled_from(["change", "cut", "insert", "end"]))
        if action == "change":
            payload[at] = data.draw(
                st.one_of(st.integers(0, 255), st.sampled_from(list(b'"\\{}[]:,\n 0e.-')))
            )
        elif action == "cut":
            del payload[at]
        elif action == "insert":
            payload.insert(at, data.draw(st.sampled_from(list(b'"\\{}[]:,\n 0e.-\x80\xff\x01'))))
        else:
            del payload[at:]
    check(bytes(payload))


@settings(max_examples=60, deadline=None)
@given(st.lists(lines, max_size=8), st.integers(1, 4))
def test_small_batches_give_what_one_batch_gives(parts: list[bytes], rows_max: int) -> None:
    check(b"\n".join(parts), rows_max)


GOOD = (
    b'{"id":"evt-%d","type":"Product Viewed","time":"2026-03-01T11:00:00.250Z","source":"web","userId":"user-1",'
    b'"anonymousId":"anon-1","product_id":"sku-7","category":"shoes","price":12.99,"quantity":2,"currency":"EUR"}'
)


def test_the_common_shape_stays_on_the_fast_road() -> None:
    payload = np.frombuffer(b"\n".join(GOOD % k for k in range(50)), dtype=np.uint8)
    scanned = run_scanner(payload, 0, 1000, 1, ROOM)
    assert scanned.records.shape[0] == 50
    assert scanned.slow.shape[0] == 0


@pytest.mark.parametrize(
    "line",
    [
        b'{"specversion":"1.0","id":"1","source":"s","type":"Cart Viewed","time":"2026-03-01T11:00:00Z",'
        b'"subject":"x","data":{"userId":"u","price":1.5}}',
        b'{"id": "1", "type": "purchase", "time": "2026-03-01T13:00:00.123456+02:00", "userId": "Zo\xc3\xab", '
        b'"currency": "JPY", "products": [{"product_id": "a", "price": 3, "quantity": 2}, {"product_id": "b"}]}',
        b'{"id":"1","type":"identify","timestamp":"2026-03-01T11:00:00Z","userId":"u","anonymousId":"a","x":null}',
        b'{"id":"1","type":"Consent Changed","time":"2026-03-01T11:00:00Z","userId":"u","channel":"email",'
        b'"purpose":"marketing","granted":true}',
        b'{"id":"1","type":"Consent Changed","time":"2026-03-01T11:00:00Z","userId":"u","channel":"sms",'
        b'"granted":false}',
        b'{"id":"1","type":"Price Updated","time":"2026-03-01T11:00:00Z","product_id":"p","price":-0.005}',
    ],
)
def test_forms_that_the_scanner_reads_itself(line: bytes) -> None:
    payload = np.frombuffer(line, dtype=np.uint8)
    assert run_scanner(payload, 0, 10, 1, ROOM).slow.shape[0] == 0
    assert check(line)["dead"] == []


def test_a_message_too_long_is_a_dead_letter_with_its_first_bytes() -> None:
    line = b'{"id":"1","x":"' + b"y" * (1 << 20) + b'"}'
    (letter,) = content(read(FAST, line))["dead"]
    assert letter.reason.startswith("message has")
    assert len(letter.raw) == 65_536


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"id":7}', "Expected `str | null`, got `int` - at `$.id`"),
        (
            b'{"id":"1","type":"Product Vewed"}',
            "unknown type 'Product Vewed': did you mean \"Product Viewed\"?",
        ),
        (b'{"id":"1","type":"screen","time":"2026-03-01T11:00:00","userId":"u"}', "has no offset"),
        (b'{"id":"1","type":"screen","time":"2026-03-09T11:00:00Z","userId":"u"}', "is in the future"),
        (b'{"id":"1","type":"screen","time":"1999-03-09T11:00:00Z","userId":"u"}', "is before 2000-01-01"),
        (b'{"id":"1","type":"screen","userId":"u"}', "no time"),
        (b'{"type":"screen"}', "no id"),
        (b'{"id":"1"}', "no type"),
        (b'{"id":"1","type":"screen","time":"2026-03-01T11:00:00Z","userId":""}', "no customer"),
        (b'{"id":"\xff"}', "not UTF-8: byte 0xff at 7"),
        (b'{"id":', "not JSON"),
        (b'{"x":' + b"[" * 100 + b"]" * 100 + b"}", "nested deeper than 64"),
    ],
)
def test_a_dead_letter_says_what_to_do(line: bytes, reason: str) -> None:
    payload = GOOD % 1 + b"\n" + line + b"\n" + GOOD % 2
    found = check(payload)
    (letter,) = found["dead"]
    assert reason in letter.reason
    assert (letter.line, letter.offset, letter.raw) == (2, len(GOOD % 1) + 1, line)
    assert len(found["records"]) == 2


# --- time zones --------------------------------------------------------------------------------------


def zone_of(line: bytes) -> str:
    """The zone that both roads read from a line; `?` for an unknown one."""
    found = check(line)
    assert found["dead"] == []
    numbers_found = {int(row[record.PACK]) >> record.ZONE_SHIFT for row in found["records"]}
    (number,) = numbers_found
    if number == record.ZONE_UNKNOWN:
        return "?"
    return zone_names()[number - 1] if number else ""


BEGIN = b'{"id":"1","type":"Product Viewed","time":"2026-03-01T11:00:00Z","userId":"u",'
TRACK = b'{"type":"track","event":"Product Viewed","messageId":"1","timestamp":"2026-03-01T11:00:00Z","userId":"u",'
IDENTIFY = b'{"type":"identify","messageId":"1","timestamp":"2026-03-01T11:00:00Z","userId":"u",'


@pytest.mark.parametrize(
    ("line", "zone"),
    [
        (BEGIN + b'"timezone":"Europe/Berlin"}', "Europe/Berlin"),
        (BEGIN + b'"timezone":"America/Argentina/ComodRivadavia"}', "America/Argentina/ComodRivadavia"),
        (BEGIN + b'"timezone":"America/Argentina/ComodRivadavia2"}', "?"),
        (BEGIN + b'"timezone":"Europe/Berln","products":[{"product_id":"a"},{"product_id":"b"}]}', "?"),
        (
            BEGIN + b'"timezone":"Asia/Tokyo","products":[{"product_id":"a"},{"product_id":"b"}]}',
            "Asia/Tokyo",
        ),
        (BEGIN + b'"timezone":""}', ""),
        (BEGIN + b'"timezone":null}', ""),
        (BEGIN + b'"timezone":120}', "?"),
        (BEGIN + b'"timezone":"UTC"}', "UTC"),
        (BEGIN + b'"context":{"timezone":"Asia/Tokyo"}}', "Asia/Tokyo"),
        (TRACK + b'"context":{"ip":"::1","timezone":"Asia/Tokyo"},"properties":{"price":1}}', "Asia/Tokyo"),
        (TRACK + b'"properties":{"timezone":"Asia/Tokyo"}}', "Asia/Tokyo"),
        (TRACK + b'"context":{"timezone":"Asia/Tokyo"},"timezone":"UTC"}', "UTC"),
        (TRACK + b'"context":{"timezone":["Asia/Tokyo"]}}', "?"),
        (TRACK + b'"context":7}', ""),
        (IDENTIFY + b'"traits":{"timezone":"Asia/Tokyo"}}', "Asia/Tokyo"),
        (
            IDENTIFY + b'"traits":{"timezone":"Asia/Tokyo"},"context":{"timezone":"Asia/Kolkata"}}',
            "Asia/Kolkata",
        ),
        (IDENTIFY + b'"traits":"none"}', ""),
        (b'{"batch":[' + TRACK + b'"context":{"timezone":"Asia/Tokyo"}}]}', "Asia/Tokyo"),
        (
            b'{"specversion":"1.0","id":"1","source":"s","type":"Cart Viewed","time":"2026-03-01T11:00:00Z",'
            b'"timezone":"Asia/Kolkata","data":{"userId":"u","timezone":"Asia/Tokyo"}}',
            "Asia/Tokyo",
        ),
    ],
)
def test_where_a_time_zone_is_told(line: bytes, zone: str) -> None:
    assert zone_of(line) == zone


def test_every_zone_is_read_on_the_fast_road() -> None:
    lines = [BEGIN + b'"timezone":"%b","quantity":1000000}' % name.encode() for name in zone_names()]
    payload = np.frombuffer(b"\n".join([*lines, BEGIN + b'"timezone":"Nowhere"}']), dtype=np.uint8)
    scanned = run_scanner(payload, 0, 2_000, 1, ROOM)
    assert scanned.slow.shape[0] == 0
    numbers_found = (scanned.records[:, record.PACK] >> record.ZONE_SHIFT).tolist()
    assert numbers_found == [*range(1, len(lines) + 1), record.ZONE_UNKNOWN]
    quantities = (scanned.records[:-1, record.PACK] >> record.QUANTITY_SHIFT) & record.QUANTITY_MASK
    assert set(quantities.tolist()) == {1_000_000}


def test_an_unknown_zone_is_counted_and_the_event_kept() -> None:
    payload = b"\n".join(
        BEGIN + b'"timezone":"%b","products":[{"product_id":"a"}]}' % name
        for name in (b"Mars", b"UTC", b"Mars")
    )
    (decoded,) = read(FAST, payload)
    before = decoded.records.copy()
    FAST.stamp(decoded, -1, 0, 0)
    assert decoded.unknown_zones == 2
    assert decoded.records.shape == before.shape
    zones = (decoded.records[:, record.PACK] >> record.ZONE_SHIFT).tolist()
    utc = zone_names().index("UTC") + 1
    assert zones == [0, 0, utc, utc, 0, 0]
