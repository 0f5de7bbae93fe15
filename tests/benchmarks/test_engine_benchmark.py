"""The benchmark itself, tiny: its oracles hold and its stages add up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import engine
from benchmarks.policies import OFFERS


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "REFERENCE_EVENTS", 1_500)
    monkeypatch.setattr(engine, "WARM_EVENTS", 2_000)


def test_figures_come_with_their_oracles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "figures.json"
    arguments = ["--events", "30000", "--customers", "2000", "--work", "scoring", "--batch", "4096"]
    assert engine.main([*arguments, "--repeat", "1", "--json", str(target)]) == 0
    figures = json.loads(target.read_text())
    assert figures["output_hash_one_worker"] == figures["output_hash_two_workers"]
    assert "equal to the naive reference" in figures["reference"]
    assert figures["share_decided"] > 0.15
    assert figures["candidates_per_event"] > 0.15 * OFFERS
    assert figures["offers"] == OFFERS + 3
    stages = figures["stages_ns_per_event"]
    assert all(stages[stage] > 0 for stage in stages if stage not in ("anonymous identifiers", "vouchers"))
    assert "ns an event by stage" in capsys.readouterr().out


def test_the_curve_compares_numbers_of_policies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "CURVE", (1, 8))
    target = tmp_path / "curve.json"
    arguments = ["--curve", "--events", "8000", "--customers", "500", "--batch", "2048", "--repeat", "1"]
    assert engine.main([*arguments, "--json", str(target)]) == 0
    one, eight = json.loads(target.read_text())["curve"]
    assert (one["policies"], eight["policies"]) == (1, 8)
    assert eight["customers_with_timers"] > 0
    assert eight["compile_s"] > eight["compile_cached_s"] > 0
    assert "bytes/customer" in capsys.readouterr().out


def test_a_run_that_differs_from_the_reference_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.reference import oracle

    monkeypatch.setattr(oracle, "difference", lambda found, expected: "one action too many")
    arguments = ["--events", "3000", "--customers", "500", "--work", "1", "--repeat", "1"]
    with pytest.raises(AssertionError, match="one action too many"):
        engine.main([*arguments, "--folder", str(tmp_path)])
