"""Text streams cut into chunks of complete lines, without copying a line twice."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from segue.limits import DEAD_LETTER_BYTES_MAX, MESSAGE_BYTES_MAX, READ_LINGER_MS, READ_WAIT_MS
from segue.sources.formats import BYTE_ORDER_MARK
from segue.sources.interface import QUIET, BrokenChunk, LineChunk, QuietChunk
from segue.sources.streams import QUIET_BYTES, ByteStream, StreamBroken
from segue_kernels.lines import find_line_end

READ_BYTES = 1 << 20  # read, then count, so that the bytes are still in the cache
_LINE_BYTES_GUESS = 256


class LineReader:
    """Chunks of a text stream: each line is delivered once, in order, in a LineChunk, or in a BrokenChunk.

    A LineChunk has exactly `rows_max` lines unless the input ends, breaks or pauses, a line that is too long
    comes next, or `bytes_max` is met. Too long (over `line_bytes_max`): the line becomes a BrokenChunk with
    its first bytes, and reading goes on behind it. Broken stream: its complete lines, then a BrokenChunk with
    the beginning of the line that was cut.

    offset, line: bytes and lines before the next chunk; given at the start they say what `stream` has passed.
    """

    def __init__(
        self,
        stream: ByteStream,
        file: str,
        offset: int = 0,
        line: int = 0,
        *,
        bytes_left: int | None = None,
        wait_ms: int = READ_WAIT_MS,
        line_bytes_max: int = MESSAGE_BYTES_MAX,
        read_bytes: int = READ_BYTES,
    ) -> None:
        self._stream = stream
        self._file = file
        self.offset = offset
        self.line = line
        self._bytes_left = bytes_left  # of the stream, if known: small files need no large buffer
        self._wait_ms = wait_ms  # for the first bytes of a chunk
        self._line_bytes_max = line_bytes_max
        self._read_bytes = read_bytes
        self._buffer: npt.NDArray[np.uint8] = np.empty(0, dtype=np.uint8)
        self._start = 0  # of what was not delivered
        self._end = 0  # of what was read
        self._chunk_bytes = 0
        self._ended = False
        self._broken = ""
        self._long_line: bytes | None = None  # the beginning of the too long line that is being skipped
        self._long_line_bytes = 0

    @property
    def between_lines(self) -> bool:
        """Whether all that was read is delivered: no line has begun that lacks its end."""
        return self._start == self._end and self._long_line is None

    @property
    def finished(self) -> bool:
        """Whether nothing is left: the next read would say so."""
        return self._ended and not self._broken and self.between_lines

    def read(self, rows_max: int, bytes_max: int) -> LineChunk | BrokenChunk | QuietChunk | None:
        """The next chunk, QUIET, or None when everything was delivered."""
        if self._long_line is not None:
            return self._skip_line()
        if self.offset == 0:
            quiet = self._skip_byte_order_mark()
            if quiet is not None:
                return quiet
        limit = max(bytes_max, 1)
        wanted = max(rows_max, 1)
        cut = self._start
        lines = 0
        deadline = time.monotonic() + READ_LINGER_MS / 1_000
        while True:
            stop = min(self._end, self._start + limit)
            cut, found = find_line_end(self._buffer, cut, stop, wanted - lines, self._line_bytes_max)
            lines += found
            if lines == wanted:
                return self._take(cut, lines)
            if stop - cut > self._line_bytes_max:
                return self._take(cut, lines) if lines else self._skip_line()
            if stop == self._start + limit:
                if lines:
                    return self._take(cut, lines)
                wanted, limit = 1, self._line_bytes_max + 1  # a line larger than a chunk travels alone
                continue
            if self._ended:
                return self._last(cut, lines)
            wait_ms = self._wait_ms
            if lines and self._stream.live:
                wait_ms = max(0, int((deadline - time.monotonic()) * 1_000))
            moved = self._start
            got = self._fill(max(bytes_max, rows_max * _LINE_BYTES_GUESS), rows_max, wait_ms)
            cut -= moved - self._start
            if got == QUIET_BYTES:
                return self._take(cut, lines) if lines else QUIET

    def _take(self, cut: int, lines: int) -> LineChunk:
        chunk = LineChunk(self._buffer[self._start : cut], self._file, self.offset, self.line + 1, lines)
        self._chunk_bytes = max(self._chunk_bytes, cut - self._start)
        self._consume(cut, lines)
        return chunk

    def _consume(self, cut: int, lines: int) -> None:
        self.offset += cut - self._start
        self.line += lines
        self._start = cut

    def _last(self, cut: int, lines: int) -> LineChunk | BrokenChunk | None:
        """What stands between here and the end of the stream."""
        if not self._broken:
            if cut < self._end:
                return self._take(self._end, lines + 1)
            return self._take(cut, lines) if lines else None
        if lines:
            return self._take(cut, lines)
        raw = self._buffer[self._start : self._end][:DEAD_LETTER_BYTES_MAX].tobytes()
        broken = BrokenChunk(self._file, self.offset, self.line + 1, self._broken, raw)
        self._broken = ""
        self._consume(self._end, 1 if raw else 0)
        return broken

    def _fill(self, bytes_max: int, rows_max: int, wait_ms: int) -> int:
        """Read a block behind what is there, in a new buffer if it or the chunk would not fit."""
        rest = self._end - self._start
        guess = self._chunk_bytes or rows_max * _LINE_BYTES_GUESS
        chunk_bytes = min(guess, bytes_max) + self._read_bytes
        room = max(chunk_bytes, rest + rest // 2 + self._read_bytes)
        if self._bytes_left is not None:  # one byte more, to see the end
            left = rest + self._bytes_left + 1
            chunk_bytes, room = min(chunk_bytes, left), min(room, left)
        short = self._start > 0 and len(self._buffer) - self._start < chunk_bytes
        if self._end == len(self._buffer) or short:
            fresh = np.empty(room, dtype=np.uint8)  # never the old one: chunks handed out are views of it
            fresh[:rest] = self._buffer[self._start : self._end]
            self._buffer, self._start, self._end = fresh, 0, rest
        stop = min(len(self._buffer), self._end + self._read_bytes)
        try:
            got = self._stream.readinto(self._buffer[self._end : stop].data, wait_ms)
        except StreamBroken as broken:
            self._broken = str(broken)
            got = 0
        if got == 0:
            self._ended = True
        elif got > 0:
            self._end += got
            if self._bytes_left is not None:
                self._bytes_left = max(0, self._bytes_left - got)
        return got

    def _skip_byte_order_mark(self) -> QuietChunk | None:
        while self._end - self._start < len(BYTE_ORDER_MARK) and not self._ended:
            have = self._buffer[self._start : self._end].tobytes()
            if have and not BYTE_ORDER_MARK.startswith(have):
                return None
            if self._fill(self._read_bytes, 1, self._wait_ms) == QUIET_BYTES:
                return QUIET
        if self._buffer[self._start : self._end][: len(BYTE_ORDER_MARK)].tobytes() == BYTE_ORDER_MARK:
            self._consume(self._start + len(BYTE_ORDER_MARK), 0)
        return None

    def _skip_line(self) -> BrokenChunk | QuietChunk:
        """Pass over a line that is too long; the position stays before it until its end is found."""
        if self._long_line is None:
            self._long_line = b""
            self._long_line_bytes = 0
        while True:
            cut, found = find_line_end(self._buffer, self._start, self._end, 1, self._end)
            stop = cut if found else self._end
            part = self._buffer[self._start : stop]
            room = DEAD_LETTER_BYTES_MAX - len(self._long_line)
            self._long_line += part[:room].tobytes()
            self._long_line_bytes += len(part)
            self._start = stop
            if found or self._ended:
                break
            if self._fill(self._read_bytes, 1, self._wait_ms) == QUIET_BYTES:
                return QUIET
        length = self._long_line_bytes - found
        raw = self._long_line[:length]
        reason = f"a line of {length} bytes; the longest that is read has {self._line_bytes_max}"
        broken = BrokenChunk(self._file, self.offset, self.line + 1, reason, raw)
        self.offset += self._long_line_bytes
        self.line += 1
        self._long_line = None
        return broken

    def close(self) -> None:
        self._stream.close()
