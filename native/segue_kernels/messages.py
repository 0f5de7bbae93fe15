"""Messages of librdkafka become lines in one buffer: what the scanner reads, without a Python object a message.

A line ends with a newline and holds no other: inside a message that is one event a newline becomes a carriage return,
which means the same to JSON. The elements of an array become lines: its commas become newlines. Of CloudEvents in
binary mode headers and payload become one structured event, the payload first: where it is no JSON object, it can't
change what the headers say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from segue_kernels.foreign import call_function, copy_memory, load_byte, load_word
from segue_kernels.jit import inline, kernel
from segue_kernels.lines import count_newlines
from segue_kernels.load import load8, newline_marks32, string_marks32, trailing_zeros

# int64 for the compiler, int for the type checker
whole = cast("Callable[[Any], int]", np.int64)

Words = NDArray[np.int64]
Bytes = NDArray[np.uint8]

# --- rd_kafka_message_t, part of librdkafka's stable interface: bytes from its start
MESSAGE_ERROR = 0  # 32 bits
MESSAGE_PAYLOAD = 24
MESSAGE_LENGTH = 32
MESSAGE_OFFSET = 56
MESSAGE_BYTES = 72

# --- forms
FORM_AUTO = 0  # told by the first bytes
FORM_JSON = 1
FORM_CLOUD_EVENTS = 2
FORM_MANY = 3
FORM_ARROW = 4

# --- limits int64[4]
LIMIT_LINES = 0  # of all messages together ...
LIMIT_BYTES = 1  # ... and their bytes; the first message may pass both
LIMIT_LINE_BYTES = 2  # of a message that is one event
LIMIT_MESSAGE_BYTES = 3  # of any other
LIMITS = 4

# --- functions int64[3]: addresses
CALL_DESTROY = 0  # rd_kafka_message_destroy
CALL_HEADERS = 1  # rd_kafka_message_headers
CALL_HEADER = 2  # rd_kafka_header_get_all
CALLS = 3

# --- results int64[6]
OUT_NEXT = 0  # the first message that was not taken
OUT_LINES = 1
OUT_BYTES = 2
OUT_MESSAGES = 3  # taken
OUT_STOP = 4
OUT_ROOM = 5  # bytes of buffer that the message needs which found too little room
OUT_WORDS = 6

# --- why it stopped, at the message OUT_NEXT
STOP_END = 0  # all messages were taken
STOP_FULL = 1  # the limits are met
STOP_ROOM = 2
STOP_ERROR = 3  # librdkafka's word about the partition, no message
STOP_NULL = 4  # no payload
STOP_BLANK = 5  # nothing but white space
STOP_LARGE = 6
STOP_ARRAY = 7  # begins as a JSON array and is none
STOP_ARROW = 8  # Arrow IPC

# --- scratch int64[16]: what the calls give (headers, name, value, size), then address and size of each attribute
_GIVEN = 0
_NAME = 1
_VALUE = 2
_SIZE = 3
_ATTRIBUTES = 4
SCRATCH_WORDS = 16

_TAB, _NEWLINE, _RETURN, _SPACE, _QUOTE, _COMMA, _BACKSLASH = 0x09, 0x0A, 0x0D, 0x20, 0x22, 0x2C, 0x5C
_OPEN_ARRAY, _CLOSE_ARRAY, _OPEN_OBJECT, _CLOSE_OBJECT = 0x5B, 0x5D, 0x7B, 0x7D
_LOW_32 = 0xFFFFFFFF
_ZERO = np.uint64(0)
_ONE = np.uint64(1)

# attributes of a CloudEvent that count, in the order of their number
ATTRIBUTES = ("specversion", "id", "source", "type", "time")
_SPECVERSION = 0
_NAMES = np.zeros((len(ATTRIBUTES), 16), np.uint8)
_NAME_LENGTHS = np.array([len(name) for name in ATTRIBUTES], np.int64)
for _number, _name in enumerate(ATTRIBUTES):
    _NAMES[_number, : len(_name)] = np.frombuffer(_name.encode(), np.uint8)
_PREFIX = np.frombuffer(b"ce_", np.uint8)
_DATA = np.frombuffer(b'{"data":', np.uint8)
_HEXADECIMAL = np.frombuffer(b"0123456789abcdef", np.uint8)
_ESCAPE_BYTES = 6  # of one byte that can't stand in a JSON string
_FRAME_BYTES = 96  # names, quotes, brackets


@inline
def _is_space(byte: int) -> bool:
    return byte == _SPACE or byte == _NEWLINE or byte == _RETURN or byte == _TAB


@inline
def _fold(buffer: Bytes, start: int, end: int) -> None:
    """Newlines in buffer[start:end] become carriage returns."""
    block = start
    while block < end:
        marks = newline_marks32(buffer, block)
        while marks != _ZERO:
            at = block + trailing_zeros(marks)
            if at < end:
                buffer[at] = _RETURN
            marks &= marks - _ONE
        block += 32


@inline
def _after_string(buffer: Bytes, at: int, end: int, write: bool) -> int:
    """Where a string that goes on at `at` is over, or -1 if it is not closed before `end`."""
    while at < end:
        marks = string_marks32(buffer, at)
        if marks == _ZERO:
            at += 32
            continue
        at += trailing_zeros(marks)
        if at >= end:
            break
        byte = load8(buffer, at)
        if byte == _QUOTE:
            return at + 1
        if byte == _BACKSLASH:
            at += 1
        elif byte == _NEWLINE and write:
            buffer[at] = _RETURN
        at += 1
    return -1


@kernel
def split_array(buffer: Bytes, start: int, end: int) -> int:
    """Lines that the array buffer[start:end] (it begins with a bracket) has become, or -1: it is no array.

    Only the array's own brackets and commas are looked at: whether an element is JSON its reader finds out. The buffer
    goes on for 32 bytes behind `end`.
    """
    depth = 1
    lines = 0
    blank = True
    buffer[start] = _SPACE
    at = start + 1
    while at < end:
        byte = load8(buffer, at)
        if byte == _QUOTE:
            blank = False
            at = _after_string(buffer, at + 1, end, True)
            if at < 0:
                return -1
            continue
        if byte == _COMMA:
            if depth == 1:
                if blank:
                    return -1
                buffer[at] = _NEWLINE
                lines += 1
                blank = True
        elif byte == _OPEN_OBJECT or byte == _OPEN_ARRAY:
            depth += 1
            blank = False
        elif byte == _CLOSE_OBJECT or byte == _CLOSE_ARRAY:
            depth -= 1
            if depth == 0:
                if byte == _CLOSE_OBJECT or at != end - 1 or (blank and lines > 0):
                    return -1
                if blank:
                    return 0
                buffer[at] = _NEWLINE
                return lines + 1
        elif byte == _NEWLINE:
            buffer[at] = _RETURN
        elif blank and not _is_space(byte):
            blank = False
        at += 1
    return -1


@inline
def _walk(buffer: Bytes, start: int, end: int, write: bool) -> bool:
    """Whether the brackets in buffer[start:end] agree; newlines inside them become carriage returns."""
    depth = 0
    at = start
    while at < end:
        byte = load8(buffer, at)
        if byte == _QUOTE:
            at = _after_string(buffer, at + 1, end, write)
            if at < 0:
                return False
            continue
        if byte == _OPEN_OBJECT or byte == _OPEN_ARRAY:
            depth += 1
        elif byte == _CLOSE_OBJECT or byte == _CLOSE_ARRAY:
            depth -= 1
            if depth < 0:
                return False
        elif write and byte == _NEWLINE and depth > 0:
            buffer[at] = _RETURN
        at += 1
    return depth == 0


@kernel
def fold_objects(buffer: Bytes, start: int, end: int) -> int:
    """Lines in buffer[start:end], whose last byte is a newline, after those inside of brackets were folded.

    An object over several lines becomes one; where the brackets don't agree every newline ends a line. The buffer goes
    on for 32 bytes behind `end`.
    """
    if _walk(buffer, start, end, False):
        _walk(buffer, start, end, True)
    return whole(count_newlines(buffer, start, end))


@inline
def _attribute(name: int) -> int:
    """The number of the attribute that a header's name (address) stands for, or -1."""
    for k in range(3):
        if load_byte(name + k) != _PREFIX[k]:
            return -1
    for number in range(_NAME_LENGTHS.shape[0]):
        length = _NAME_LENGTHS[number]
        k = 0
        while k < length and load_byte(name + 3 + k) == _NAMES[number, k]:
            k += 1
        if k == length and load_byte(name + 3 + k) == 0:
            return number
    return -1


