"""The ledger's benchmark, tiny: its oracle agrees, and what it tells is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import ledger


def test_the_benchmark_runs_and_its_oracle_agrees(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = tmp_path / "ledger.json"
    assert ledger.main(["--vouchers", "5000", "--repeat", "1", "--json", str(told)]) == 0
    assert "the naive ledger agrees" in capsys.readouterr().out
    figures = json.loads(told.read_text())
    assert figures["naive_agrees"]
    assert figures["grant_ns"] > 0
