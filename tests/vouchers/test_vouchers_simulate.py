"""A short simulation of shards that race and ledgers that crash; the long one is a command (simulate.py)."""

from __future__ import annotations

import pytest

from tests.vouchers import simulate


def test_a_few_seeds_hold_every_law(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate.main(["--seeds", "150"]) == 0
    told = capsys.readouterr().out
    assert "150 seeds" in told
    assert "every law held" in told


def test_a_failure_prints_the_command_that_repeats_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(world: simulate.World) -> None:
        raise AssertionError("one too many")

    monkeypatch.setattr(simulate.World, "check", broken)
    with pytest.raises(AssertionError, match="one too many"):
        simulate.main(["--seeds", "3", "--seed", "41"])
    assert "python -m tests.vouchers.simulate --seeds 1 --seed 41" in capsys.readouterr().out


def test_a_seed_gives_the_same_world_twice() -> None:
    first, second = simulate.simulate(5), simulate.simulate(5)
    assert (first.sent, first.redeemed, first.crashes) == (second.sent, second.redeemed, second.crashes)
