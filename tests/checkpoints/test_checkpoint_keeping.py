"""Bases made beside the engine, files deleted once nothing needs them, and what was erased gone from all of them."""

from __future__ import annotations

import random
import sqlite3
import time
from pathlib import Path

import msgspec
import pytest

from segue import limits
from segue.checkpoints.bases import load
from segue.checkpoints.folder import StateFolder
from segue.checkpoints.journal import Journal
from segue.checkpoints.keeping import Request, Work
from segue.checkpoints.manifest import Manifest
from segue.errors import CheckpointError
from tests.checkpoints.parts import Rows, changed, delta, opened, rows_of, some_rows

PERSON = int.from_bytes(b"PERSON-7", "little")
FILE_BYTES = 1 << 16


class Store:
    """What Bytewax does to its store: the newest two epochs stay."""

    def __init__(self, folder: StateFolder) -> None:
        self._path = folder.recovery / "part-0.sqlite3"
        self._epoch = 0

    def save(self, manifests: dict[int, Manifest]) -> None:
        import pickle

        self._epoch += 1
        store = sqlite3.connect(self._path)
        with store:
            for part, manifest in manifests.items():
                row = ("flow.known", f"known-{part}", self._epoch, pickle.dumps(manifest.encode()))
                store.execute(
                    "INSERT INTO snaps (step_id, state_key, snap_epoch, ser_change) VALUES (?,?,?,?)", row
                )
            store.execute("DELETE FROM snaps WHERE snap_epoch < ?", (self._epoch - 1,))
        store.close()


def files_with(path: Path, data: bytes) -> list[Path]:
    return [file for file in path.rglob("*") if file.is_file() and data in file.read_bytes()]


def test_a_base_takes_the_place_of_the_records_it_has(tmp_path: Path) -> None:
    chance = random.Random(3)
    with opened(tmp_path) as folder:
        journal = Journal(folder, keep=False)
        work = Work(tmp_path, folder.generation, 0)
        kept: Rows = {}
        manifest = Manifest(2)
        for number in range(5):
            for _ in range(4):
                rows = some_rows(chance)
                kept = changed(kept, rows)
                manifest = journal.append([(2, delta(rows, b"rest %d" % number))])[2]
            made = work.compact(manifest)
            rebased = Manifest(2, made.base, made.base_bytes)
            loaded = load(tmp_path, rebased)
            assert rows_of(loaded) == kept
            assert loaded.rest == b"rest %d" % number
            journal.adopt(rebased)
        journal.close()


@pytest.mark.timeout(120)
def test_the_keeper_gathers_and_deletes_while_the_journal_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "COMPACT_BYTES_MIN", 1 << 15)
    chance = random.Random(11)
    with opened(tmp_path) as folder:
        journal = Journal(folder, file_bytes=FILE_BYTES, erase_within_ms=4_000)
        store = Store(folder)
        kept: dict[int, Rows] = {0: {}, 1: {}}
        bases: set[str] = set()
        until = time.monotonic() + 60
        while len(bases) < 8 and time.monotonic() < until:
            rows = {part: some_rows(chance, 60) for part in kept}
            kept = {part: changed(kept[part], rows[part]) for part in kept}
            manifests = journal.append([(part, delta(rows[part])) for part in kept])
            store.save(manifests)
            bases |= {manifest.base for manifest in manifests.values() if manifest.base}
            time.sleep(0.01)
        for part, manifest in manifests.items():
            assert rows_of(load(tmp_path, manifest)) == kept[part]
        assert len(bases) >= 8
        assert len(list(folder.bases.iterdir())) < 8
        journal.close()
        numbers = sorted(entry.name for entry in folder.journals.iterdir())
        assert numbers[0] != "00000001-000001.journal"
    # a later start goes on, and cleans up after the first
    with opened(tmp_path) as folder:
        journal = Journal(folder, file_bytes=FILE_BYTES, erase_within_ms=4_000)
        for manifest in manifests.values():
            journal.adopt(manifest)
        until = time.monotonic() + 60
        while any(entry.name.startswith("00000001") for entry in (tmp_path / "journals").iterdir()):
            assert time.monotonic() < until
            manifests = journal.append([(part, delta({1: [7]})) for part in kept])
            store.save(manifests)
            time.sleep(0.02)
        for part, manifest in manifests.items():
            assert rows_of(load(tmp_path, manifest)) == changed(kept[part], {1: [7]})
        journal.close()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("replaced", [[], [5, 6]])
def test_who_was_erased_is_in_no_file_in_time(tmp_path: Path, replaced: list[int]) -> None:
    erase_within_ms = 6_000
    person = PERSON.to_bytes(8, "little")
    with opened(tmp_path) as folder:
        journal = Journal(folder, file_bytes=FILE_BYTES, erase_within_ms=erase_within_ms)
        store = Store(folder)
        # in a base, in a journal of that base, and in a journal of a part without one
        base = Work(tmp_path, 99, 0).compact(journal.append([(0, delta({3: [PERSON, 1], 4: [9]}))])[0])
        journal.adopt(Manifest(0, base.base, base.base_bytes))
        store.save(journal.append([(0, delta({3: [PERSON, 2]})), (1, delta({8: [PERSON], 9: [1]}))]))
        assert len(files_with(tmp_path, person)) == 2
        erased = time.monotonic()
        manifests = journal.append([(0, delta({3: replaced})), (1, delta({8: replaced}))])
        store.save(manifests)
        while files_with(tmp_path, person):
            assert time.monotonic() - erased < erase_within_ms / 1_000
            manifests = journal.append([(0, delta({})), (1, None)])
            store.save(manifests)
            time.sleep(0.05)
        for part, row in ((0, 3), (1, 8)):
            assert rows_of(load(tmp_path, manifests[part])).get(row, []) == replaced
        journal.close()


