"""A run on files that is killed goes on where it was: what it wrote in the end is what an undisturbed run writes."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from segue.simulate import SimulationSettings, write_simulation
from tests.flows.resumable import finished, killed_after, with_kills
from tests.flows.runs import OFTEN, Case, Told, run_threads, seeded_case, seeds, write_case
from tests.reference.choice import Seeded

POINTS = ("after_poll", "after_engine", "after_delta", "after_manifest", "after_epoch")


def simulated(folder: Path, seed: int, events: int = 8_000) -> Case:
    """One file, the shipped policies."""
    path = folder / "events.jsonl"
    with open(path, "wb") as file:
        write_simulation(SimulationSettings(customers=300, events=events, seed=seed), file)
    case = write_case(folder, [], [OFTEN], inputs=(str(path),), batch_rows=100)
    return case


def lines_and_rows(out: Path) -> dict[str, object]:
    """All outputs, in their order."""
    told: dict[str, object] = {path.name: path.read_bytes().splitlines() for path in out.glob("*.jsonl")}
    for path in out.glob("*.arrows"):
        told[path.name] = pa.ipc.open_stream(path).read_all().to_pylist()
    return told


def assert_same(case: Case, told: Told) -> None:
    assert told.essence() == run_threads(case).essence()


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_named_point(tmp_path: Path, point: str) -> None:
    """Every file is the same, line by line and row by row."""
    choice = Seeded(POINTS.index(point))
    case = simulated(tmp_path, seed=7)
    with_kills(case, [f"{point}:{choice.number(2, 9)}", f"{point}:{choice.number(1, 3)}"])
    run_threads(case)
    undisturbed = lines_and_rows(tmp_path / "out-0")
    del undisturbed["summary.jsonl"]
    resumed = lines_and_rows(tmp_path / "out")
    assert {name: resumed[name] for name in undisturbed} == undisturbed
