"""Bytes of an input in order: plain files, pipes, and what gzip or zstd wraps.

One law holds for all: every byte that can be read is delivered before the stream ends or says it broke.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import stat
import zlib
from typing import Protocol

import zstandard

from segue.limits import READ_WAIT_MS

QUIET_BYTES = -1  # nothing to read now, more may come

_GZIP_INPUT_BYTES = 1 << 16
_ZSTD_INPUT_BYTES = 1 << 12  # a hostile frame can grow 30,000 times: this bounds what one step makes
_PIPE_BYTES = 1 << 20


class StreamBroken(Exception):  # noqa: N818 - not an error of the program: an outcome of reading
    """Nothing more can be read from this stream; the text says why."""


class ByteStream(Protocol):
    """Bytes in order."""

    def readinto(self, view: memoryview, wait_ms: int = READ_WAIT_MS) -> int:
        """Fill the front of `view`: bytes filled, 0 = ended, QUIET_BYTES = none came within `wait_ms`.

        Raises StreamBroken.
        """

    @property
    def live(self) -> bool:
        """Whether it may be quiet."""

    def close(self) -> None:
        """Let go of the file."""


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__


class FileBytes:
    """A regular file up to the size it has when opened; a change since then breaks the stream at its end."""

    live = False

    def __init__(self, path: str, offset: int = 0) -> None:
        self._path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._opened = os.fstat(self._fd)
        self.size = self._opened.st_size
        self._offset = offset
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)

    def readinto(self, view: memoryview, wait_ms: int = READ_WAIT_MS) -> int:
        wanted = min(len(view), self.size - self._offset)
        if wanted <= 0:
            self._check_unchanged()
            return 0
        try:
            n = os.preadv(self._fd, [view[:wanted]], self._offset)
        except OSError as error:
            raise StreamBroken(f"can't be read: {_reason(error)}") from error
        if n == 0:
            raise StreamBroken(
                f"was cut while it was read: it had {self.size} bytes, now it ends at {self._offset}"
            )
        self._offset += n
        return n

    def _check_unchanged(self) -> None:
        reason = change(self._opened, os.fstat(self._fd))
        if reason:
            raise StreamBroken(reason)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def change(before: os.stat_result, after: os.stat_result) -> str:
    """What happened to a file between two looks at it, or ""."""
    if after.st_nlink == 0:
        return f"vanished while it was read (the {before.st_size} bytes it had were read)"
    if after.st_size > before.st_size:
        more = after.st_size - before.st_size
        return f"grew while it was read: {more} bytes after the first {before.st_size} were not read"
    if after.st_size < before.st_size:
        return f"was cut while it was read: from {before.st_size} bytes to {after.st_size}"
    if (after.st_mtime_ns, after.st_ino, after.st_dev) != (before.st_mtime_ns, before.st_ino, before.st_dev):
        return "changed while it was read: its rows may be a mixture of old and new"
    return ""


class PipeBytes:
    """A pipe, a socket, a terminal, or a file that is standard input. Its first bytes can be looked at."""

    def __init__(self, fd: int, owned: bool) -> None:
        self._fd = fd
        self._owned = owned
        self._ahead = b""
        self._ended = False
        self.live = not stat.S_ISREG(os.fstat(fd).st_mode)
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            with contextlib.suppress(OSError):
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def peek(self, n: int, wait_ms: int = READ_WAIT_MS) -> bytes | None:
        """The next `n` bytes (less if fewer stand in front of a pause or the end); None = none yet."""
        while len(self._ahead) < n and not self._ended:
            block = bytearray(n)
            got = self._read(memoryview(block), wait_ms)
            if got == QUIET_BYTES:
                return self._ahead or None
            if got == 0:
                break
            self._ahead += block[:got]
        return self._ahead[:n]

    def readinto(self, view: memoryview, wait_ms: int = READ_WAIT_MS) -> int:
        if self._ahead:
            n = min(len(view), len(self._ahead))
            view[:n] = self._ahead[:n]
            self._ahead = self._ahead[n:]
            return n
        return self._read(view, wait_ms)

    def _read(self, view: memoryview, wait_ms: int) -> int:
        if self._ended:
            return 0
        try:
            if self.live and not self._poll.poll(wait_ms):
                return QUIET_BYTES
            n = os.readv(self._fd, [view])
        except BlockingIOError:
            return QUIET_BYTES
        except OSError as error:
            self._ended = True
            raise StreamBroken(f"can't be read: {_reason(error)}") from error
        self._ended = n == 0
        return n

    def close(self) -> None:
        if self._owned and self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


class BlockingFile:
    """A pipe as the blocking file object that Arrow's stream reader wants."""

    closed = False

    def __init__(self, pipe: PipeBytes) -> None:
        self._pipe = pipe

    def read(self, n: int = -1) -> bytes:
        if n < 0:
            raise OSError(errno.EINVAL, "a pipe is read in pieces")
        block = bytearray(n)
        view = memoryview(block)
        got = 0
        while got < n:
            step = self._pipe.readinto(view[got:])
            if step == 0:
                break
            got += max(step, 0)
        return bytes(block[:got])

    def close(self) -> None:
        self._pipe.close()


