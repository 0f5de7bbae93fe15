"""What is read back ahead is what a load gives, in whatever order it is asked for."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from segue import limits
from segue.checkpoints.folder import StateFolder
from segue.checkpoints.journal import Journal
from segue.checkpoints.manifest import Manifest
from segue.checkpoints.preload import Preload
from segue.errors import CheckpointError
from tests.checkpoints.parts import Rows, changed, delta, opened, rows_of, some_rows

PARTS = 9


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[StateFolder]:
    with opened(tmp_path / "state") as folder:
        yield folder


@pytest.fixture
def saved(folder: StateFolder) -> dict[int, tuple[Manifest, Rows]]:
    journal = Journal(folder, keep=False)
    chance = random.Random(3)
    first = {part: some_rows(chance) for part in range(PARTS)}
    second = {part: some_rows(chance) for part in range(PARTS)}
    journal.append([(part, delta(rows)) for part, rows in first.items()])
    manifests = journal.append([(part, delta(rows)) for part, rows in second.items()])
    journal.close()
    return {part: (manifests[part], changed(changed({}, first[part]), second[part])) for part in range(PARTS)}


@pytest.mark.parametrize("ahead", [0, 4_000, 1 << 30])
def test_in_any_order(
    folder: StateFolder,
    saved: dict[int, tuple[Manifest, Rows]],
    ahead: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "PRELOAD_BYTES", ahead)
    for seed in range(8):
        order = list(saved)
        if seed:
            random.Random(seed).shuffle(order)
        listed = order if seed % 2 else sorted(saved)
        preload = Preload(folder.path, [saved[part][0] for part in listed if part != 4])
        for part in order:
            manifest, rows = saved[part]
            assert rows_of(preload.take(manifest)) == rows
        preload.close()


def test_what_is_wrong_is_raised_where_it_is_taken(
    folder: StateFolder, saved: dict[int, tuple[Manifest, Rows]]
) -> None:
    (folder.journals / saved[0][0].file).unlink()
    preload = Preload(folder.path, [manifest for manifest, _ in saved.values()])
    for manifest, _ in saved.values():
        with pytest.raises(CheckpointError, match="missing"):
            preload.take(manifest)
    preload.close()


def test_what_nobody_asks_for_is_let_go(folder: StateFolder, saved: dict[int, tuple[Manifest, Rows]]) -> None:
    preload = Preload(folder.path, [manifest for manifest, _ in saved.values()])
    preload.take(saved[0][0])
    preload.close()
    preload.close()
