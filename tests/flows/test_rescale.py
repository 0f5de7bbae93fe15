"""The number of processes may differ from start to start: every customer's state stays."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from segue.simulate import SimulationSettings, write_simulation
from tests.flows.resumable import with_kills
from tests.flows.runs import OFTEN, run_threads, seeded_case, write_case


def test_one_three_two(tmp_path: Path) -> None:
    file = BytesIO()
    write_simulation(SimulationSettings(customers=300, events=5_000, seed=4), file)
    case = write_case(tmp_path, [file.getvalue()], [OFTEN], batch_rows=50)
    told = with_kills(case, ["after_manifest:4", "after_epoch:4"], processes=[1, 3, 2])
    assert told.essence() == run_threads(case).essence()


def test_more_processes_than_shards(tmp_path: Path) -> None:
    case = seeded_case(tmp_path, 9, 1_500).with_settings(batch_rows=30, shards=2)
    told = with_kills(case, ["after_epoch:3"], processes=[1, 3])
    assert told.essence() == run_threads(case).essence()
