"""A process's journal: what changed in its parts, appended and made durable at the end of each epoch.

A record that a manifest tells of is on the disk, with all records before it. Files are never written to again once
the process that made them is gone; a part moves on by pointing to its last record in whichever journal that is.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from segue import limits
from segue.checkpoints.disk import journal_name, number_of, sync_folder, unwritable, write_all
from segue.checkpoints.folder import StateFolder
from segue.checkpoints.keeping import Keeper, Made
from segue.checkpoints.manifest import Manifest, Segment
from segue.checkpoints.record import (
    FILE_WORDS,
    JOURNAL_MAGIC,
    Room,
    Words,
    encode_record,
    file_head,
    record_room,
)
from segue.checkpoints.rest import is_whole
from segue.errors import CheckpointError
from segue.state.delta import ShardDelta

_BLOCK_BYTES = 4_096  # what is written past the page cache begins and ends at multiples of it
_BLOCK_WORDS = _BLOCK_BYTES // 8
_BACKGROUND_BYTES = 1 << 18  # less is written at once: waking a thread takes as long
_ROOMS_MAX = 8  # that wait to be written, before who fills them waits too
_ZEROS_BYTES = 1 << 20  # written at once
_ZEROS_PAUSE_S = 0.004  # in between: the file in use is written and synced meanwhile
_FIRST_FILE_BYTES = 8 << 20  # a start waits for its first file
_GROWS = 4  # times as large is the next one, up to JOURNAL_FILE_BYTES
_NOTHING = ShardDelta(np.zeros(0, np.int64), np.zeros(1, np.int64), np.zeros(0, np.int64), b"")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class _File:
    """A journal file, its room reserved: a disk that is full says so here, not in the middle of a record.

    Written past the page cache where that is possible: fresh pages cost three times what the disk needs, and what
    others have written is not in the way of fdatasync. Its blocks were written before: otherwise each fdatasync would
    wait for the file system's own journal, which says which blocks have been.
    """

    def __init__(
        self, folder: StateFolder, number: int, size: int, zeros_pause_s: float | None = 0.0
    ) -> None:
        self.name = journal_name(folder.generation, number)
        self.number = number
        self.path = folder.journals / self.name
        self.size = size
        self.used = _BLOCK_BYTES
        self.first_ms = 0  # when its first record was written
        self.fd = -1
        try:
            self.fd = self._open()
            os.posix_fallocate(self.fd, 0, size)
            if zeros_pause_s is not None:  # else somebody waits
                self._write_zeros(zeros_pause_s)
            head = Room().words(_BLOCK_WORDS)
            head[:FILE_WORDS] = np.frombuffer(
                file_head(JOURNAL_MAGIC, folder.generation, number, 0), np.int64
            )
            write_all(self.fd, head.data, 0)
            os.fsync(self.fd)
            sync_folder(folder.journals)
        except OSError as error:
            if self.fd >= 0:
                os.close(self.fd)
                with contextlib.suppress(OSError):
                    self.path.unlink()
            raise unwritable(self.path, error) from error

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            return os.open(self.path, flags | getattr(os, "O_DIRECT", 0), 0o644)
        except OSError as error:
            if error.errno != errno.EINVAL:  # a file system that has only the page cache
                raise
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()
            return os.open(self.path, flags, 0o644)

    def _write_zeros(self, pause_s: float) -> None:
        zeros = Room().words(_ZEROS_BYTES // 8).data.cast("B")
        for offset in range(0, self.size, _ZEROS_BYTES):
            whole = -(-min(_ZEROS_BYTES, self.size - offset) // _BLOCK_BYTES) * _BLOCK_BYTES
            write_all(self.fd, zeros[:whole], offset)
            time.sleep(pause_s)

    def write(self, words: Words, offset: int) -> None:
        """Write whole blocks. Raises CheckpointError."""
        try:
            write_all(self.fd, words.data, offset)
        except OSError as error:
            raise unwritable(self.path, error) from error

    def sync(self) -> None:
        """Make durable what was written. Raises CheckpointError."""
        try:
            os.fdatasync(self.fd)
        except OSError as error:
            raise unwritable(self.path, error) from error

    def finish(self) -> None:
        """Make durable what was written, and close. Raises CheckpointError."""
        self.sync()
        self.close()

    def close(self) -> None:
        """Give back the room that was not used."""
        if self.fd >= 0:
            with contextlib.suppress(OSError):
                os.ftruncate(self.fd, self.used)
            os.close(self.fd)
            self.fd = -1


class _Chain:
    """A part's way from its base to its newest record."""

    def __init__(self, manifest: Manifest) -> None:
        self.base = manifest.base
        self.base_bytes = manifest.base_bytes
        self.segments = list(manifest.chain)
        self.file = manifest.file
        self.offset = manifest.offset
        self.extra = manifest.extra
        self.compacting: tuple[int, Manifest] | None = None  # request to the keeper, and what it gathers
        self.handed_out: deque[set[str]] = deque(maxlen=3)  # Bytewax's store may not have them yet

    @property
    def bytes(self) -> int:
        return sum(segment.bytes for segment in self.segments)

    @property
    def records(self) -> int:
        return sum(segment.records for segment in self.segments)

    def add(self, file: str, offset: int, size: int, now_ms: int) -> None:
        last = self.segments[-1] if self.segments else None
        if last is not None and last.file == file:
            self.segments[-1] = Segment(file, last.records + 1, last.bytes + size, last.first_ms)
        else:
            self.segments.append(Segment(file, 1, size, now_ms))
        self.file, self.offset = file, offset

    def begin_anew(self) -> None:
        """What comes now counts alone."""
        self.base, self.base_bytes, self.segments = "", 0, []
        self.file, self.offset, self.compacting = "", 0, None

    def rebase(self, made: Made) -> bool:
        """The base now holds all records that the manifest given to the keeper told of; False: it is of no use, for
        a whole delta came meanwhile."""
        if self.compacting is None or self.compacting[0] != made.number:
            return False
        done = self.compacting[1]
        rest = self.segments[len(done.chain) :]
        if done.chain:
            last = self.segments[len(done.chain) - 1]
            records = last.records - done.chain[-1].records
            if records:
                size = last.bytes - done.chain[-1].bytes
                rest.insert(0, Segment(last.file, records, size, done.time_ms))
        self.base, self.base_bytes, self.segments = made.base, made.base_bytes, rest
        self.compacting = None
        if not rest:
            self.file, self.offset = "", 0
        return True

    def manifest(self, part: int, now_ms: int) -> Manifest:
        return Manifest(
            part=part,
            base=self.base,
            base_bytes=self.base_bytes,
            file=self.file,
            offset=self.offset,
            chain=tuple(self.segments),
            time_ms=now_ms,
            extra=self.extra,
        )

    def is_due(self, now_ms: int, erase_within_ms: int) -> bool:
        """Whether its records should go into a new base."""
        if not self.segments or self.compacting is not None:
            return False
        return (
            self.bytes > max(limits.COMPACT_BYTES_MIN, 2 * self.base_bytes)
            or self.records > limits.CHAIN_RECORDS_MAX
            or len(self.segments) > limits.CHAIN_FILES_MAX
            or now_ms - self.segments[0].first_ms > erase_within_ms // 2
        )


