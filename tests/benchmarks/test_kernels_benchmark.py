"""The benchmark of decisions, small: it agrees with the reference."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import kernels


def test_decisions_are_measured_and_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "REFERENCE_EVENTS", 300)
    target = tmp_path / "figures.json"
    chosen = ["--actions", "4,200", "--features", "10", "--events", "20000", "--repeat", "1"]
    assert kernels.main([*chosen, "--json", str(target)]) == 0
    figures = json.loads(target.read_text())["figures"]
    assert [(one["shape"], one["actions"]) for one in figures] == [
        (shape, actions) for shape in kernels.SHAPES for actions in (4, 200)
    ]
    for few, many in ((figures[0], figures[1]), (figures[2], figures[3])):
        assert few["decided"] == many["decided"] > 1_000
        assert "equal to the naive reference" in many["reference"]
    assert "200 actions" in capsys.readouterr().out
