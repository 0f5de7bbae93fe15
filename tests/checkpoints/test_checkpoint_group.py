"""Parts of a step saved together, and the tables that they share: what is loaded is what they were when asked."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segue import limits
from segue.checkpoints import world as world_module
from segue.checkpoints.bases import load
from segue.checkpoints.group import Group
from segue.checkpoints.journal import Journal
from segue.checkpoints.manifest import decode_manifest
from segue.checkpoints.world import SavedWorld, merged_world
from segue.state.delta import ShardDelta
from tests.checkpoints.parts import Rows, changed, delta, opened, rows_of


class Part:
    """A part of one row that holds a number; it says that as often as it is asked."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.saves = 0

    def save(self, room: object = None) -> ShardDelta:
        self.saves += 1
        return delta({0: [self.number, self.saves]})


def test_the_first_that_is_asked_has_all_saved(tmp_path: Path) -> None:
    with opened(tmp_path) as folder:
        journal = Journal(folder, keep=False)
        group = Group(journal)
        parts = [Part(10), Part(20), Part(30)]
        for number, part in enumerate(parts):
            group.join(number, part.save)
        group.saved(1)
        assert [part.saves for part in parts] == [1, 1, 1]
        group.saved(0)
        assert [part.saves for part in parts] == [1, 1, 1]

        # the third slept through an epoch: what is said of it is as it was
        group.touch(0)
        group.touch(1)
        saved = [group.saved(number) for number in (1, 0, 2)]
        assert [part.saves for part in parts] == [2, 2, 1]
        loaded = [rows_of(load(tmp_path, decode_manifest(manifest))) for (manifest,) in saved]
        assert loaded == [{0: [20, 2]}, {0: [10, 2]}, {0: [30, 1]}]
        journal.close()


class Counting:
    """A part of many rows; `change` counts one of them up."""

    def __init__(self) -> None:
        self.rows: Rows = {}
        self.dirty: set[int] = set()
        self.rooms: list[bool] = []

    def change(self, row: int) -> None:
        self.rows[row] = [self.rows.get(row, [0])[0] + 1]
        self.dirty.add(row)

    def save(self, room: np.ndarray[Any, np.dtype[np.int64]] | None) -> ShardDelta:
        self.rooms.append(room is not None)
        saved = delta({row: self.rows[row] for row in self.dirty})
        self.dirty.clear()
        if room is None or len(room) < len(saved.words):
            return saved
        room[: len(saved.words)] = saved.words
        return ShardDelta(saved.rows, saved.starts, room[: len(saved.words)], saved.rest)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    epochs=st.lists(
        st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), max_size=60), min_size=1, max_size=5
    ),
    early=st.integers(1, 12),
)
def test_rows_saved_early_are_as_they_are_at_the_end(
    monkeypatch: pytest.MonkeyPatch, epochs: list[list[tuple[int, int]]], early: int
) -> None:
    """However often rows change after they were saved; what an older manifest tells of stays as it was."""
    monkeypatch.setattr(limits, "SAVE_EARLY_ROWS", early)
    with tempfile.TemporaryDirectory() as path, opened(Path(path)) as folder:
        journal = Journal(folder, keep=False, file_bytes=1 << 16)
        group = Group(journal)
        parts = [Counting() for _ in range(3)]
        for number, part in enumerate(parts):
            group.join(number, part.save, changed=partial(len, part.dirty))
        told: list[tuple[bytes, Rows]] = []
        for changes in epochs:
            for number, row in changes:
                group.touch(number)
                assert len(parts[number].dirty) <= max(early, 60 // limits.SAVE_EARLY_SHARE)
                parts[number].change(row)
            told += [(group.saved(number)[0], dict(part.rows)) for number, part in enumerate(parts)]
        for manifest, rows in told:
            assert rows_of(load(folder.path, decode_manifest(manifest))) == rows
        journal.close()


def test_a_part_that_changes_much_is_saved_early_less_often(tmp_path: Path) -> None:
    with opened(tmp_path) as folder:
        journal = Journal(folder, keep=False)
        group = Group(journal)
        part = Counting()
        group.join(0, part.save, changed=lambda: len(part.dirty))
        group.saved(0)
        often = []
        for _ in range(2):
            part.rooms.clear()
            for row in range(16 * limits.SAVE_EARLY_ROWS):
                group.touch(0)
                part.change(row)
            group.saved(0)
            often.append(len(part.rooms))
        assert often == [16, limits.SAVE_EARLY_SHARE]
        assert all(part.rooms)
        journal.close()


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    begun=st.one_of(st.none(), st.binary(min_size=1, max_size=40)),
    saves=st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=20),
)
def test_rows_of_a_world_say_all_it_was_told(
    monkeypatch: pytest.MonkeyPatch, begun: bytes | None, saves: list[bytes]
) -> None:
    """Two saves made one are told one after the other here: what is loaded is all of them in order."""
    monkeypatch.setattr(world_module, "merge_worlds", b"".join)
    monkeypatch.setattr(world_module, "forgets", lambda save: save[0] == 7)
    saved = SavedWorld(begun)
    kept: Rows = {}
    told = begun or b""
    for save in saves:
        told += save
        kept = changed(kept, rows_of(saved.add(save)))
        assert merged_world([delta(kept)]) == told
    assert len(kept) <= 2 + len(told).bit_length()


def test_a_world_that_was_told_nothing() -> None:
    assert merged_world([]) is None