class Journal:
    """All parts of this process. One thread calls it.

    erase_within_ms  words that a newer record or a given-up row replaced are in no file so long after, provided that
                     each part is saved at least once in a quarter of it: half goes by before a part is compacted,
                     the rest is for doing it, for the epochs that stay resumable and for the deletion
    keep             bases are made and files deleted in the background (a process of its own)

    Where parts change much, call append_early as batches finish: it packs, and writes in the background, and so leaves
    little for the epoch's end.

    settled_later  somebody will call `settle` behind all appends of this epoch: until then they need not be durable,
                   and the disk has time while other things are waited for

    Raises CheckpointError; after one every later call raises the same: nothing can follow a gap.
    """

    def __init__(
        self,
        folder: StateFolder,
        *,
        erase_within_ms: int = limits.ERASE_WITHIN_MS_DEFAULT,
        keep: bool = True,
        file_bytes: int = limits.JOURNAL_FILE_BYTES,
        compact_bytes_per_s: int = limits.COMPACT_BYTES_PER_S,
    ) -> None:
        self._folder = folder
        self._erase_within_ms = erase_within_ms
        self._file_bytes = file_bytes
        self._chains: dict[int, _Chain] = {}
        self._room = Room()
        self._rooms_free: list[Room] = []
        self._buffered = 0  # words of the room that wait to be written
        self._dirty = False  # something was written since the last sync
        self._appended: list[int] = []  # parts, and not settled
        self.settled_later = False
        self._failure: CheckpointError | None = None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="journal-writer")
        self._writing: deque[tuple[Future[None], Room | None]] = deque()  # in the background, oldest first
        self._ahead = ThreadPoolExecutor(1, thread_name_prefix="journal-ahead")
        self._file = _File(folder, 1, min(file_bytes, _FIRST_FILE_BYTES))
        self._next: Future[_File] | None = None
        self._collect_ms = max(250, min(20_000, erase_within_ms // 16))
        self._collected_ms = _now_ms()
        self._useless: set[str] = set()  # bases that came too late
        self._keeper = Keeper(folder, compact_bytes_per_s) if keep else None
        encode_record(self._room.words(_BLOCK_WORDS), 0, _NOTHING, 0)  # loads the kernel now, not in an epoch

    def adopt(self, manifest: Manifest) -> None:
        """A part goes on from where a manifest of another process, or an earlier start, ended."""
        self._chains[manifest.part] = _Chain(manifest)

    def append_early(self, parts: Iterable[tuple[int, ShardDelta]]) -> None:
        """Write what changed so far in an epoch: `append` has less left to do. Nothing is durable yet."""
        self._check()
        try:
            self._write(parts, _now_ms())
        except CheckpointError as error:
            self._failure = error
            raise

    def append(
        self,
        parts: Iterable[tuple[int, ShardDelta | None]],
        extra: Mapping[int, dict[str, int]] | None = None,
    ) -> dict[int, Manifest]:
        """Make durable what changed in these parts (None: nothing since append_early or the last time); the
        manifests to keep: once all is settled, if that is left to somebody. Each delta is done with when the next is
        taken: all may live in the same memory. Without parts: look after what is old, which an idle process should do
        now and then."""
        self._check()
        now_ms = _now_ms()
        listed: list[int] = []

        def changed() -> Iterator[tuple[int, ShardDelta]]:
            for part, delta in parts:
                listed.append(part)
                if delta is not None:
                    yield part, delta

        try:
            self._hear()
            self._write(changed(), now_ms)
            self._flush()
        except CheckpointError as error:
            self._failure = error
            raise
        manifests: dict[int, Manifest] = {}
        for part in listed:
            chain = self._chains.setdefault(part, _Chain(Manifest(part)))
            if extra is not None and part in extra:
                chain.extra = extra[part]
            manifest = manifests[part] = chain.manifest(part, now_ms)
            chain.handed_out.append(manifest.files())
        self._appended += listed
        if not self.settled_later:
            self.settle()
        return manifests

    def begin_sync(self) -> None:
        """What was appended becomes durable in the background."""
        if self._dirty:
            self._writing.append((self._writer.submit(self._file.sync), None))
            self._dirty = False

    def settle(self) -> None:
        """Wait until all that was appended is durable."""
        self._check()
        try:
            while self._writing:
                self._settle_one()
            if self._dirty:
                self._file.sync()
                self._dirty = False
            self.settled_later = False
            now_ms = _now_ms()
            for part in self._appended:  # who makes a base reads what is told of: it must be there
                self._gather_if_due(part, now_ms)
            self._appended.clear()
            self._look_after(now_ms)
        except CheckpointError as error:
            self._failure = error
            raise

    def close(self) -> None:
        """Let go of the file and end the keeper."""
        if self._keeper is not None:
            self._keeper.close()
        if self._next is not None:
            with contextlib.suppress(CheckpointError):
                unused = self._next.result()
                unused.close()
                unused.path.unlink(missing_ok=True)
            self._next = None
        self._ahead.shutdown()
        self._writer.shutdown()
        self._file.close()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _write(self, parts: Iterable[tuple[int, ShardDelta]], now_ms: int) -> None:
        """Encode records; they are written once there are enough of them."""
        for part, delta in parts:
            chain = self._chains.setdefault(part, _Chain(Manifest(part)))
            room = record_room(delta) + _BLOCK_WORDS
            if self._file.used + 8 * (self._buffered + room) > self._file.size:
                self._flush()
                if self._file.used + 8 * room > self._file.size:
                    self._rotate(8 * room + _BLOCK_BYTES)
            if is_whole(delta.rest):
                chain.begin_anew()
            back = (0, 0, 0)
            if chain.file:
                generation, number = chain.file.split(".")[0].split("-")
                back = (int(generation), int(number), chain.offset)
            words = self._room.more_words(self._buffered + room, self._buffered)[self._buffered :]
            size = encode_record(words, part, delta, now_ms, back)
            chain.add(self._file.name, self._file.used + 8 * self._buffered, 8 * size, now_ms)
            if self._file.first_ms == 0:
                self._file.first_ms = now_ms
            self._buffered += size
            if 8 * self._buffered >= limits.JOURNAL_WRITE_BYTES:
                self._flush()

    def _flush(self) -> None:
        """Write what waits: much of it in the background, for packing goes on meanwhile."""
        if not self._buffered:
            return
        whole = -(-self._buffered // _BLOCK_WORDS) * _BLOCK_WORDS
        words = self._room.more_words(whole, self._buffered)
        words[self._buffered :] = 0
        file, offset = self._file, self._file.used
        file.used += 8 * whole
        self._buffered = 0
        self._dirty = True
        if 8 * whole >= _BACKGROUND_BYTES or self._writing:
            self._writing.append((self._writer.submit(file.write, words, offset), self._room))
            while self._writing and (self._writing[0][0].done() or len(self._writing) >= _ROOMS_MAX):
                self._settle_one()
            self._room = self._rooms_free.pop() if self._rooms_free else Room()
        else:
            file.write(words, offset)
        if self._next is None and file.used > file.size // 4:
            self._prepare_next()

    def _prepare_next(self) -> None:
        file = self._file
        size = self._following_bytes()
        self._next = self._ahead.submit(_File, self._folder, file.number + 1, size, _ZEROS_PAUSE_S)

    def _following_bytes(self) -> int:
        """A process that writes little needs no large files."""
        return min(self._file_bytes, _GROWS * self._file.size)

    def _settle_one(self) -> None:
        """Wait for the oldest of what is done in the background. Raises what went wrong with it."""
        writing, room = self._writing.popleft()
        if room is not None:
            self._rooms_free.append(room)
        writing.result()

    def _rotate(self, need: int) -> None:
        """Go on in a new file with room for so many bytes."""
        number = self._file.number + 1
        following = self._next.result() if self._next is not None else None
        self._next = None
        if following is not None and following.size < need:
            following.close()
            with contextlib.suppress(OSError):
                following.path.unlink()
            number += 1
            following = None
        if following is None:
            following = _File(self._folder, number, max(self._following_bytes(), need), None)
        self._writing.append((self._writer.submit(self._file.finish), None))
        self._dirty = False
        self._file = following

    # --- the keeper ----------------------------------------------------------------------------------

    def _hear(self) -> None:
        """Take over bases that were made meanwhile. Raises what went wrong with one."""
        if self._keeper is None:
            return
        for made in self._keeper.made():
            if not self._chains[made.part].rebase(made):
                self._useless.add(made.base)

    def _gather_if_due(self, part: int, now_ms: int) -> None:
        chain = self._chains[part]
        if self._keeper is not None and chain.is_due(now_ms, self._erase_within_ms):
            manifest = chain.manifest(part, now_ms)
            chain.compacting = self._keeper.compact(manifest), manifest

    def _look_after(self, now_ms: int) -> None:
        if self._file.first_ms and now_ms - self._file.first_ms > self._erase_within_ms // 8:
            if self._next is None:
                self._prepare_next()
            elif self._next.done():
                self._rotate(0)
        if self._keeper is not None and now_ms - self._collected_ms >= self._collect_ms:
            self._collected_ms = now_ms
            names = {name for chain in self._chains.values() for files in chain.handed_out for name in files}
            for part, chain in self._chains.items():
                names |= chain.manifest(part, now_ms).files()
                self._gather_if_due(part, now_ms)  # a part that is idle grows old too
            # a base is not deleted before it was named once: then this side knows it
            if self._keeper.collect(names | self._useless, number_of(self._file.name)):
                self._useless.clear()