@pytest.mark.timeout(60)
def test_a_part_that_is_idle_is_gathered_too(tmp_path: Path) -> None:
    with opened(tmp_path) as folder:
        journal = Journal(folder, file_bytes=FILE_BYTES, erase_within_ms=1_000)
        journal.append([(0, delta({1: [5]})), (1, delta({1: [6]}))])
        until = time.monotonic() + 30
        manifest = Manifest(1)
        while not manifest.base and time.monotonic() < until:
            journal.append([])
            if len(list(folder.bases.glob("*.base"))) == 2:
                manifest = journal.append([(1, None)])[1]
            time.sleep(0.05)
        assert manifest.chain == ()
        assert rows_of(load(tmp_path, manifest)) == {1: [6]}
        journal.close()


@pytest.mark.timeout(60)
def test_a_base_that_a_whole_delta_overtook_is_of_no_use(tmp_path: Path) -> None:
    def rest(whole: bool) -> bytes:
        return msgspec.msgpack.encode([1, whole, b"", b"", {}])

    with opened(tmp_path) as folder:
        journal = Journal(folder, file_bytes=FILE_BYTES, erase_within_ms=1_000)
        store = Store(folder)
        store.save(journal.append([(0, delta({1: [PERSON]}, rest(False)))]))
        time.sleep(0.6)
        store.save(journal.append([(0, delta({2: [6]}, rest(False)))]))  # the keeper begins with a base
        kept = {3: [7]}
        manifests = journal.append([(0, delta(kept, rest(True)))])
        store.save(manifests)
        until = time.monotonic() + 30
        while not manifests[0].base or files_with(tmp_path, PERSON.to_bytes(8, "little")):
            assert time.monotonic() < until
            manifests = journal.append([(0, delta({4: [8]}, rest(False)))])
            store.save(manifests)
            assert rows_of(load(tmp_path, manifests[0])) == {**kept, 4: [8]}
            time.sleep(0.05)
        journal.close()


def test_files_of_living_processes_and_of_any_epoch_in_the_store_stay(tmp_path: Path) -> None:
    with opened(tmp_path) as folder, opened_beside(tmp_path, folder) as other:
        journal = Journal(folder, keep=False, file_bytes=FILE_BYTES)
        beside = Journal(other, keep=False, file_bytes=FILE_BYTES)
        store = Store(folder)
        store.save(journal.append([(0, delta({1: [1]}))]))
        theirs = beside.append([(1, delta({1: [1]}))])[1]  # not in the store yet
        work = Work(tmp_path, folder.generation, 0)
        before = {file for kind in ("journals", "bases") for file in (tmp_path / kind).iterdir()}
        assert work.answer(Request(names=set(), current=2)).freed == 0
        assert {file for kind in ("journals", "bases") for file in (tmp_path / kind).iterdir()} == before
        beside.close()
        other.close()
        assert work.answer(Request(names=set(), current=2)).freed > 0
        assert not (folder.journals / theirs.file).exists()
        journal.close()


def opened_beside(path: Path, folder: StateFolder) -> StateFolder:
    _, environment = folder.inheritance()
    patch = pytest.MonkeyPatch()
    try:
        for name, value in environment.items():
            patch.setenv(name, value)
        return opened(path)
    finally:
        patch.undo()


def test_a_new_base_stays_until_its_manifest_is_known(tmp_path: Path) -> None:
    with opened(tmp_path) as folder:
        journal = Journal(folder, keep=False)
        work = Work(tmp_path, folder.generation, 0)
        made = work.compact(journal.append([(0, delta({1: [1]}))])[0])
        assert work.answer(Request(names=set(), current=1)).freed == 0
        assert work.answer(Request(names={made.base}, current=1)).freed == 0
        assert work.answer(Request(names=set(), current=1)).freed == made.base_bytes
        journal.close()


def append_for_long(journal: Journal, kill: bool = False) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        journal.append([(0, delta({1: [1] * 100}))])
        process = journal._keeper._process  # type: ignore[union-attr]
        if kill and process is not None:
            process.kill()
        time.sleep(0.01)


@pytest.mark.timeout(60)
def test_a_damaged_file_met_by_the_keeper_stops_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "COMPACT_BYTES_MIN", 100)
    with opened(tmp_path) as folder:
        base = Work(tmp_path, 77, 0).compact(Manifest(0))
        journal = Journal(folder)
        journal.adopt(Manifest(0, base.base, base.base_bytes))
        path = folder.bases / base.base
        path.write_bytes(path.read_bytes()[:-8])
        with pytest.raises(CheckpointError, match="is damaged at byte"):
            append_for_long(journal)
        journal.close()


@pytest.mark.timeout(60)
def test_a_keeper_that_was_killed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "COMPACT_BYTES_MIN", 100)
    with opened(tmp_path) as folder:
        journal = Journal(folder)
        with pytest.raises(CheckpointError, match="ended with code -9"):
            append_for_long(journal, kill=True)
        journal.close()
