"""Line reading against `bytes.split`, whatever the sizes of buffers, chunks and reads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from segue.sources.formats import BYTE_ORDER_MARK
from segue.sources.interface import BrokenChunk, LineChunk, QuietChunk
from segue.sources.lines import LineReader
from segue.sources.streams import QUIET_BYTES, StreamBroken
from segue_kernels.lines import find_line_end

TEXT = st.lists(st.binary(max_size=30).map(lambda b: b.replace(b"\n", b"")), max_size=40)


def naive_line_end(data: bytes, start: int, end: int, lines_max: int, line_bytes_max: int) -> tuple[int, int]:
    position = start
    for found in range(lines_max):
        newline = data.find(b"\n", position, end)
        if newline < 0 or newline - position > line_bytes_max:
            return position, found
        position = newline + 1
    return position, lines_max


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from([b"\n", b"a" * 3, b"b" * 4_095, b"c" * 4_096, b"\n\n"]), max_size=12),
    st.integers(0, 5),
    st.integers(0, 12),
    st.sampled_from([0, 2, 3, 4_095, 4_100, 1 << 20]),
)
def test_find_line_end_is_the_naive_one(
    parts: list[bytes], start: int, lines_max: int, line_bytes_max: int
) -> None:
    data = b"".join(parts)
    start = min(start, len(data))
    found = find_line_end(np.frombuffer(data, dtype=np.uint8), start, len(data), lines_max, line_bytes_max)
    assert found == naive_line_end(data, start, len(data), lines_max, line_bytes_max)


class Trickle:
    """A stream that gives its bytes in portions; an empty portion is a pause."""

    live = True

    def __init__(self, portions: list[bytes], broken: str = "") -> None:
        self.portions = list(portions)
        self.broken = broken

    def readinto(self, view: memoryview, wait_ms: int = 0) -> int:
        if not self.portions:
            if self.broken:
                raise StreamBroken(self.broken)
            return 0
        portion = self.portions.pop(0)
        if not portion:
            return QUIET_BYTES
        n = min(len(view), len(portion))
        view[:n] = portion[:n]
        if portion[n:]:
            self.portions.insert(0, portion[n:])
        return n

    def close(self) -> None:
        pass


def portioned(data: bytes, sizes: list[int]) -> list[bytes]:
    portions = []
    at = 0
    for size in sizes:
        portions.append(data[at : at + size])
        at += size
    return [*portions, data[at:]] if data[at:] else portions


@settings(max_examples=200, deadline=None)
@given(
    TEXT,
    st.booleans(),
    st.lists(st.integers(0, 50), max_size=20),
    st.integers(1, 7),
    st.integers(1, 200),
    st.integers(1, 25),
    st.integers(1, 64),
    st.sampled_from(["", "torn"]),
)
@example([BYTE_ORDER_MARK], False, [], 1, 1, 1, 1, "")
@example([BYTE_ORDER_MARK], False, [], 1, 1, 1, 1, "torn")
def test_each_line_once_in_order(
    lines: list[bytes],
    last_newline: bool,
    sizes: list[int],
    rows_max: int,
    bytes_max: int,
    line_bytes_max: int,
    read_bytes: int,
    broken: str,
) -> None:
    data = b"\n".join(lines) + (b"\n" if last_newline and lines else b"")
    stream = Trickle(portioned(data, sizes), broken)
    reader = LineReader(stream, "f", line_bytes_max=line_bytes_max, read_bytes=read_bytes)
    rebuilt = BYTE_ORDER_MARK if data.startswith(BYTE_ORDER_MARK) else b""  # it is no part of any line
    seen = 0
    kept: list[tuple[LineChunk, bytes]] = []
    breaks = []
    while (chunk := reader.read(rows_max, bytes_max)) is not None:
        if isinstance(chunk, QuietChunk):
            continue
        assert chunk.offset == len(rebuilt)
        if isinstance(chunk, LineChunk):
            payload = chunk.payload.tobytes()
            assert chunk.first_line == seen + 1
            assert 1 <= chunk.rows_hint <= rows_max
            assert chunk.rows_hint == payload.count(b"\n") + (not payload.endswith(b"\n"))
            assert len(payload) <= bytes_max or chunk.rows_hint == 1
            assert all(len(line) <= line_bytes_max for line in payload.split(b"\n"))
            kept.append((chunk, payload))
            rebuilt += payload
            seen += chunk.rows_hint
        else:
            breaks.append(chunk)
            assert chunk.row == seen + 1
            if chunk.reason == "torn":
                assert rebuilt + chunk.raw == data
                assert b"\n" not in chunk.raw
                rebuilt += chunk.raw
            else:
                assert len(chunk.raw) > line_bytes_max
                rebuilt += chunk.raw
                rebuilt += data[len(rebuilt) : len(rebuilt) + 1]  # its newline
                seen += 1
        assert reader.offset == len(rebuilt)
    assert rebuilt == data
    assert [b.reason for b in breaks].count("torn") == bool(broken)
    for chunk, payload in kept:  # nothing was written over after it was handed out
        assert chunk.payload.tobytes() == payload


def test_chunks_have_exactly_the_rows_asked_for() -> None:
    data = b"".join(b'{"n":%d}\n' % i for i in range(1_000))
    reader = LineReader(Trickle([data]), "f", read_bytes=100)
    rows = []
    while isinstance(chunk := reader.read(64, 1 << 20), LineChunk):
        rows.append(chunk.rows_hint)
    assert rows == [64] * 15 + [40]


def test_a_line_beyond_the_bound_is_cut_out() -> None:
    data = b"a\n" + b"x" * 3_000_000 + b"\nb\n"
    reader = LineReader(Trickle([data]), "f")
    first, long, last = (reader.read(10, 1 << 20) for _ in range(3))
    assert isinstance(first, LineChunk)
    assert isinstance(long, BrokenChunk)
    assert isinstance(last, LineChunk)
    assert (long.offset, long.row, len(long.raw)) == (2, 2, 65_536)
    assert "3000000 bytes" in long.reason
    assert (last.payload.tobytes(), last.first_line, last.offset) == (b"b\n", 3, 3_000_003)
    assert reader.read(10, 1 << 20) is None


@pytest.mark.parametrize("length", [1 << 20, (1 << 20) - 1])
def test_a_line_at_the_bound_is_read(length: int) -> None:
    reader = LineReader(Trickle([b"x" * length]), "f")
    chunk = reader.read(10, 1_000)
    assert isinstance(chunk, LineChunk)
    assert len(chunk.payload) == length
    assert reader.read(10, 1_000) is None


def test_a_byte_order_mark_is_not_part_of_the_first_line() -> None:
    for portions in ([b"\xef\xbb\xbf{}\n"], [b"\xef", b"", b"\xbb\xbf{}", b"\n"]):
        reader = LineReader(Trickle(portions), "f")
        chunk = reader.read(10, 100)
        while isinstance(chunk, QuietChunk):
            chunk = reader.read(10, 100)
        assert isinstance(chunk, LineChunk)
        assert (chunk.payload.tobytes(), chunk.offset) == (b"{}\n", 3)
