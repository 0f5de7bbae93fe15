"""After warming up nothing is compiled any more, whatever a run meets."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
from pathlib import Path

import pytest

import segue_kernels
from segue.run.progress import Silent
from segue.run.runner import prepare, run
from segue.run.warmup import is_warm, warm_up
from segue.settings import Settings
from segue.simulate import SimulationSettings, write_simulation
from segue_kernels.jit import JIT_DISABLED


def compiled() -> set[tuple[str, str, str]]:
    """Every kernel and every signature it is compiled for."""
    found = set()
    for info in pkgutil.iter_modules(segue_kernels.__path__):
        module = importlib.import_module(f"segue_kernels.{info.name}")
        for name, value in vars(module).items():
            if getattr(value, "__module__", "") == module.__name__ and hasattr(value, "nopython_signatures"):
                found |= {(info.name, name, str(signature)) for signature in value.nopython_signatures}
    return found


@pytest.mark.skipif(JIT_DISABLED, reason="nothing is compiled")
def test_a_run_compiles_nothing_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []

    def step(text: str) -> contextlib.AbstractContextManager[None]:
        steps.append(text)
        return contextlib.nullcontext()

    warm_up(step)
    assert is_warm()
    assert len(steps) == 5
    before = compiled()
    for table in ("_INDEX_SLOTS_FIRST", "_SPILL_SLOTS_FIRST"):
        monkeypatch.setattr(f"segue.state.shard.{table}", 64)  # they grow in the run
    inputs = []
    for number in range(2):
        path = tmp_path / f"{number}.jsonl"
        with open(path, "wb") as file:
            write_simulation(SimulationSettings(seed=number, customers=2_000, events=20_000), file)
        inputs.append(str(path))
    settings = Settings(
        inputs=tuple(inputs), out=str(tmp_path / "out"), arrival_ms=4_102_444_800_000, batch_rows=3_000
    )
    run(prepare(settings), Silent())
    assert compiled() == before
