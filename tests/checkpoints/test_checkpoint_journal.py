"""What a journal was given comes back, over files, generations and bases; what was not written whole is refused."""

from __future__ import annotations

import dataclasses
import errno
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from segue import limits
from segue.checkpoints import journal as journal_module
from segue.checkpoints.bases import check_part, load, write_base
from segue.checkpoints.folder import StateFolder
from segue.checkpoints.journal import Journal
from segue.checkpoints.manifest import Manifest, decode_manifest, manifests_in
from segue.checkpoints.record import Room
from segue.errors import CheckpointError
from tests.checkpoints.parts import Rows, changed, delta, opened, rows_of, some_rows

FILE_BYTES = 1 << 16


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[StateFolder]:
    with opened(tmp_path / "state") as folder:
        yield folder


@pytest.fixture
def journal(folder: StateFolder) -> Iterator[Journal]:
    journal = Journal(folder, keep=False, file_bytes=FILE_BYTES)
    yield journal
    journal.close()


def test_rows_of_many_epochs_come_back_merged(folder: StateFolder, journal: Journal) -> None:
    chance = random.Random(5)
    kept: dict[int, Rows] = {0: {}, 1: {}, 7: {}}
    for epoch in range(60):
        early = {part: some_rows(chance) for part in kept}
        late = {part: some_rows(chance) for part in kept}
        journal.append_early([(part, delta(rows, b"early")) for part, rows in early.items()])
        manifests = journal.append(
            [(part, delta(rows, b"%d %d" % (part, epoch))) for part, rows in late.items()]
        )
        for part, manifest in manifests.items():
            kept[part] = changed(changed(kept[part], early[part]), late[part])
            loaded = load(folder.path, manifest)
            assert rows_of(loaded) == kept[part]
            assert loaded.rest == b"%d %d" % (part, epoch)
            assert check_part(folder.path, manifest) > 0
    assert len(list(folder.journals.iterdir())) > 3


def test_a_manifest_is_small_and_survives_bytewax(folder: StateFolder, journal: Journal) -> None:
    for _ in range(160):
        manifest = journal.append([(65_539, delta({1: [7] * 100}))], {65_539: {"sequence": 2**62}})[65_539]
    saved = manifest.encode()
    assert len(saved) < 1_024
    assert decode_manifest(saved) == manifest
    assert manifest.extra == {"sequence": 2**62}
    assert manifest.records == 160
    assert len(manifest.chain) == limits.CHAIN_FILES_MAX
    assert manifests_in({"a": (saved, [manifest], b"else", 5)}) == [manifest, manifest]
    with pytest.raises(CheckpointError, match="not valid"):
        decode_manifest(saved[:-9])


def test_an_older_manifest_still_loads_what_it_told_of(folder: StateFolder, journal: Journal) -> None:
    manifests = [journal.append([(0, delta({n: [n + 1]}))])[0] for n in range(20)]
    for n, manifest in enumerate(manifests):
        assert sorted(rows_of(load(folder.path, manifest))) == list(range(n + 1))


def test_a_part_that_did_not_change_keeps_its_records(folder: StateFolder, journal: Journal) -> None:
    first = journal.append([(0, delta({1: [5]}))])[0]
    again = journal.append([(0, None), (1, None)])
    assert msgspec.structs.replace(again[0], time_ms=first.time_ms) == first
    assert rows_of(load(folder.path, again[1])) == {}


def test_a_whole_delta_begins_anew(folder: StateFolder, journal: Journal) -> None:
    def rest(whole: bool) -> bytes:
        return msgspec.msgpack.encode([1, whole, b"", b"", {}])

    journal.append([(0, delta({1: [5], 2: [6]}, rest(False)))])
    journal.append([(0, delta({3: [7]}, rest(True)))])
    manifest = journal.append([(0, delta({4: [8]}, rest(False)))])[0]
    assert manifest.records == 2
    loaded = load(folder.path, manifest)
    assert rows_of(loaded) == {3: [7], 4: [8]}
    assert loaded.rest == rest(True)


def test_a_part_goes_on_in_another_generation(tmp_path: Path) -> None:
    kept: Rows = {}
    manifest: Manifest | None = None
    chance = random.Random(2)
    for generation in range(1, 5):
        with opened(tmp_path / "state") as folder:
            assert folder.generation == generation
            journal = Journal(folder, keep=False, file_bytes=FILE_BYTES)
            if manifest is not None:
                assert rows_of(load(folder.path, manifest)) == kept
                journal.adopt(manifest)
            for _ in range(3):
                rows = some_rows(chance)
                kept = changed(kept, rows)
                manifest = journal.append([(3, delta(rows))])[3]
            journal.close()
    assert manifest is not None
    assert [segment.records for segment in manifest.chain] == [3, 3, 3, 3]
    assert rows_of(load(tmp_path / "state", manifest)) == kept


