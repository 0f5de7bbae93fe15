"""Bases, and a part read back: its base and the records since, merged; every byte is checked on the way.

A base is a file of blocks of rows, each a record as in a journal, and a last record that ends it. It is written
under another name first: a base that has its name is whole.

Of a row the newest words count; a row whose newest words are none is left out.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from segue import limits
from segue.checkpoints.disk import (
    base_name,
    damaged,
    generation_of,
    journal_name,
    number_of,
    sync_folder,
    unreadable,
    unwritable,
    write_all,
)
from segue.checkpoints.manifest import Manifest
from segue.checkpoints.record import (
    BASE_MAGIC,
    FILE_BYTES,
    JOURNAL_MAGIC,
    Header,
    Room,
    Words,
    check_file_head,
    encode_record,
    file_head,
    read_body,
    read_header,
    read_index,
    record_room,
)
from segue.checkpoints.rest import made_whole
from segue.state.delta import ShardDelta

_NOTHING = np.zeros(0, np.int64)
_ROOMS = threading.local()


class _Files:
    """Files of the state, opened for reading once each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fds: dict[str, int] = {}

    def journal(self, name: str) -> tuple[int, str]:
        return self._open("journals", name, JOURNAL_MAGIC)

    def base(self, name: str) -> tuple[int, str]:
        return self._open("bases", name, BASE_MAGIC)

    def fd(self, path: str) -> int:
        return self._fds[path]

    def _open(self, kind: str, name: str, magic: int) -> tuple[int, str]:
        path = str(self._folder / kind / name)
        if path not in self._fds:
            try:
                self._fds[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise unreadable(path, error) from error
            check_file_head(self._fds[path], path, magic)
        return self._fds[path], path

    def close(self) -> None:
        while self._fds:
            os.close(self._fds.popitem()[1])


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[_Files]:
    files = _Files(folder)
    try:
        yield files
    finally:
        files.close()


def _base_records(files: _Files, name: str, part: int) -> list[Header]:
    """Headers of a base's blocks and of its end. Raises CheckpointError."""
    fd, path = files.base(name)
    headers: list[Header] = []
    offset = FILE_BYTES
    while not headers or not headers[-1].is_end:
        header = read_header(fd, path, offset)
        if header.part != part:
            raise damaged(path, offset, f"it belongs to part {header.part}, not to part {part}")
        headers.append(header)
        offset = header.end
    end = headers[-1]
    if (sum(h.rows for h in headers), sum(h.words for h in headers)) != (end.all_rows, end.all_words):
        raise damaged(path, end.offset, f"its blocks don't hold the {end.all_rows} rows it ends with")
    return headers


def _chain_records(files: _Files, manifest: Manifest) -> list[Header]:
    """Headers of the records since the base, oldest first. Raises CheckpointError."""
    headers: list[Header] = []
    name, offset = manifest.file, manifest.offset
    for segment in reversed(manifest.chain):
        for _ in range(segment.records):
            if name != segment.file:
                fd, path = files.journal(segment.file)
                raise damaged(path, offset, f"the record that follows points to {name or 'nothing'} instead")
            fd, path = files.journal(name)
            header = read_header(fd, path, offset)
            if header.part != manifest.part or header.is_end:
                raise damaged(
                    path, offset, f"the record belongs to part {header.part}, not to {manifest.part}"
                )
            headers.append(header)
            generation, number, offset = header.back
            name = journal_name(generation, number) if generation else ""
    return headers[::-1]


def _records(files: _Files, manifest: Manifest) -> list[Header]:
    base = _base_records(files, manifest.base, manifest.part) if manifest.base else []
    return base + _chain_records(files, manifest)


def _rooms() -> tuple[Room, Room]:
    """Two rooms of this thread: of packed words, and of words."""
    if not hasattr(_ROOMS, "both"):
        _ROOMS.both = Room(), Room()
    both: tuple[Room, Room] = _ROOMS.both
    return both


_pool: ThreadPoolExecutor | None = None
_pool_lock = threading.Lock()


def _threads() -> ThreadPoolExecutor:
    global _pool
    with _pool_lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(limits.LOAD_THREADS, thread_name_prefix="load-part")
        return _pool


def load(folder: Path, manifest: Manifest, *, threads: bool = True, room: Room | None = None) -> ShardDelta:
    """The part as its manifest says: a delta from nothing. Raises CheckpointError: which file, where, what is wrong.

    `threads`: several, which do not hold the interpreter; otherwise this one. `room`: the words live there, until the
    next load into it: fresh memory for each part may take longer than reading it.
    """
    run: Callable[..., Iterator[Any]] = _threads().map if threads else map
    with _opened(folder) as files:
        headers = _records(files, manifest)
        if not headers:
            return ShardDelta(_NOTHING, np.zeros(1, np.int64), _NOTHING, b"")
        indexes = list(run(lambda header: read_index(files.fd(header.path), header), headers))
        rows, starts, targets = _merged(headers, indexes)
        words = (room or Room()).words(int(starts[-1]))
        newest = len(headers) - 1

        def place(number: int) -> bytes:
            from segue_kernels.sparse import place_rows, unpack_words

            header = headers[number]
            room, unpacked = _rooms()
            packed, rest = read_body(files.fd(header.path), header, room)
            target = targets[number]
            if len(target) and target.max() >= 0:
                own = unpacked.words(header.words)
                if unpack_words(packed, own) != len(packed):
                    raise damaged(header.path, header.offset, "its words can't be unpacked")
                place_rows(own, indexes[number][1], target, words)
            return bytes(rest) if number == newest else b""

        rest = list(run(place, range(len(headers))))[newest]
    return ShardDelta(rows, starts, words, made_whole(rest))


def _merged(headers: list[Header], indexes: list[tuple[Words, Words]]) -> tuple[Words, Words, list[Words]]:
    """Rows and starts of the merged part; and for each record where its rows go, -1: a newer one has them."""
    rows_end = 0
    for header, (rows, starts) in zip(headers, indexes, strict=True):
        if len(rows):
            if rows[0] < 0 or rows[-1] >= limits.CUSTOMERS_PER_SHARD_MAX or (np.diff(rows) <= 0).any():
                raise damaged(header.path, header.offset, "its rows are not ascending")
            rows_end = max(rows_end, int(rows[-1]) + 1)
        if starts[0] != 0 or starts[-1] != header.words or (np.diff(starts) < 0).any():
            raise damaged(header.path, header.offset, "its rows don't share out its words")
    newest = np.full(rows_end, -1, np.int32)
    size = np.zeros(rows_end, np.int64)
    for number, (rows, starts) in enumerate(indexes):
        newest[rows] = number
        size[rows] = np.diff(starts)
    all_rows = np.flatnonzero(size)
    all_starts = np.zeros(len(all_rows) + 1, np.int64)
    np.cumsum(size[all_rows], out=all_starts[1:])
    place = np.full(rows_end, -1, np.int64)
    place[all_rows] = all_starts[:-1]
    targets = [np.where(newest[rows] == number, place[rows], -1) for number, (rows, _) in enumerate(indexes)]
    return all_rows, all_starts, targets


def write_base(
    folder: Path, generation: int, number: int, part: int, delta: ShardDelta, bytes_per_s: int = 0
) -> tuple[str, int]:
    """Name and size of a new base that holds the delta, durable. `bytes_per_s`: no faster than that, and on the disk
    block by block: a journal's fdatasync never waits for much of it. Raises CheckpointError."""
    name = base_name(generation, number, part)
    path = folder / "bases" / name
    unfinished = path.with_name(name + ".part")
    now_ms = time.time_ns() // 1_000_000
    room = Room()
    size = FILE_BYTES
    try:
        fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            write_all(fd, file_head(BASE_MAGIC, generation, number, part), 0)
            for block, end in _blocks(delta):
                began = time.monotonic()
                words = room.words(record_room(block))
                count = 8 * encode_record(words, part, block, now_ms, end=end)
                write_all(fd, words.data.cast("B")[:count], size)
                size += count
                if bytes_per_s:
                    os.fdatasync(fd)
                    time.sleep(max(0.0, count / bytes_per_s - (time.monotonic() - began)))
            os.fsync(fd)
        except OSError:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            raise
        finally:
            os.close(fd)
        unfinished.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    return name, size


def _blocks(delta: ShardDelta) -> Iterator[tuple[ShardDelta, tuple[int, int] | None]]:
    """Shares of the rows, then the end with the rest and (rows, words) of the whole."""
    first = 0
    count = len(delta.rows)
    while first < count:
        full = int(np.searchsorted(delta.starts, delta.starts[first] + limits.BASE_BLOCK_WORDS, "right")) - 1
        end = min(max(first + 1, full), first + limits.BASE_BLOCK_ROWS, count)
        begin = delta.starts[first]
        words = delta.words[begin : delta.starts[end]]
        yield ShardDelta(delta.rows[first:end], delta.starts[first : end + 1] - begin, words, b""), None
        first = end
    yield ShardDelta(_NOTHING, np.zeros(1, np.int64), _NOTHING, delta.rest), (count, len(delta.words))


def check_part(folder: Path, manifest: Manifest) -> int:
    """Read all of a part's records and compare their checksums; how many bytes. Raises CheckpointError."""
    total = 0
    with _opened(folder) as files:
        for header in _records(files, manifest):
            fd = files.fd(header.path)
            read_index(fd, header)
            read_body(fd, header, _rooms()[0])
            total += header.end - header.offset
    return total


def missing_files(folder: Path, manifest: Manifest) -> list[Path]:
    """Files that a part needs and that are not there."""
    paths = [folder / "journals" / segment.file for segment in manifest.chain]
    if manifest.base:
        paths.append(folder / "bases" / manifest.base)
    return [path for path in paths if not path.exists()]


def sweep(folder: Path, needed: set[str], generation: int, current: int, lives: Callable[[int], bool]) -> int:
    """Delete files that nobody needs: of this generation (journals before the current one) and of those whose
    process is gone; how many bytes. Raises CheckpointError."""
    freed = 0
    alive: dict[int, bool] = {}
    kept: set[int] = {generation}
    for kind in ("journals", "bases"):
        for entry in sorted((folder / kind).iterdir()):
            of = generation_of(entry.name)
            if not of:
                continue
            if of != generation and of not in alive:
                alive[of] = lives(of)
            is_current = of == generation and kind == "journals" and number_of(entry.name) >= current
            if entry.name in needed or is_current or alive.get(of, False):
                kept.add(of)
                continue
            try:
                size = entry.stat().st_size
                entry.unlink()
                freed += size
            except FileNotFoundError:
                continue
            except OSError as error:
                raise unwritable(entry, error) from error
    for entry in (folder / "generations").iterdir():
        of = generation_of(entry.name)
        if of < generation and of not in kept and not lives(of):
            entry.unlink(missing_ok=True)
    return freed