@inline
def _read_headers(message: int, calls: Words, scratch: Words, scratch_address: int) -> bool:
    """Note where the attributes stand; whether they make the message a CloudEvent in binary mode."""
    for k in range(_ATTRIBUTES, SCRATCH_WORDS):
        scratch[k] = 0
    if call_function(calls[CALL_HEADERS], (message, scratch_address)) & _LOW_32 != 0:
        return False
    headers = scratch[_GIVEN]
    index = whole(0)
    while True:
        given = call_function(
            calls[CALL_HEADER],
            (headers, index, scratch_address + 8, scratch_address + 16, scratch_address + 24),
        )
        if given & _LOW_32 != 0:
            break
        index += 1
        if scratch[_VALUE] == 0:
            continue
        number = _attribute(scratch[_NAME])
        if number >= 0:
            scratch[_ATTRIBUTES + 2 * number] = scratch[_VALUE]
            scratch[_ATTRIBUTES + 2 * number + 1] = scratch[_SIZE]
    return bool(scratch[_ATTRIBUTES + 2 * _SPECVERSION] != 0)


@inline
def _put_escaped(buffer: Bytes, to: int, address: int, length: int) -> int:
    """A JSON string's inside for the bytes at an address; where it ends. Bytes that are not UTF-8 stay as they are."""
    copy_memory(address, buffer, to, length)
    plain = True
    block = to
    while block < to + length:
        marks = string_marks32(buffer, block)
        if marks != _ZERO and block + trailing_zeros(marks) < to + length:
            plain = False
            break
        block += 32
    if plain:
        return to + length
    for k in range(length):
        byte = load_byte(address + k)
        if byte == _QUOTE or byte == _BACKSLASH:
            buffer[to] = _BACKSLASH
            buffer[to + 1] = byte
            to += 2
        elif byte < _SPACE:
            buffer[to] = _BACKSLASH
            buffer[to + 1] = 0x75
            buffer[to + 2] = 0x30
            buffer[to + 3] = 0x30
            buffer[to + 4] = _HEXADECIMAL[byte >> 4]
            buffer[to + 5] = _HEXADECIMAL[byte & 15]
            to += 6
        else:
            buffer[to] = byte
            to += 1
    return to


