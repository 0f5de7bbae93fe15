"""A folder of outputs: JSON Lines a channel, dead letters, late events; the decision log, changes and joins.

An output goes on behind what an earlier run of the same had made durable (OutputPosition): what stands after it is cut
off.

The last three are Arrow IPC streams (`decisions.arrows`), not Parquet: Parquet keeps its directory at the
end of the file, so a crash would leave nothing readable; of a stream, all batches before the crash are. (Of a run that
has ended the decision log may be Parquet: parquet.py.) Read a stream with `pyarrow.ipc.open_stream`, or a torn one with
`read_batches`. The rows of a stream are of one set of
policies: a run that goes on with others goes on in `decisions-2.arrows`, and so on.
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

import msgspec
import pyarrow as pa

from segue.errors import SinkError
from segue.outputs import CHANGES, DECISIONS, JOINS, TABLE_OUTPUTS
from segue.sinks.interface import Item, Sink

WRITE_BYTES = 1 << 20  # buffered before they are written
LOG_ROWS = 65_536  # rows of a batch of the decision log, at most
GATHERED_ROWS = (
    8_192  # batches of fewer wait for others: to gather them costs 70 ns a row, as much as to compress it
)
LOG_BYTES = 64 << 20  # ... which ends here even when it has fewer

_STEP = "write results"
_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"  # of Arrow's IPC streams
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
    return Path(folder) / (f"{name}.arrows" if name in TABLE_OUTPUTS else f"{name}.jsonl")


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
    existing += [
        other for output in outputs if output.stem in TABLE_OUTPUTS for other in further_files(output)
    ]
    existing += [
        other
        for output in outputs
        if output.stem == DECISIONS
        for first in (output.with_suffix(".parquet"),)  # of a run that has ended (parquet.py)
        for other in (first, *further_files(first))
        if os.path.lexists(other)
    ]
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


class OutputPosition(msgspec.Struct, frozen=True):
    """Bytes of an output that are durable and whole; of its so many-th file, where it has several."""

    size: int
    number: int = 1


def numbered(path: str | os.PathLike[str], number: int) -> Path:
    """An output's so many-th file."""
    first = Path(path)
    return first if number == 1 else first.with_name(f"{first.stem}-{number}{first.suffix}")


def further_files(path: Path) -> list[Path]:
    """Files of an output beside its first, in any order."""
    pattern = re.compile(re.escape(path.stem) + r"-[0-9]{1,6}" + re.escape(path.suffix))
    return sorted(other for other in path.parent.glob(f"{path.stem}-*") if pattern.fullmatch(other.name))


def output_files(folder: str | os.PathLike[str], name: str) -> list[Path]:
    """The files of an output that are there, in the order in which they were begun."""
    first = output_path(folder, name)
    others = sorted(further_files(first), key=lambda path: int(path.stem.rpartition("-")[2]))
    return [path for path in (first, *others) if path.exists()]


