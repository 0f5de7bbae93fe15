"""Messages of librdkafka as lines, against what Python's json says. The messages are made, the library is not there."""

from __future__ import annotations

import ctypes
import json
import os
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from segue_kernels import messages as kernel

EXAMPLES = int(os.environ.get("SEGUE_TEST_EXAMPLES", "100"))
PADDING_BYTES = 32
LINE_BYTES_MAX = 1 << 16
ROOM = 1 << 18
_DESTROY = ctypes.CFUNCTYPE(None, ctypes.c_int64)
_HEADERS = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int64, ctypes.c_int64)
_HEADER = ctypes.CFUNCTYPE(
    ctypes.c_int32, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64
)
_NO_ENTRY = -156


@dataclass
class Made:
    """A message as its sender made it."""

    payload: bytes | None
    headers: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    error: int = 0


@dataclass
class Taken:
    """What the kernel made of messages: lines by offset, and where and why it stopped."""

    lines: list[tuple[int, bytes]]
    next: int
    stop: int
    destroyed: list[int]


class Library:
    """Stands in for librdkafka: messages in memory, and the three functions."""

    def __init__(self, made: list[Made]) -> None:
        self.keep: list[object] = []
        self.addresses = np.zeros(len(made), np.int64)
        self.made: dict[int, Made] = {}
        self.destroyed: list[int] = []
        for offset, message in enumerate(made):
            words = np.zeros(kernel.MESSAGE_BYTES // 8, np.int64)
            # what stands above the error's 32 bits is padding
            words[0] = (message.error & 0xFFFFFFFF) | (0x7777 << 32)
            if message.payload is not None:
                words[kernel.MESSAGE_PAYLOAD // 8] = self.bytes_at(message.payload)
                words[kernel.MESSAGE_LENGTH // 8] = len(message.payload)
            words[kernel.MESSAGE_OFFSET // 8] = offset
            self.keep.append(words)
            self.addresses[offset] = words.ctypes.data
            self.made[words.ctypes.data] = message
        functions = [_DESTROY(self.destroyed.append), _HEADERS(self.headers), _HEADER(self.header)]
        self.keep += functions
        self.calls = np.array([ctypes.cast(f, ctypes.c_void_p).value for f in functions], np.int64)

    def bytes_at(self, text: bytes) -> int:
        buffer = ctypes.create_string_buffer(text)
        self.keep.append(buffer)
        return ctypes.addressof(buffer)

    def headers(self, message: int, given: int) -> int:
        if not self.made[message].headers:
            return _NO_ENTRY
        ctypes.c_int64.from_address(given).value = message
        return 0

    def header(self, message: int, index: int, name: int, value: int, size: int) -> int:
        headers = self.made[message].headers
        if index >= len(headers):
            return _NO_ENTRY
        found = headers[index][1]
        ctypes.c_int64.from_address(name).value = self.bytes_at(headers[index][0])
        ctypes.c_int64.from_address(value).value = 0 if found is None else self.bytes_at(found)
        ctypes.c_int64.from_address(size).value = len(found or b"")
        return 0

    def take(self, form: int, lines_max: int = 1 << 20, bytes_max: int = 1 << 20, room: int = ROOM) -> Taken:
        count = len(self.addresses)
        limits = np.array([lines_max, bytes_max, LINE_BYTES_MAX, 2 * LINE_BYTES_MAX], np.int64)
        buffer = np.full(room + PADDING_BYTES, 0x7B, np.uint8)
        offsets, lines = np.zeros(count, np.int64), np.zeros(count, np.int64)
        scratch, out = np.zeros(kernel.SCRATCH_WORDS, np.int64), np.zeros(kernel.OUT_WORDS, np.int64)
        kernel.take_messages(
            self.addresses,
            0,
            count,
            form,
            limits,
            buffer,
            offsets,
            lines,
            self.calls,
            scratch,
            scratch.ctypes.data,
            out,
        )
        after, rows, size, taken, stop, _ = out.tolist()
        text = buffer[:size].tobytes()
        assert text.count(b"\n") == rows
        assert size == 0 or text.endswith(b"\n")
        assert (buffer[room:] == 0x7B).all()
        each = np.repeat(offsets[:taken], lines[:taken]).tolist()
        assert self.destroyed == self.addresses[:after].tolist()
        return Taken(list(zip(each, text.split(b"\n")[:-1], strict=True)), after, stop, self.destroyed)


def taken(*payloads: bytes | None, form: int) -> Taken:
    return Library([Made(payload) for payload in payloads]).take(form)


texts = st.text(max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(texts, values, max_size=4)


@st.composite
def written(draw: st.DrawFn, what: st.SearchStrategy[object]) -> tuple[object, bytes]:
    """A value and one of the ways to write it."""
    value = draw(what)
    text = json.dumps(value, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1])))
    space = st.sampled_from(["", " ", "\n", "\r\n", "\t \n\n"])
    return value, (draw(space) + text + draw(space)).encode()


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(written(objects), max_size=6), st.sampled_from([kernel.FORM_JSON, kernel.FORM_AUTO]))
def test_an_object_a_message_is_a_line(given_: list[tuple[object, bytes]], form: int) -> None:
    got = taken(*(text for _, text in given_), form=form)
    assert got.stop == kernel.STOP_END
    assert [offset for offset, _ in got.lines] == list(range(len(given_)))
    assert [json.loads(line) for _, line in got.lines] == [value for value, _ in given_]


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    st.lists(written(st.lists(values, max_size=5)), max_size=4),
    st.sampled_from([kernel.FORM_MANY, kernel.FORM_AUTO]),
)
def test_elements_of_an_array_are_lines(given_: list[tuple[object, bytes]], form: int) -> None:
    got = taken(*(text for _, text in given_), form=form)
    assert got.stop == kernel.STOP_END
    expected = [(k, element) for k, (array, _) in enumerate(given_) for element in array]  # type: ignore[attr-defined]
    assert [(offset, json.loads(line)) for offset, line in got.lines] == expected


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(written(objects), min_size=1, max_size=6), st.sampled_from(["\n", "\r\n", "\n\n"]))
def test_lines_of_objects_are_lines(given_: list[tuple[object, bytes]], end: str) -> None:
    """As lines of one message, objects over several lines too."""
    got = taken(end.encode().join(text.strip() for _, text in given_), form=kernel.FORM_AUTO)
    lines = [json.loads(line) for _, line in got.lines if line.strip()]
    assert lines == [value for value, _ in given_]
    assert {offset for offset, _ in got.lines} == {0}


