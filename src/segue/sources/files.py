"""Files, folders and standard input as partitions."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from segue.clock import WALL_CLOCK, Clock
from segue.errors import SourceError, did_you_mean
from segue.limits import PARTITIONS_MAX, READ_WAIT_MS
from segue.sources.formats import HEAD_BYTES, KNOWN, Compression, Form, Format, detect, unreadable
from segue.sources.interface import BrokenChunk, Chunk, QuietChunk
from segue.sources.lines import LineReader
from segue.sources.streams import ByteStream, FileBytes, GzipBytes, PipeBytes, StreamBroken, ZstdBytes
from segue.sources.tables import TableReader

STDIN = "-"
_STEP = "read events"
_SKIP_BYTES = 1 << 20


class FilePosition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the next chunk of a partition begins.

    index   files of the partition that were read to their end
    file    the one after them; "" when none is left
    size    its bytes when it was opened
    offset  bytes of its (decompressed) text that were read
    line    lines of it that were read
    row     rows of it that were read, if it is columnar
    """

    index: int = 0
    file: str = ""
    size: int = 0
    offset: int = 0
    line: int = 0
    row: int = 0


class _Entry(msgspec.Struct, frozen=True):
    """A file of a partition. `format` is None for a pipe: its first bytes tell when they come."""

    path: str
    format: Format | None


class FileSource(msgspec.Struct, frozen=True):
    """Inputs that were there, readable and of a known format when they were listed.

    partitions  names, in the order of their index: as given, or per file of an interleaved folder
    skipped     files of folders that are in no known format and are not read
    live        pipes tell when they are empty, and are not waited for
    """

    files: dict[str, tuple[_Entry, ...]]
    skipped: tuple[str, ...] = ()
    live: bool = False

    @property
    def partitions(self) -> tuple[str, ...]:
        """Names of the partitions, in the order of their index."""
        return tuple(self.files)

    def open(self, name: str, position: FilePosition | None = None) -> FilePartition:
        """Begin to read a partition, at its start or where `position` says.

        Raises SourceError if there is no such partition, or its files are not those of the position.
        """
        if name not in self.files:
            raise SourceError(_STEP, f'no input "{name}"', did_you_mean(name, list(self.files)))
        clock = WALL_CLOCK if self.live else None
        return FilePartition(name, self.files[name], position or FilePosition(), clock)


def file_source(
    inputs: Sequence[str | os.PathLike[str]], *, interleave: bool = False, live: bool = False
) -> FileSource:
    """List the inputs and look at the first bytes of each file: afterwards only what changes can go wrong.

    inputs      files, folders (files in name order, recursively, hidden ones skipped), "-" (standard input)
    interleave  each file of a folder becomes a partition of its own
    live        the events happen now: pipes tell when they are empty

    Raises SourceError: no input, a missing or unreadable one, an unknown format, nothing to read in a folder,
    an input or a file given twice, more than PARTITIONS_MAX partitions.
    """
    if not inputs:
        raise SourceError(_STEP, "no input was given", 'give files, folders or "-" for standard input')
    files: dict[str, tuple[_Entry, ...]] = {}
    skipped: list[str] = []
    seen: dict[str, str] = {}
    for given in inputs:
        name = os.fspath(given)
        name = name if name == STDIN else os.path.normpath(name)
        if name in files:
            raise SourceError(_STEP, f'the input "{name}" was given twice', "give each input once")
        listed: dict[str, tuple[_Entry, ...]] = {}
        if name == STDIN:
            _check_stdin()
            listed[name] = (_Entry(STDIN, None),)
        elif stat.S_ISDIR(_stat(name).st_mode):
            entries = _folder(name, skipped)
            listed = {entry.path: (entry,) for entry in entries} if interleave else {name: tuple(entries)}
        else:
            listed[name] = (_single(name),)
        for partition, entries_of in listed.items():
            for entry in entries_of:
                real = STDIN if entry.path == STDIN else os.path.realpath(entry.path)
                if real in seen:
                    raise SourceError(
                        _STEP,
                        f'the file "{entry.path}" was given twice: also as "{seen[real]}"',
                        "give each file once: as itself, or with its folder",
                    )
                seen[real] = entry.path
            files[partition] = entries_of
    if len(files) > PARTITIONS_MAX:
        raise SourceError(
            _STEP,
            f"{len(files)} inputs side by side; {PARTITIONS_MAX} are possible",
            "read the folder's files one after the other (without interleaving)",
        )
    return FileSource(files, tuple(skipped), live)


def _check_stdin() -> None:
    try:
        mode = os.fstat(0).st_mode
    except OSError as error:
        raise SourceError(_STEP, "standard input is closed", "pipe events into it") from error
    if stat.S_ISDIR(mode):
        raise SourceError(_STEP, "standard input is a folder", "give the folder's path instead of -")