@inline
def _put_event(buffer: Bytes, to: int, payload: int, length: int, scratch: Words) -> int:
    """The structured CloudEvent of a payload and the attributes noted, with its newline; where it ends."""
    if length > 0:
        for k in range(_DATA.shape[0]):
            buffer[to + k] = _DATA[k]
        to += _DATA.shape[0]
        copy_memory(payload, buffer, to, length)
        _fold(buffer, to, to + length)
        to += length
        buffer[to] = _COMMA
    else:
        buffer[to] = _OPEN_OBJECT
    to += 1
    for number in range(_NAME_LENGTHS.shape[0]):
        value = scratch[_ATTRIBUTES + 2 * number]
        if value == 0:
            continue
        if number != _SPECVERSION:
            buffer[to] = _COMMA
            to += 1
        buffer[to] = _QUOTE
        to += 1
        for k in range(_NAME_LENGTHS[number]):
            buffer[to + k] = _NAMES[number, k]
        to += _NAME_LENGTHS[number]
        buffer[to] = _QUOTE
        buffer[to + 1] = 0x3A
        buffer[to + 2] = _QUOTE
        to = _put_escaped(buffer, to + 3, value, scratch[_ATTRIBUTES + 2 * number + 1])
        buffer[to] = _QUOTE
        to += 1
    buffer[to] = _CLOSE_OBJECT
    buffer[to + 1] = _NEWLINE
    return to + 2


