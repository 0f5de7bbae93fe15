"""A folder of outputs: JSON Lines a channel, dead letters, late events; the decision log, changes and joins.

The last three are Arrow IPC streams (`decisions.arrows`), not Parquet: Parquet keeps its directory at the
end of the file, so a crash would leave nothing readable; of a stream, all batches before the crash are. Read
one with `pyarrow.ipc.open_stream`, or a torn one with `read_batches`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from segue.errors import SinkError
from segue.sinks.interface import Item, Sink

DECISIONS = "decisions"
DEAD_LETTERS = "dead_letters"
LATE = "late"
CHANGES = "changes"
JOINS = "joins"
TABLES = (DECISIONS, CHANGES, JOINS)  # the outputs that take batches, not lines

WRITE_BYTES = 1 << 20  # buffered before they are written
LOG_ROWS = 65_536  # rows of a batch of the decision log
LOG_BYTES = 64 << 20  # ... which ends here even when it has fewer

_STEP = "write results"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_HINTS = {
    errno.ENOSPC: "free some space or choose another folder; the file ends with a complete line or batch",
    errno.EDQUOT: "the quota of this user is used up; the file ends with a complete line or batch",
    errno.EFBIG: "the file has the greatest size allowed here (ulimit -f, or the file system's bound)",
    errno.EACCES: "let this user write there, or choose another folder",
    errno.EPERM: "let this user write there, or choose another folder",
    errno.EROFS: "choose a folder that can be written",
    errno.EMFILE: "raise the number of open files (ulimit -n)",
    errno.ENOENT: "the folder vanished while it was written to",
}


def _failed(path: str | Path, error: OSError) -> SinkError:
    found = f'"{path}" can\'t be written: {error.strerror or error}'
    return SinkError(_STEP, found, _HINTS.get(error.errno or 0, "check the disk and the folder"))


def output_path(folder: str | os.PathLike[str], name: str) -> Path:
    """The file of an output. Raises SinkError for a name that could leave the folder."""
    if not _NAME.fullmatch(name):
        hint = "letters a-z, digits, - and _ are possible, 64 at most"
        raise SinkError(_STEP, f'"{name}" can\'t be the name of an output', hint)
    return Path(folder) / (f"{name}.arrows" if name in TABLES else f"{name}.jsonl")


def prepare_folder(folder: str | os.PathLike[str], names: Sequence[str], *, overwrite: bool = False) -> Path:
    """Afterwards the folder is there, can be written, and holds none of the outputs.

    Called once, before workers start. Outputs of an earlier run are refused, or removed with
    `overwrite`; other files are left alone.
    Raises SinkError: the path is a file, no permission, existing outputs.
    """
    path = Path(folder)
    outputs = [output_path(path, name) for name in names]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        taken = next(p for p in (path, *path.parents) if p.exists())
        raise SinkError(_STEP, f'"{taken}" is not a folder', "choose another output folder") from error
    except OSError as error:
        raise _failed(path, error) from error
    existing = [output for output in outputs if os.path.lexists(output)]
    for output in existing:
        if output.is_dir() and not output.is_symlink():
            raise SinkError(
                _STEP, f'"{output}" is a folder; an output goes there', "remove it, or choose another"
            )
    if existing and not overwrite:
        more = f" and {len(existing) - 1} more outputs" if len(existing) > 1 else ""
        raise SinkError(
            _STEP, f'"{existing[0]}"{more} exist already', "choose another folder, or allow to overwrite them"
        )
    probe = path / f".segue-{os.getpid()}"
    try:
        for output in existing:
            output.unlink()
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise _failed(path, error) from error
    return path


class _Tail:
    """The end of a file: whole units (lines, batches) are appended; a half-written one is cut, and raises."""

    def __init__(self, path: str | os.PathLike[str], replace: bool) -> None:
        self.path = os.fspath(path)
        exclusive = os.O_TRUNC if replace else os.O_EXCL
        try:
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | exclusive, 0o666)
            self._regular = stat.S_ISREG(os.fstat(self._fd).st_mode)
        except FileExistsError as error:
            hint = "two outputs of one name, or another run writes to the folder"
            raise SinkError(_STEP, f'"{self.path}" exists already', hint) from error
        except IsADirectoryError as error:
            raise SinkError(_STEP, f'"{self.path}" is a folder', "remove it, or choose another") from error
        except OSError as error:
            raise _failed(self.path, error) from error
        self._size = 0  # bytes of whole units
        self.failure: SinkError | None = None

    def append(self, data: bytes | memoryview) -> None:
        """Write whole units, or cut off what was written of them and raise."""
        self.check()
        view = memoryview(data).cast("B")
        written = 0
        try:
            while written < len(view):
                written += os.write(self._fd, view[written:])
        except OSError as error:
            self._fail(error, self._whole(view[:written]))
        self._size += len(view)

    @staticmethod
    def _whole(written: memoryview) -> int:
        """Bytes of the units that were written completely."""
        return bytes(written).rfind(b"\n") + 1

    def _fail(self, error: OSError, whole: int) -> None:
        self._size += whole
        if self._regular:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)
        self.failure = _failed(self.path, error)
        raise self.failure from error

    def check(self) -> None:
        """Raise again what went wrong before: nothing can follow a gap."""
        if self.failure is not None:
            raise self.failure
        if self._fd < 0:
            raise SinkError(_STEP, f'"{self.path}" was closed', "write before closing")

    @property
    def closed(self) -> bool:
        """Whether the file was let go."""
        return self._fd < 0

    def close(self) -> None:
        """Make the file and its name durable, and let go."""
        if self._fd < 0:
            return
        try:
            if self.failure is None:
                _synced(self._fd)
                folder = os.open(os.path.dirname(self.path) or ".", os.O_RDONLY | os.O_CLOEXEC)
                try:
                    _synced(folder)
                finally:
                    os.close(folder)
        except OSError as error:
            self._fail(error, 0)
        finally:
            fd, self._fd = self._fd, -1
            try:
                os.close(fd)
            except OSError as error:
                if self.failure is None:
                    self.failure = _failed(self.path, error)
                    raise self.failure from error


def _synced(fd: int) -> None:
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a device or a file system without it
            raise


class LinesOutput:
    """A JSON Lines file: each item (bytes: a line, or several) is there in order, ended by a newline.

    Raises SinkError at whichever call finds that the disk is full; the file then ends with a complete line,
    and every later call raises the same again.
    """

    def __init__(self, name: str, path: str | os.PathLike[str], *, replace: bool = False) -> None:
        self._name = name
        self._tail = _Tail(path, replace)
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0

    @property
    def name(self) -> str:
        """The channel or log that is written here."""
        return self._name

    def write(self, items: Sequence[Item]) -> None:
        """Take lines; WRITE_BYTES of them are written at once."""
        self._tail.check()
        for item in items:
            if not isinstance(item, bytes):
                found = f'"{self._tail.path}" got a {type(item).__name__}; it holds lines'
                raise SinkError(_STEP, found, f"only {', '.join(TABLES)} take batches")
            if not item:
                continue
            self._waiting.append(item)
            self._waiting_bytes += len(item)
            if not item.endswith(b"\n"):
                self._waiting.append(b"\n")
                self._waiting_bytes += 1
            if self._waiting_bytes >= WRITE_BYTES:
                self.flush()

    def flush(self) -> None:
        """Hand all lines to the operating system."""
        self._tail.check()
        if self._waiting:
            data = b"".join(self._waiting)
            self._waiting.clear()
            self._waiting_bytes = 0
            self._tail.append(data)

    def close(self) -> None:
        """Write what waits, make it durable, let go; after a failure, let go and raise it again."""
        _close(self, self._tail)


class BatchesOutput:
    """An Arrow IPC stream, LZ4 inside: batches gathered to LOG_ROWS rows; at any moment the file is readable
    up to its last whole batch.

    The first batch gives the schema; one that differs is refused. Raises SinkError as LinesOutput does.
    """

    def __init__(self, name: str, path: str | os.PathLike[str], *, replace: bool = False) -> None:
        self._name = name
        self._tail = _BatchTail(path, replace)
        self._schema: pa.Schema | None = None
        self._writer: pa.RecordBatchWriter | None = None
        self._encoded = _Encoded()
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0
        self._waiting_bytes = 0

    @property
    def name(self) -> str:
        """The log that is written here."""
        return self._name

    def write(self, items: Sequence[Item]) -> None:
        """Take batches; LOG_ROWS rows of them are written at once."""
        self._tail.check()
        for item in items:
            if not isinstance(item, pa.RecordBatch):
                found = f'"{self._tail.path}" got {type(item).__name__}; it holds batches'
                raise SinkError(_STEP, found, "give Arrow record batches")
            if self._schema is None:
                self._schema = item.schema
            elif not item.schema.equals(self._schema):
                found = f'"{self._tail.path}" got a batch with other columns than the first'
                raise SinkError(_STEP, found, "write one schema to a file")
            self._waiting.append(item)
            self._waiting_rows += item.num_rows
            self._waiting_bytes += item.nbytes
            if self._waiting_rows >= LOG_ROWS or self._waiting_bytes >= LOG_BYTES:
                self.flush()

    def flush(self) -> None:
        """Hand all rows to the operating system, as a batch of its own if they are few."""
        self._tail.check()
        if self._schema is None:
            return
        if self._writer is None:
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            self._writer = pa.ipc.new_stream(self._encoded, self._schema, options=options)
        if self._waiting_rows:
            table = pa.Table.from_batches(self._waiting).combine_chunks()
            for batch in table.to_batches(max_chunksize=LOG_ROWS):
                self._writer.write_batch(batch)
        self._waiting.clear()
        self._waiting_rows = self._waiting_bytes = 0
        self._tail.append(self._encoded.taken())

    def finish(self) -> None:
        """Flush and end the stream."""
        self.flush()
        if self._writer is not None:
            self._writer.close()
            self._tail.append(self._encoded.taken())

    def close(self) -> None:
        """Write what waits, end the stream, make it durable, let go; after a failure raise it again."""
        _close(self, self._tail)


class _BatchTail(_Tail):
    @staticmethod
    def _whole(written: memoryview) -> int:
        return 0  # encoded batches come one write at a time: it is all or nothing


class _Encoded:
    """The file object an Arrow writer writes to: it keeps the bytes until they are taken."""

    closed = False

    def __init__(self) -> None:
        self._data = bytearray()

    def write(self, data: bytes) -> int:
        self._data += data
        return len(data)

    def flush(self) -> None:
        """Nothing waits here."""

    def taken(self) -> bytes:
        data = bytes(self._data)
        self._data.clear()
        return data


def _close(output: LinesOutput | BatchesOutput, tail: _Tail) -> None:
    if tail.closed:
        return
    try:
        if isinstance(output, BatchesOutput):
            output.finish()
        else:
            output.flush()
    finally:
        tail.close()


def open_output(folder: str | os.PathLike[str], name: str) -> Sink:
    """Begin an output of a prepared folder; each name once. Raises SinkError."""
    path = output_path(folder, name)
    return BatchesOutput(name, path) if name in TABLES else LinesOutput(name, path)


def read_batches(path: str | os.PathLike[str]) -> Iterator[pa.RecordBatch]:
    """The batches of an Arrow output, up to where a crash cut it."""
    with pa.OSFile(os.fspath(path)) as file:
        try:
            with pa.ipc.open_stream(file) as reader:
                yield from reader
        except (pa.ArrowInvalid, OSError):
            return


def read_decisions(path: str | os.PathLike[str]) -> Iterator[pa.RecordBatch]:
    """The batches of a decision log."""
    return read_batches(path)


def read_changes(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Segments entered and left and stages entered, as rows; none if the policies have neither."""
    return _read_rows(folder, CHANGES)


def read_joins(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Joins that matched, as rows; none if the policies have no joins."""
    return _read_rows(folder, JOINS)


def _read_rows(folder: str | os.PathLike[str], name: str) -> list[dict[str, Any]]:
    path = output_path(folder, name)
    return [row for batch in read_batches(path) for row in batch.to_pylist()] if path.exists() else []
