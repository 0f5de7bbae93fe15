"""`--live` as it is used: pipes whose writers pause, one of them silent, in one process and in two."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest

from segue.clock import WALL_CLOCK
from segue.errors import SettingsError
from segue.limits import DAY_MS
from segue.run.progress import Silent
from segue.run.runner import prepare, run
from segue.settings import Settings, check
from tests.sources.scripted import Event, event

ALWAYS = """
policy = "always"
version = 1
title = "On every page"
currency = "EUR"
[[journeys]]
id = "always"
on = ["page"]
when = "event.quantity >= 0"
[[journeys.offers]]
id = "hello"
channel = "web"
"""
_PAUSE_S = 0.3
_ROUNDS = 4


def encoded(events: list[Event]) -> bytes:
    return "".join(json.dumps(message) + "\n" for message in events).encode()


def play(busy: Path, idle: Path) -> None:
    """Some events, a pause, and again; one phone is a day ahead. The idle pipe stays open, and silent."""
    with open(busy, "wb", buffering=0) as target, open(idle, "wb", buffering=0):
        for number in range(_ROUNDS):
            now = WALL_CLOCK.now_ms()
            target.write(
                encoded([event(f"{number}-{n}", "page", now - 1_000 + n, f"u{n}") for n in range(30)])
            )
            target.write(encoded([event(f"{number}-ahead", "page", now + 2 * DAY_MS, "phone")]))
            time.sleep(_PAUSE_S)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_pipe_that_pauses_beside_one_that_is_silent(tmp_path: Path, processes: int) -> None:
    busy, idle = tmp_path / "busy", tmp_path / "idle"
    for path in (busy, idle):
        os.mkfifo(path)
    policy = tmp_path / "always.toml"
    policy.write_text(ALWAYS)
    settings = Settings(
        inputs=(str(busy), str(idle)),
        out=str(tmp_path / "out"),
        policies=(str(policy),),
        live=True,
        shards=4,
        arrival_ms=1,  # a live run asks the clock
    )
    player = threading.Thread(target=play, args=(busy, idle), daemon=True)
    player.start()
    summary = run(prepare(settings, processes), Silent())
    player.join()
    assert (summary.events, summary.ahead, summary.late, summary.dead_letters) == (
        31 * _ROUNDS,
        _ROUNDS,
        0,
        0,
    )
    actions = [json.loads(line) for line in (tmp_path / "out" / "web.jsonl").read_bytes().splitlines()]
    assert len({action["causation_id"] for action in actions}) == 31 * _ROUNDS


def test_a_data_set_is_not_live() -> None:
    with pytest.raises(SettingsError, match="is not live"):
        check(Settings(dataset="completejourney", live=True))