def _stat(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError as error:
        raise _unopened(path, error) from error


def _unopened(path: str, error: OSError) -> SourceError:
    if isinstance(error, FileNotFoundError):
        folder = Path(path).parent
        hint = "check the path"
        if os.path.islink(path):
            return SourceError(
                _STEP, f'"{path}" is a link to a file that does not exist', "restore or remove it"
            )
        if folder.is_dir() and os.access(folder, os.R_OK):
            near = did_you_mean(Path(path).name, os.listdir(folder))
            hint = near if near.startswith("did") else hint
        else:
            hint = f'the folder "{folder}" does not exist either'
        return SourceError(_STEP, f'"{path}" does not exist', hint)
    if isinstance(error, PermissionError):
        return SourceError(
            _STEP, f'no permission to read "{path}"', f"let this user read it: chmod u+r {path}"
        )
    return SourceError(_STEP, f'"{path}" can\'t be read: {error.strerror}', "check the path")


def _head(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(HEAD_BYTES)
    except OSError as error:
        raise _unopened(path, error) from error


def _single(path: str) -> _Entry:
    if not stat.S_ISREG(_stat(path).st_mode):
        if not os.access(path, os.R_OK):
            raise _unopened(path, PermissionError())
        return _Entry(path, None)
    head = _head(path)
    found = detect(head, path)
    if found is None:
        raise _unknown(path, head)
    return _Entry(path, found)


def _unknown(path: str, head: bytes) -> SourceError:
    what = unreadable(head)
    return SourceError(
        _STEP,
        f'"{path}" is {what}, which is not read' if what else f'"{path}" is in no format that is read',
        f"these are: {KNOWN}",
    )


def _folder(folder: str, skipped: list[str]) -> list[_Entry]:
    entries = []
    unknown = []
    for path in _walk(folder, set()):
        found = detect(_head(path), path) if stat.S_ISREG(_stat(path).st_mode) else None
        if found is None:
            unknown.append(path)
        else:
            entries.append(_Entry(path, found))
    if not entries and not unknown:
        raise SourceError(_STEP, f'the folder "{folder}" is empty', "check the path")
    if not entries:
        example = os.path.relpath(unknown[0], folder)
        raise SourceError(
            _STEP,
            f'no file in the folder "{folder}" is in a format that is read ("{example}", …)',
            f"these are: {KNOWN}",
        )
    skipped += unknown
    return entries


def _walk(folder: str, above: set[tuple[int, int]]) -> Iterator[str]:
    """Files below a folder in name order. Linked folders are followed, but not into themselves."""
    status = _stat(folder)
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise _unopened(folder, error) from error
    for name in names:
        path = os.path.join(folder, name)
        if name.startswith("."):
            continue
        if stat.S_ISDIR(_stat(path).st_mode):
            yield from _walk(path, above | {here})
        else:
            yield path


class FilePartition:
    """The files of one input, one after the other; where one breaks, the next begins.

    With a clock its pipes are live. One that is empty while its writer is there is caught up, unless a line has begun,
    or it is compressed: what a compressor holds back nobody knows.
    """

    def __init__(
        self, name: str, entries: tuple[_Entry, ...], position: FilePosition, clock: Clock | None = None
    ) -> None:
        self._name = name
        self._entries = entries
        self._clock = clock
        self._wait_ms = READ_WAIT_MS if clock is None else 0
        self._plain = True  # what the pipe brings is not compressed, as far as is known
        self._index = position.index
        self._reader: LineReader | TableReader | None = None
        self._pipe: PipeBytes | None = None
        self._size = 0
        if position != FilePosition():
            self._resume(position)

    @property
    def name(self) -> str:
        """Unique among the inputs."""
        return self._name

    def read(self, rows_max: int, bytes_max: int) -> Chunk | None:
        """The next chunk; None when the last file has ended."""
        while self._index < len(self._entries):
            entry = self._entries[self._index]
            looked_ms = self._clock.now_ms() if self._clock else None  # before the pipe was found to be empty
            if self._reader is None:
                if entry.format is None:
                    if not self._open_pipe(entry.path):
                        return QuietChunk(looked_ms)
                else:
                    try:
                        self._reader = self._open(entry, entry.format, FilePosition())
                    except OSError as error:
                        self._index += 1
                        gone = isinstance(error, FileNotFoundError)
                        reason = (
                            "vanished before it was read" if gone else f"can't be opened: {error.strerror}"
                        )
                        return BrokenChunk(entry.path, 0, 1, reason, b"")
            assert self._reader is not None
            chunk = self._reader.read(rows_max, bytes_max)
            if isinstance(chunk, QuietChunk):
                assert isinstance(self._reader, LineReader)
                return QuietChunk(looked_ms if self._plain and self._reader.between_lines else None)
            if isinstance(chunk, BrokenChunk) and self._reader.finished:
                # the position must not lead to what is broken again
                self._close_reader()
                self._index += 1
            if chunk is not None:
                return chunk
            self._close_reader()
            self._index += 1
        return None

    def position(self) -> FilePosition:
        """Where the next chunk begins."""
        file = self._entries[self._index].path if self._index < len(self._entries) else ""
        if isinstance(self._reader, LineReader):
            return FilePosition(self._index, file, self._size, self._reader.offset, self._reader.line, 0)
        if isinstance(self._reader, TableReader):
            return FilePosition(self._index, file, self._size, 0, 0, self._reader.row)
        return FilePosition(self._index, file)

    def close(self) -> None:
        """Let go of the file being read."""
        self._close_reader()

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        elif self._pipe is not None:
            self._pipe.close()
        self._pipe = None

    def _open(self, entry: _Entry, format: Format, position: FilePosition) -> LineReader | TableReader:
        self._size = os.stat(entry.path).st_size
        if format.form is not Form.LINES:
            return TableReader(entry.path, format.form, entry.path, position.row)
        if format.compression is Compression.NONE:
            plain = FileBytes(entry.path, position.offset)
            left = max(0, plain.size - position.offset)
            return LineReader(plain, entry.path, position.offset, position.line, bytes_left=left)
        stream = _unwrapping(FileBytes(entry.path), format.compression)
        _pass_over(stream, position.offset)
        return LineReader(stream, entry.path, position.offset, position.line)

    def _open_pipe(self, path: str) -> bool:
        """Begin with a pipe once its first bytes tell the format; False = they have not come."""
        if self._pipe is None:
            if path == STDIN:
                self._pipe = PipeBytes(0, owned=False)
            else:
                try:
                    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # waits for a writer, like `cat`
                    self._pipe = PipeBytes(fd, owned=True)
                except OSError as error:
                    raise _unopened(path, error) from error
        try:
            head = self._pipe.peek(HEAD_BYTES, self._wait_ms)
        except StreamBroken as broken:
            raise SourceError(_STEP, f'"{path}" {broken}') from broken
        if head is None:
            return False
        found = detect(head, "pipe.jsonl" if path == STDIN else path) or detect(head, "pipe.jsonl")
        if found is None:
            raise _unknown(path, head)
        if found.form in (Form.PARQUET, Form.ARROW_FILE):
            raise SourceError(
                _STEP,
                f'"{path}" brings {found.form.value}, which can\'t be read from a pipe',
                "save it to a file",
            )
        if found.form is Form.ARROW_STREAM:
            self._reader = TableReader(self._pipe, found.form, path)
        else:
            self._plain = found.compression is Compression.NONE
            stream = _unwrapping(self._pipe, found.compression)
            self._reader = LineReader(stream, path, wait_ms=self._wait_ms)
        return True

    def _resume(self, position: FilePosition) -> None:
        entries = self._entries
        fresh = "start afresh, without the recovery folder"
        expected = entries[position.index].path if position.index < len(entries) else ""
        if position.file != expected:
            raise SourceError(
                _STEP,
                f'"{self._name}" holds other files than when it was read: '
                f'"{expected}" stands where "{position.file}" was',
                f"restore the files, or {fresh}",
            )
        if not expected:
            return
        entry = entries[position.index]
        if entry.format is None:
            if position.offset or position.row:
                raise SourceError(_STEP, f'"{entry.path}" is a pipe: what it gave is gone', fresh)
            return
        if not (position.offset or position.row or position.line):
            return
        size = _stat(entry.path).st_size
        grown = size >= position.size and entry.format == Format(Form.LINES)
        if size != position.size and not grown:
            raise SourceError(
                _STEP,
                f'"{entry.path}" had {position.size} bytes when it was read, now it has {size}',
                f"restore the file, or {fresh}",
            )
        try:
            self._reader = self._open(entry, entry.format, position)
        except OSError as error:
            raise _unopened(entry.path, error) from error
        except StreamBroken as broken:
            raise SourceError(_STEP, f'"{entry.path}" {broken}', f"restore the file, or {fresh}") from broken


def _unwrapping(stream: ByteStream, compression: Compression) -> ByteStream:
    if compression is Compression.GZIP:
        return GzipBytes(stream)
    return ZstdBytes(stream) if compression is Compression.ZSTD else stream


def _pass_over(stream: ByteStream, count: int) -> None:
    """Read what an earlier run has read: compressed text has no other way to a place inside it."""
    block = memoryview(bytearray(min(count, _SKIP_BYTES)))
    while count:
        got = stream.readinto(block[: min(count, len(block))])
        if got == 0:
            raise StreamBroken("is shorter than when it was read")
        count -= max(got, 0)