class _Tail:
    """The end of a file: whole units (lines, batches) are appended; a half-written one is cut, and raises.

    With a position the file is there, and is cut to it; without, it begins.
    """

    def __init__(
        self, path: str | os.PathLike[str], replace: bool, position: OutputPosition | None = None
    ) -> None:
        self.path = os.fspath(path)
        how = os.O_CREAT | (os.O_TRUNC if replace else os.O_EXCL) if position is None else 0
        try:
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC | how, 0o666)
            status = os.fstat(self._fd)
            self._regular = stat.S_ISREG(status.st_mode)
        except FileExistsError as error:
            hint = "two outputs of one name, or another run writes to the folder"
            raise SinkError(_STEP, f'"{self.path}" exists already', hint) from error
        except IsADirectoryError as error:
            raise SinkError(_STEP, f'"{self.path}" is a folder', "remove it, or choose another") from error
        except OSError as error:
            raise _failed(self.path, error) from error
        self._size = 0  # bytes of whole units
        self._synced_size = -1
        self.failure: SinkError | None = None
        if position is not None:
            self._go_on(position.size, status.st_size)

    def _go_on(self, size: int, found: int) -> None:
        if found < size:
            os.close(self._fd)
            raise SinkError(
                _STEP,
                f'"{self.path}" has {found:,} bytes; the run to be continued had written {size:,}',
                "restore the file, or start afresh: another output folder and another state folder",
            )
        try:
            os.ftruncate(self._fd, size)
            os.lseek(self._fd, size, os.SEEK_SET)
        except OSError as error:
            os.close(self._fd)
            raise _failed(self.path, error) from error
        self._size = size

    @property
    def size(self) -> int:
        """Bytes of whole units."""
        return self._size

    def sync(self) -> int:
        """Make the file and its name durable; bytes of whole units."""
        self.check()
        try:
            if self._synced_size < 0:
                self._sync_folder()
            if self._synced_size != self._size:
                _synced(self._fd)
        except OSError as error:
            self._fail(error, 0)
        self._synced_size = self._size
        return self._size

    def _sync_folder(self) -> None:
        folder = os.open(os.path.dirname(self.path) or ".", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _synced(folder)
        finally:
            os.close(folder)

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
                self._sync_folder()
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

    def __init__(
        self,
        name: str,
        path: str | os.PathLike[str],
        *,
        replace: bool = False,
        position: OutputPosition | None = None,
    ) -> None:
        self._name = name
        self._tail = _Tail(path, replace, position)
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
                raise SinkError(_STEP, found, f"only {', '.join(TABLE_OUTPUTS)} take batches")
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

    def position(self) -> OutputPosition:
        """Make all lines durable; an output opened with it goes on behind them."""
        self.flush()
        return OutputPosition(self._tail.sync())

    def close(self) -> None:
        """Write what waits, make it durable, let go; after a failure, let go and raise it again."""
        _close(self, self._tail)


class BatchesOutput:
    """An Arrow IPC stream, LZ4 inside: batches of GATHERED_ROWS to LOG_ROWS rows; at any moment the file is
    readable up to its last whole batch.

    The first batch gives the schema; one that differs is refused. What an earlier start began with another schema is
    ended where it stands, and a further file is begun. Raises SinkError as LinesOutput does.
    """

    def __init__(
        self,
        name: str,
        path: str | os.PathLike[str],
        *,
        replace: bool = False,
        position: OutputPosition | None = None,
    ) -> None:
        self._name = name
        self._path = Path(path)
        self._number = 1 if position is None else position.number
        if position is not None or replace:  # beside it stands only what is to be written again
            for later in further_files(self._path):
                if int(later.stem.rpartition("-")[2]) > self._number:
                    later.unlink()
        self._tail = _BatchTail(numbered(path, self._number), replace, position)
        # the stream of the file has begun: the schema that a new writer writes first must not stand there again
        self._begun = _schema_of(self._tail.path) if self._tail.size else None
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
        """Take batches; GATHERED_ROWS rows or more of them are written at once."""
        self._tail.check()
        for item in items:
            if not isinstance(item, pa.RecordBatch):
                found = f'"{self._tail.path}" got {type(item).__name__}; it holds batches'
                raise SinkError(_STEP, found, "give Arrow record batches")
            if self._schema is None:
                self._schema = self._checked(item.schema)
            elif not item.schema.equals(self._schema):
                found = f'"{self._tail.path}" got a batch with other columns than the first'
                raise SinkError(_STEP, found, "write one schema to a file")
            self._waiting.append(item)
            self._waiting_rows += item.num_rows
            self._waiting_bytes += item.nbytes
            if self._waiting_rows >= GATHERED_ROWS or self._waiting_bytes >= LOG_BYTES:
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
            table = pa.Table.from_batches(self._waiting)
            table = table if len(self._waiting) == 1 else table.combine_chunks()
            for batch in table.to_batches(max_chunksize=LOG_ROWS):
                self._writer.write_batch(batch)
        self._waiting.clear()
        self._waiting_rows = self._waiting_bytes = 0
        self._tail.append(self._new_bytes())

    def _new_bytes(self) -> bytes:
        data = self._encoded.taken()
        if data and self._begun is not None:
            data = data[self._begun.serialize().size :]
            self._begun = None
        return data

    def _checked(self, schema: pa.Schema) -> pa.Schema:
        if self._begun is not None and not schema.equals(self._begun, check_metadata=True):
            self._tail.append(_END_OF_STREAM)
            self._tail.close()
            self._number += 1
            self._tail = _BatchTail(numbered(self._path, self._number), True)
            self._begun = None
        return schema

    def position(self) -> OutputPosition:
        """Make all rows durable; an output opened with it goes on behind them."""
        self.flush()
        return OutputPosition(self._tail.sync(), self._number)

    def finish(self) -> None:
        """Flush and end the stream."""
        self.flush()
        if self._writer is not None:
            self._writer.close()
            self._tail.append(self._new_bytes())
        elif self._tail.size:
            self._tail.append(_END_OF_STREAM)

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


def open_output(
    folder: str | os.PathLike[str],
    name: str,
    position: OutputPosition | None = None,
    *,
    replace: bool = False,
) -> Sink:
    """Begin an output of a prepared folder, or go on with one at a position it gave; each name once. Raises SinkError.

    replace  what is there, if it begins, is of a run that left no position: it goes
    """
    path = output_path(folder, name)
    output = BatchesOutput if name in TABLE_OUTPUTS else LinesOutput
    return output(name, path, replace=replace, position=position)


def _schema_of(path: str) -> pa.Schema:
    try:
        with pa.OSFile(path) as file, pa.ipc.open_stream(file) as reader:
            return reader.schema
    except (pa.ArrowException, OSError) as error:
        raise SinkError(
            _STEP, f'"{path}" is no Arrow stream any more: {error}', "restore the file"
        ) from error


def read_batches(path: str | os.PathLike[str]) -> Iterator[pa.RecordBatch]:
    """The batches of an Arrow output, up to where a crash cut it."""
    with pa.OSFile(os.fspath(path)) as file:
        try:
            with pa.ipc.open_stream(file) as reader:
                yield from reader
        except (pa.ArrowInvalid, OSError):
            return


def batches_until(path: Path, position: OutputPosition) -> Iterator[pa.RecordBatch]:
    """The batches of an Arrow output of one schema, up to this position. Raises SinkError if they are gone."""
    try:
        with open(path, "rb") as file:
            data = file.read(position.size)
    except OSError as error:
        raise SinkError(_STEP, f'"{path}" can\'t be read: {error.strerror}', "restore the file") from error
    if not data:
        return
    try:
        with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
            yield from reader
    except pa.ArrowException as error:
        raise SinkError(
            _STEP, f'"{path}" is no Arrow stream any more: {error}', "restore the file"
        ) from error


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
    files = [path, *further_files(path)] if path.exists() else []
    return [row for file in files for batch in read_batches(file) for row in batch.to_pylist()]