pieces = st.lists(
    st.sampled_from([b"[", b"]", b"{", b"}", b",", b'"', b"\\", b"1", b"\n", b" ", b"\xc3"]), max_size=12
)


@settings(max_examples=3 * EXAMPLES, deadline=None)
@given(pieces)
def test_an_array_is_split_or_refused_whole(drawn: list[bytes]) -> None:
    """What json takes is split as json splits it; what is split is made of all the bytes, whoever reads them."""
    text = (b"[" + b"".join(drawn)).rstrip()
    buffer = np.full(len(text) + PADDING_BYTES, 0x5D, np.uint8)
    buffer[: len(text)] = np.frombuffer(text, np.uint8)
    lines = int(kernel.split_array(buffer, 0, len(text)))
    try:
        expected = json.loads(text)
    except ValueError:
        expected = None
    after = buffer[: len(text)].tobytes()
    if expected is not None:
        assert lines == len(expected)
        if lines:
            assert [json.loads(line) for line in after.split(b"\n")[:-1]] == expected
    if lines > 0:
        assert after.count(b"\n") == lines
        assert after.endswith(b"\n")
        changed = {(before, now) for before, now in zip(text, after, strict=True) if before != now}
        assert changed <= {
            (ord("["), ord(" ")),
            (ord(","), ord("\n")),
            (ord("]"), ord("\n")),
            (ord("\n"), ord("\r")),
        }


def test_lines_whose_brackets_disagree_stand_for_themselves() -> None:
    got = taken(b'{"a":1}\n{"b":"x\n{"c":3}', form=kernel.FORM_AUTO)
    assert [line for _, line in got.lines] == [b'{"a":1}', b'{"b":"x', b'{"c":3}']


def test_many_keeps_its_lines() -> None:
    got = taken(b'{"a":1}\n\n{"b":[\n1]}\n', b"{}", form=kernel.FORM_MANY)
    assert got.lines == [(0, b'{"a":1}'), (0, b""), (0, b'{"b":['), (0, b"1]}"), (1, b"{}")]


def test_a_newline_inside_a_string_stays_wrong() -> None:
    """As a space it would have become right."""
    for form in (kernel.FORM_JSON, kernel.FORM_CLOUD_EVENTS, kernel.FORM_AUTO):
        assert taken(b'{"a":"x\ny"}', form=form).lines == [(0, b'{"a":"x\ry"}')]


