"""A chaos run finds nothing on an engine that is right, and says how to repeat what it found on one that is not."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import pytest

from deploy.kafka.broker import Broker
from segue.chaos import run as chaos_run
from segue.chaos.broker import own_broker
from segue.chaos.load import Town
from segue.chaos.run import ChaosSettings, run_chaos
from segue.chaos.schedule import (
    BROKER_KILL,
    BROKER_PAUSE,
    KILL_AT,
    TWICE,
    steps,
)
from segue.errors import SettingsError
from segue.run.kill import POINTS
from tests.brokers import have_broker

STAND_IN = (sys.executable, "-m", "tests.kafka.stand_in")


def short(
    monkeypatch: pytest.MonkeyPatch, broker: Broker, folder: Path, *more: str, seed: int, steps_max: int
) -> tuple[int, list[str]]:
    chosen = ChaosSettings(
        seed=seed,
        minutes=5,
        rate=200.0,
        brokers=broker.brokers,
        folder=str(folder),
        steps_max=steps_max,
        engine=(*STAND_IN, *more),
        lateness_ms=5_000,
    )
    told: list[str] = []
    monkeypatch.setattr(chaos_run, "POINT_S_MAX", 3.0)  # of the points only some are in the stand-in
    monkeypatch.setattr(chaos_run, "WAITS_MS", 2_000)  # of the last timers only some are waited for
    return run_chaos(chosen, told.append), told


@pytest.mark.timeout(900)  # 40 s on two cores; they may be shared by many
def test_the_engine_survives(monkeypatch: pytest.MonkeyPatch, seed: int, tmp_path: Path) -> None:
    """With a broker of its own, which is disturbed too. The long one: segue chaos --minutes 10 --processes 3."""
    have_broker()
    monkeypatch.setattr(chaos_run, "POINT_S_MAX", 5.0)
    monkeypatch.setattr(chaos_run, "WAITS_MS", 2_000)  # of the last timers only some are waited for
    chosen = ChaosSettings(
        seed, minutes=5, processes=2, rate=200.0, folder=str(tmp_path), steps_max=2, lateness_ms=10_000
    )
    told: list[str] = []
    code = run_chaos(chosen, told.append)
    print("\n".join(told))
    assert code == 0
    assert f"right after 2 disturbances (seed {seed})" in told[-1]


def test_a_failure_says_how_to_repeat_it(
    monkeypatch: pytest.MonkeyPatch, broker: Broker, tmp_path: Path
) -> None:
    code, told = short(monkeypatch, broker, tmp_path, "--fault=double", seed=3, steps_max=1)
    assert code == 1
    assert "an action twice" in "\n".join(told)
    assert told[-1].startswith(
        "to repeat it:  segue chaos --seed 3 --minutes 5 --processes 1 --rate 200 --brokers "
    )
    assert "doubled" in (tmp_path / "verdict.txt").read_text()
    assert list(tmp_path.glob("engine-*.log"))


def test_outside_a_checkout_a_broker_must_be_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "deploy.kafka.broker", None)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="--brokers HOST:PORT"):
        own_broker(tmp_path)


@pytest.mark.parametrize("processes", [1, 3])
def test_a_seed_gives_the_same_steps(processes: int) -> None:
    first = list(itertools.islice(steps(7, processes, broker=True), 300))
    assert first == list(itertools.islice(steps(7, processes, broker=True), 300))
    assert first != list(itertools.islice(steps(8, processes, broker=True), 300))
    assert {step.processes for step in first} == set(range(1, processes + 1))
    assert {step.point.split(":")[0] for step in first if step.kind in (KILL_AT, TWICE)} == set(POINTS)
    assert all(str(step) for step in first)
    kinds = {step.kind for step in first}
    assert kinds - {step.kind for step in itertools.islice(steps(7, 1, broker=False), 300)} == {
        BROKER_KILL,
        BROKER_PAUSE,
    }


def test_a_seed_gives_the_same_town() -> None:
    def town(seed: int) -> list[object]:
        one = Town(seed)
        return [one.event(1_772_438_400_000) for _ in range(500)]

    assert town(1) == town(1) != town(2)