def test_a_base_is_what_it_was_made_of(folder: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BASE_BLOCK_WORDS", 50)
    monkeypatch.setattr(limits, "BASE_BLOCK_ROWS", 7)
    chance = random.Random(9)
    room = Room()
    for number in range(1, 30):
        rows = {row: words for row, words in some_rows(chance, 100).items() if words}
        rows[199] = [chance.randrange(1, 9)] * chance.randrange(1, 200)
        name, size = write_base(folder.path, folder.generation, number, 2, delta(rows, b"r" * number))
        assert size == (folder.bases / name).stat().st_size
        for threads in (False, True):
            loaded = load(folder.path, Manifest(2, name, size), threads=threads, room=room)
            assert rows_of(loaded) == rows
            assert loaded.rest == b"r" * number


def test_a_record_larger_than_a_file_gets_a_file_of_its_own(folder: StateFolder, journal: Journal) -> None:
    large = {row: [row + 1] * 100 for row in range(1_000)}
    journal.append([(0, delta({5_000: [1]}))])
    manifest = journal.append([(0, delta(large)), (1, delta(large))])[0]
    assert rows_of(load(folder.path, manifest)) == {**large, 5_000: [1]}
    assert journal.append([(0, delta({1: [2]}))])[0].records == 3


# --- what can be wrong with a file -----------------------------------------------------------------------


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def refused(folder: StateFolder, manifest: Manifest) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(folder.path, manifest)
    assert caught.value.step == "read a checkpoint"
    assert caught.value.hint.endswith(f"segue checkpoints restore --state {folder.path}")
    with pytest.raises(CheckpointError):
        check_part(folder.path, manifest)
    return caught.value.found


@pytest.fixture
def saved(folder: StateFolder, journal: Journal) -> Manifest:
    base, size = write_base(folder.path, folder.generation, 1, 0, delta({1: [5] * 90, 2: [6]}))
    journal.adopt(Manifest(0, base, size))
    for row in range(3):
        manifest = journal.append([(0, delta({row: [row + 9] * 40}))])[0]
    return manifest


def test_every_flipped_byte_of_a_record_or_base_is_found(folder: StateFolder, saved: Manifest) -> None:
    whole = rows_of(load(folder.path, saved))
    base = folder.bases / saved.base
    record = folder.journals / saved.file
    for path, first, size in ((base, 0, saved.base_bytes), (record, saved.offset, 128 + 24 + 8 * 43)):
        for at in range(first, first + size, 3):
            flip(path, at)
            assert f'"{path}" is damaged at byte ' in refused(folder, saved)
            flip(path, at)
    assert rows_of(load(folder.path, saved)) == whole


def test_half_a_file_is_refused(folder: StateFolder, saved: Manifest) -> None:
    for path, least in ((folder.bases / saved.base, 0), (folder.journals / saved.file, 0)):
        data = path.read_bytes()
        end = saved.offset + 400 if path.suffix == ".journal" else len(data)
        for size in range(least, end, 97):
            path.write_bytes(data[:size])
            assert "too early" in refused(folder, saved)
        path.write_bytes(data)


def test_a_missing_file_is_named(folder: StateFolder, saved: Manifest) -> None:
    for path in (folder.bases / saved.base, folder.journals / saved.file):
        path.rename(path.with_suffix(".away"))
        assert refused(folder, saved) == f'"{path}" is missing'
        path.with_suffix(".away").rename(path)


def test_a_file_of_another_kind_is_refused(folder: StateFolder, saved: Manifest) -> None:
    base = folder.bases / saved.base
    journal = folder.journals / saved.file
    base.write_bytes(journal.read_bytes())
    assert "does not begin as a base" in refused(folder, saved)
    base.write_bytes(b"PAR1" * 100)
    assert "does not begin as a base" in refused(folder, saved)


def test_a_base_of_another_part_is_refused(folder: StateFolder, saved: Manifest) -> None:
    name, size = write_base(folder.path, folder.generation, 2, 5, delta({1: [5]}))
    assert "belongs to part 5" in refused(folder, Manifest(0, name, size))


def test_a_manifest_that_does_not_fit_the_records_is_refused(folder: StateFolder, saved: Manifest) -> None:
    assert "no record begins" in refused(folder, msgspec.structs.replace(saved, offset=saved.offset + 8))
    segment = msgspec.structs.replace(saved.chain[0], records=4)
    assert "points to nothing" in refused(folder, msgspec.structs.replace(saved, chain=(segment,)))


# --- a disk that does not take it ------------------------------------------------------------------------


def test_a_full_disk_is_told_and_nothing_follows_the_gap(
    folder: StateFolder, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = journal.append([(0, delta({1: [5]}))])[0]

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(journal_module, "write_all", full)
    for _ in range(2):
        with pytest.raises(CheckpointError) as caught:
            journal.append([(0, delta({2: [5]}))])
        assert "No space left on device" in caught.value.found
        assert str(folder.journals) in caught.value.found
        assert "free some space" in caught.value.hint
        monkeypatch.undo()  # space again: the gap is still there
    assert rows_of(load(folder.path, good)) == {1: [5]}


def test_a_failed_fdatasync_is_never_tried_again(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", failing)
    with pytest.raises(CheckpointError, match="Input/output error"):
        journal.append([(0, delta({1: [5]}))])
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="Input/output error"):
        journal.append_early([(0, delta({1: [5]}))])


def test_what_is_settled_later_is_synced_once_and_in_the_background(
    folder: StateFolder, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []  # by which thread
    fdatasync = os.fdatasync

    def noted(fd: int) -> None:
        synced.append(threading.get_ident())
        fdatasync(fd)

    monkeypatch.setattr(os, "fdatasync", noted)
    journal.append([(0, delta({1: [5]}))])
    here = threading.get_ident()
    assert synced == [here]

    journal.settled_later = True
    first = journal.append([(0, delta({1: [6]}))])[0]
    second = journal.append([(1, delta({2: [7]}))])[1]
    assert synced == [here]
    journal.begin_sync()
    journal.settle()
    [_, elsewhere] = synced
    assert elsewhere != here
    assert rows_of(load(folder.path, first)) == {1: [6]}
    assert rows_of(load(folder.path, second)) == {2: [7]}

    assert not journal.settled_later  # promised anew in each epoch
    journal.append([(0, delta({1: [8]}))])
    assert synced[2:] == [here]


def test_who_settles_hears_that_the_disk_failed(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    journal.settled_later = True
    monkeypatch.setattr(os, "fdatasync", failing)
    journal.append([(0, delta({1: [5]}))])
    journal.begin_sync()
    for _ in range(2):
        with pytest.raises(CheckpointError, match="Input/output error"):
            journal.settle()
        monkeypatch.undo()


def test_room_for_a_file_is_reserved_or_refused_with_its_name(folder: StateFolder) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES - 1, before[1]))
        with pytest.raises(CheckpointError) as caught:
            Journal(folder, keep=False, file_bytes=FILE_BYTES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert "File too large" in caught.value.found
    assert "ulimit" in caught.value.hint
    assert list(folder.journals.iterdir()) == []


def test_a_base_that_finds_no_room_leaves_nothing(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left"):
        write_base(folder.path, folder.generation, 1, 0, delta({1: [5]}))
    assert list(folder.bases.iterdir()) == []


# --- kill -9 ---------------------------------------------------------------------------------------------

_WRITER = """
import random, sys
from pathlib import Path
from segue.checkpoints.journal import Journal
from tests.checkpoints.parts import delta, opened, some_rows

chance = random.Random(int(sys.argv[2]))
folder = opened(Path(sys.argv[1]))
journal = Journal(folder, keep=False, file_bytes=1 << 16)
while True:
    for part in range(3):
        journal.append_early([(part, delta(some_rows(chance)))])
    manifests = journal.append([(part, delta(some_rows(chance))) for part in range(3)])
    for manifest in manifests.values():
        sys.stdout.buffer.write(manifest.encode() + b"\\n")
    sys.stdout.buffer.flush()
"""


def test_whatever_was_told_before_a_kill_loads(tmp_path: Path) -> None:
    for seed in range(4):
        path = tmp_path / f"state-{seed}"
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path), str(seed)], stdout=subprocess.PIPE, cwd=Path.cwd()
        )
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(9)]
        time.sleep(random.Random(seed).uniform(0, 0.2))
        writer.kill()
        lines += [line for line in writer.stdout.read().split(b"\n") if line.endswith(b"}")]
        writer.communicate()
        told = [decode_manifest(line) for line in lines]
        chance = random.Random(seed)
        kept: dict[int, Rows] = {0: {}, 1: {}, 2: {}}
        for at in range(0, len(told) - 2, 3):
            for _ in range(2):
                for part in range(3):
                    kept[part] = changed(kept[part], some_rows(chance))
            for manifest in told[at : at + 3]:
                assert rows_of(load(path, manifest)) == kept[manifest.part]


def test_words_may_be_read_only(folder: StateFolder, journal: Journal) -> None:
    part = delta({1: [5, 0, 6]})
    for array in (part.rows, part.starts, part.words):
        array.setflags(write=False)
    manifest = journal.append([(0, dataclasses.replace(part, rest=b""))])[0]
    loaded = load(folder.path, manifest)
    assert rows_of(loaded) == {1: [5, 0, 6]}
    assert np.array_equal(loaded.starts, part.starts)