ENVELOPE = [(b"ce_specversion", b"1.0"), (b"ce_id", b"17"), (b"ce_type", b"Product Viewed")]
header_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    written(objects),
    st.dictionaries(st.sampled_from(["id", "source", "type", "time"]), header_texts),
    st.dictionaries(st.sampled_from(["content-type", "ce_subject", "ce_i", "ce_idx", "c", ""]), header_texts),
    st.randoms(use_true_random=False),
)
def test_headers_and_payload_become_one_event(
    payload: tuple[object, bytes], attributes: dict[str, str], others: dict[str, str], order: object
) -> None:
    headers = [(f"ce_{name}".encode(), text.encode()) for name, text in attributes.items()]
    headers += [(name.encode(), text.encode()) for name, text in others.items()]
    headers.append((b"ce_specversion", b"1.0"))
    order.shuffle(headers)  # type: ignore[attr-defined]
    got = Library([Made(payload[1], headers)]).take(kernel.FORM_CLOUD_EVENTS)
    assert got.stop == kernel.STOP_END
    (line,) = [line for _, line in got.lines]
    assert json.loads(line) == {"specversion": "1.0", **attributes, "data": payload[0]}


def test_an_event_may_have_no_payload() -> None:
    got = Library([Made(None, ENVELOPE)]).take(kernel.FORM_CLOUD_EVENTS)
    assert [json.loads(line) for _, line in got.lines] == [
        {"specversion": "1.0", "id": "17", "type": "Product Viewed"}
    ]


def test_what_follows_the_payload_s_object_does_not_change_the_headers() -> None:
    got = Library([Made(b'{"price":1},"id":"99"', ENVELOPE)]).take(kernel.FORM_CLOUD_EVENTS)
    assert json.loads(got.lines[0][1])["id"] == "17"


def test_without_a_version_the_payload_is_the_event() -> None:
    got = Library([Made(b'{"id":"1"}', ENVELOPE[1:]), Made(b'{"id":"2"}')]).take(kernel.FORM_CLOUD_EVENTS)
    assert [line for _, line in got.lines] == [b'{"id":"1"}', b'{"id":"2"}']


def test_it_stops_at_what_is_no_line() -> None:
    stops: list[tuple[Made, int, int]] = [
        (Made(b"x", error=-191), kernel.FORM_JSON, kernel.STOP_ERROR),
        (Made(None), kernel.FORM_JSON, kernel.STOP_NULL),
        (Made(None), kernel.FORM_CLOUD_EVENTS, kernel.STOP_NULL),
        (Made(b""), kernel.FORM_MANY, kernel.STOP_BLANK),
        (Made(b" \n"), kernel.FORM_JSON, kernel.STOP_BLANK),
        (Made(b"x" * (LINE_BYTES_MAX + 1)), kernel.FORM_JSON, kernel.STOP_LARGE),
        (Made(b"x" * (2 * LINE_BYTES_MAX + 1)), kernel.FORM_MANY, kernel.STOP_LARGE),
        (Made(b"[1,"), kernel.FORM_MANY, kernel.STOP_ARRAY),
        (Made(b"\xff\xff\xff\xff\x00"), kernel.FORM_AUTO, kernel.STOP_ARROW),
        (Made(b"{}"), kernel.FORM_ARROW, kernel.STOP_ARROW),
    ]
    for made, form, stop in stops:
        before = [] if form == kernel.FORM_ARROW else [Made(b"{}")]
        got = Library([*before, made, Made(b"{}")]).take(form)
        assert (got.stop, got.next) == (stop, len(before))
        assert [line for _, line in got.lines] == [b"{}"] * len(before)


def test_it_stops_at_its_limits_but_takes_one_message() -> None:
    made = [Made(b'{"a":1}') for _ in range(5)]
    assert Library(made).take(kernel.FORM_JSON, lines_max=2).next == 2
    assert Library(made).take(kernel.FORM_JSON, bytes_max=16).next == 2
    assert Library(made).take(kernel.FORM_JSON, bytes_max=1).next == 1
    got = Library(made).take(kernel.FORM_JSON, room=20)
    assert (got.next, got.stop) == (2, kernel.STOP_ROOM)


def test_the_bytes_of_payloads_are_summed() -> None:
    library = Library([Made(b"abc"), Made(None), Made(b"de"), Made(b"f")])
    addresses: npt.NDArray[np.int64] = library.addresses
    assert kernel.message_bytes(addresses, 0, 3) == 5