class _Inflating:
    """What gzip and zstd share: compressed blocks in, plain bytes out, a break only after the last."""

    step_bytes = 0

    def __init__(self, inner: ByteStream) -> None:
        self._inner = inner
        self._block = bytearray(self.step_bytes)
        self._plain = memoryview(b"")
        self._broken = ""
        self._ended = False

    @property
    def live(self) -> bool:
        return self._inner.live

    def readinto(self, view: memoryview, wait_ms: int = READ_WAIT_MS) -> int:
        filled = 0
        while filled < len(view):
            if self._plain:
                n = min(len(view) - filled, len(self._plain))
                view[filled : filled + n] = self._plain[:n]
                self._plain = self._plain[n:]
                filled += n
                continue
            if self._broken:
                if filled:
                    return filled
                raise StreamBroken(self._broken)
            if self._ended:
                return filled
            try:
                got = self._more(0 if filled else wait_ms)
            except StreamBroken as broken:
                self._broken = str(broken)
                continue
            if got == QUIET_BYTES:
                return filled or QUIET_BYTES
        return filled

    def _more(self, wait_ms: int) -> int:
        """Take a step: plain bytes, an end, a break or a pause."""
        got = self._inner.readinto(memoryview(self._block), wait_ms)
        if got == QUIET_BYTES:
            return got
        self._plain = memoryview(self._inflate(bytes(self._block[:got])) if got else self._finish())
        return got

    def _inflate(self, data: bytes) -> bytes:
        raise NotImplementedError

    def _finish(self) -> bytes:
        raise NotImplementedError

    def close(self) -> None:
        self._inner.close()


class GzipBytes(_Inflating):
    """The text inside gzip, members one after the other; zeros after the last are padding."""

    step_bytes = _GZIP_INPUT_BYTES

    def __init__(self, inner: ByteStream) -> None:
        super().__init__(inner)
        self._member = zlib.decompressobj(wbits=31)
        self._fresh = True  # no byte of the present member was seen
        self._members = 0

    def _more(self, wait_ms: int) -> int:
        if self._member.unconsumed_tail:
            self._plain = memoryview(self._inflate(self._member.unconsumed_tail))
            return 1
        return super()._more(wait_ms)

    def _inflate(self, data: bytes) -> bytes:
        pieces: list[bytes] = []
        while data:
            if self._fresh and self._members:
                data = data.lstrip(b"\x00")
                if not b"\x1f\x8b".startswith(data[:2]):
                    self._broken = f"bytes that are not gzip follow its member {self._members}"
                    break
                if not data:
                    break
            before = self._member.copy()
            try:
                pieces.append(self._member.decompress(data, _PIPE_BYTES))
            except zlib.error as error:
                self._broken = f"gzip is damaged: {error}"
                pieces.append(_up_to_the_damage(before, data))
                break
            self._fresh = False
            data = b""
            if self._member.eof:
                data = self._member.unused_data
                self._member = zlib.decompressobj(wbits=31)
                self._fresh = True
                self._members += 1
        return b"".join(pieces)

    def _finish(self) -> bytes:
        if not self._fresh:
            self._broken = "gzip is cut off: its end is missing"
        self._ended = True
        return b""


def _up_to_the_damage(member: zlib._Decompress, data: bytes) -> bytes:
    """What a gzip member still gives before the byte at which it fails."""
    plain = b""
    with contextlib.suppress(zlib.error):
        for i in range(len(data)):
            plain += member.decompress(data[i : i + 1])
    return plain


class ZstdBytes(_Inflating):
    """The text inside zstd, frames one after the other."""

    step_bytes = _ZSTD_INPUT_BYTES

    def __init__(self, inner: ByteStream) -> None:
        super().__init__(inner)
        self._context = zstandard.ZstdDecompressor()
        self._frame = self._context.decompressobj()
        self._fresh = True

    def _inflate(self, data: bytes) -> bytes:
        plain = b""
        while data:
            try:
                plain += self._frame.decompress(data)
            except zstandard.ZstdError as error:
                self._broken = f"zstd is damaged: {error}"
                break
            self._fresh = False
            data = b""
            if self._frame.eof:
                data = self._frame.unused_data
                self._frame = self._context.decompressobj()
                self._fresh = True
        return plain

    def _finish(self) -> bytes:
        if not self._fresh:
            self._broken = "zstd is cut off: its end is missing"
        self._ended = True
        return b""