@kernel
def message_bytes(messages: Words, first: int, last: int) -> int:
    """Bytes of the payloads of messages[first:last] (addresses of rd_kafka_message_t)."""
    total = 0
    for k in range(first, last):
        total += load_word(messages[k] + MESSAGE_LENGTH)
    return total


@kernel
def take_messages(
    messages: Words,
    first: int,
    last: int,
    form: int,
    limits: Words,
    buffer: Bytes,
    offsets: Words,
    lines: Words,
    calls: Words,
    scratch: Words,
    scratch_address: int,
    out: Words,
) -> None:
    """Copy messages[first:last] as lines to the front of `buffer`, destroying each, up to one that is no line.

    messages int64[n] (addresses of rd_kafka_message_t), buffer uint8[m] with 32 bytes never written at its end; offsets
    and lines int64[last - first] get the offset of each message taken and how many lines it became; scratch_address is
    that of `scratch`. The message it stops at is not destroyed.
    """
    room = buffer.shape[0] - 32
    to = whole(0)
    rows = whole(0)
    taken = whole(0)
    stop = whole(STOP_END)
    needed = whole(0)
    at = first
    while at < last:
        message = messages[at]
        if load_word(message + MESSAGE_ERROR) & _LOW_32 != 0:
            stop = whole(STOP_ERROR)
            break
        payload = load_word(message + MESSAGE_PAYLOAD)
        length = load_word(message + MESSAGE_LENGTH)
        is_one = form == FORM_JSON or form == FORM_CLOUD_EVENTS
        if length > limits[LIMIT_LINE_BYTES if is_one else LIMIT_MESSAGE_BYTES]:
            stop = whole(STOP_LARGE)
            break
        is_event = form == FORM_CLOUD_EVENTS and _read_headers(message, calls, scratch, scratch_address)
        if payload == 0 and not is_event:
            stop = whole(STOP_NULL)
            break
        if form == FORM_ARROW:
            stop = whole(STOP_ARROW)
            break
        while length > 0 and _is_space(load_byte(payload)):
            payload += 1
            length -= 1
        while length > 0 and _is_space(load_byte(payload + length - 1)):
            length -= 1
        if length == 0 and not is_event:
            stop = whole(STOP_BLANK)
            break
        byte = whole(0)
        if length > 0:
            byte = load_byte(payload)
        if form == FORM_AUTO and byte == 0xFF and length >= 4 and load_byte(payload + 3) == 0xFF:
            stop = whole(STOP_ARROW)
            break
        needed = length + 1
        if is_event:
            needed += _FRAME_BYTES
            for number in range(_NAME_LENGTHS.shape[0]):
                needed += _ESCAPE_BYTES * scratch[_ATTRIBUTES + 2 * number + 1]
        if rows >= limits[LIMIT_LINES] or (to > 0 and to + needed > limits[LIMIT_BYTES]):
            stop = whole(STOP_FULL)
            break
        if to + needed > room:
            stop = whole(STOP_ROOM)
            break
        count = whole(1)
        if is_event:
            end = _put_event(buffer, to, payload, length, scratch)
        else:
            copy_memory(payload, buffer, to, length)
            end = to + length
            if is_one:
                _fold(buffer, to, end)
                buffer[end] = _NEWLINE
                end += 1
            elif byte == _OPEN_ARRAY:
                count = whole(split_array(buffer, to, end))
                if count < 0:
                    stop = whole(STOP_ARRAY)
                    break
                if count == 0:
                    end = to
            else:
                buffer[end] = _NEWLINE
                end += 1
                if form == FORM_AUTO:
                    count = whole(fold_objects(buffer, to, end))
                else:
                    count = whole(count_newlines(buffer, to, end))
        offsets[taken] = load_word(message + MESSAGE_OFFSET)
        lines[taken] = count
        taken += 1
        rows += count
        to = end
        call_function(calls[CALL_DESTROY], (message,))
        at += 1
    out[OUT_NEXT] = at
    out[OUT_LINES] = rows
    out[OUT_BYTES] = to
    out[OUT_MESSAGES] = taken
    out[OUT_STOP] = stop
    out[OUT_ROOM] = needed
