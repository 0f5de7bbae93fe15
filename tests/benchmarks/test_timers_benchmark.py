"""The benchmark of due timers, small: every wait fires once, and the figures say how long reading stood still."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import timers


def test_every_wait_fires_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "figures.json"
    assert timers.main(["--timers", "6000", "--shards", "4", "--json", str(target)]) == 0
    figures = json.loads(target.read_text())
    assert figures["fired_once"]
    assert 0 < figures["due_to_last_ms"] < 60_000
    assert figures["while_due"]["reads"] > 2
    assert "each once: True" in capsys.readouterr().out
