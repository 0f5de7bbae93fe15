"""The live view shows what the files hold; the demo's stream arrives whole."""

from __future__ import annotations

import io
import os
import threading
import time
from datetime import timedelta

import pytest
from rich.console import Console

from segue.run.demo import _playing
from segue.run.live import Live, Tail
from segue.run.progress import Moving, Plain, Silent, display
from segue.run.runner import prepare, run
from segue.settings import Settings
from segue.simulate import SimulationSettings, write_simulation


def test_tail_gives_each_whole_line_once(tmp_path):
    path = tmp_path / "log"
    tail = Tail(path)
    assert tail.lines() == []
    path.write_bytes(b"a\nb\nhal")
    assert tail.lines() == [b"a", b"b"]
    assert tail.lines() == []
    with open(path, "ab") as file:
        file.write(b"f\nc\n")
    assert tail.lines() == [b"half", b"c"]


def test_the_last_frame_has_the_counts_of_the_summary(tmp_path):
    events = tmp_path / "events.jsonl"
    with open(events, "wb") as file:
        write_simulation(SimulationSettings(customers=500, events=10_000), file)
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=140, color_system=None)
    out = tmp_path / "out"
    settings = Settings(inputs=(str(events),), out=str(out), arrival_ms=4_102_444_800_000, batch_rows=500)
    summary = run(prepare(settings), Live(console, out, 10_000), epoch=timedelta(milliseconds=50))
    frame = screen.getvalue().rpartition("customers decided on")
    assert "10,000" in frame[0].splitlines()[-1]
    assert f"{summary.actions:,} actions" in " ".join(frame[2].split())
    assert f"{summary.actions_by_channel['web']:,}" in frame[2]
    assert "no consent for the channel" in frame[2]
    assert "voucher-10-web" in frame[2]


def test_what_is_played_arrives_whole(tmp_path):

    source, pipe = tmp_path / "source", tmp_path / "pipe"
    source.write_bytes(bytes(range(256)) * 1_000)
    os.mkfifo(pipe)
    with _playing(source, pipe, 0.3), open(pipe, "rb") as file:
        assert file.read() == source.read_bytes()


def test_playing_ends_when_nobody_reads(tmp_path):

    source, pipe = tmp_path / "source", tmp_path / "pipe"
    source.write_bytes(b"x" * 1_000)
    os.mkfifo(pipe)
    before = threading.active_count()
    with _playing(source, pipe, 60):
        pass
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("quiet", "moving", "kind"), [(True, True, Silent), (False, True, Moving), (False, False, Plain)]
)
def test_display_fits_the_console(quiet, moving, kind):
    console = Console(file=io.StringIO(), force_terminal=moving)
    assert type(display(console, quiet=quiet)) is kind


def test_moving_and_plain_lines():
    for moving in (True, False):
        screen = io.StringIO()
        shown = display(Console(file=screen, force_terminal=moving, width=120), quiet=False)
        with shown.step("compile [x]"):
            time.sleep(0.15)
        with shown.count(lambda: 5, 10):
            pass
        shown.note("done")
        assert "done" in screen.getvalue()
