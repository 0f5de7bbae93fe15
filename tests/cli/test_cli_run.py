"""`segue run` end to end: the same results for any number of processes, batches, and form of the input."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from segue.cli import app
from segue.sinks.files import read_decisions
from segue.sinks.parquet import read_log

CHANNELS = ("ads", "call", "email", "mail", "push", "till", "web")
LINES = (*CHANNELS, "dead_letters", "late")


def sorted_lines(folder: Path) -> dict[str, list[str]]:
    return {name: sorted((folder / f"{name}.jsonl").read_text().splitlines()) for name in LINES}


def sorted_decisions(folder: Path) -> list[str]:
    rows = [row for batch in read_decisions(folder / "decisions.arrows") for row in batch.to_pylist()]
    return sorted(repr(row) for row in rows)


@pytest.fixture(scope="session")
def parts(events_file: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The events in two files that are not split by customer, one of them compressed."""
    lines = events_file.read_bytes().splitlines(keepends=True)
    folder = tmp_path_factory.mktemp("parts")
    (folder / "a.jsonl").write_bytes(b"".join(lines[::2]))
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(b"".join(lines[1::2])))
    return [folder / "a.jsonl", folder / "b.jsonl.gz"]


def test_one_and_two_processes_give_the_same(segue, parts, tmp_path):
    for processes, out in ((1, "one"), (2, "two")):
        done = segue(
            "run", *parts, "--out", out, "--processes", processes, "--batch", 5_000, "--log", "complete"
        )
        assert done.returncode == 0, done.stderr
    one, two = tmp_path / "one", tmp_path / "two"
    assert sorted_lines(one) == sorted_lines(two)
    assert sorted_decisions(one) == sorted_decisions(two)
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in (one, two)]
    for summary in summaries:
        for own in (
            "seconds",
            "events_per_second",
            "processes",
            "state_bytes",
            "state_bytes_per_customer",
            "bounds",
        ):
            del summary[own]
    assert summaries[0] == summaries[1]
    assert summaries[0]["actions"] > 100


def test_the_log_changes_nothing_but_itself(segue, events_file, tmp_path):
    logs = {}
    for mode in ("complete", "sampled=0.2", "off"):
        done = segue("run", events_file, "--out", mode, "--log", mode)
        assert done.returncode == 0, done.stderr
        path = tmp_path / mode / "decisions.arrows"
        if path.exists():
            batches = read_decisions(path)
            logs[mode] = {row["decision_id"]: row for batch in batches for row in batch.to_pylist()}
    lines = sorted_lines(tmp_path / "complete")
    assert lines == sorted_lines(tmp_path / "sampled=0.2") == sorted_lines(tmp_path / "off")
    assert list(logs) == ["complete", "sampled=0.2"]
    every, some = logs.values()
    assert every.keys() == some.keys()
    assert all(row["scores"] is not None for row in every.values())
    sampled = [name for name, row in some.items() if row["scores"] is not None]
    assert 0.1 < len(sampled) / len(some) < 0.3
    assert all(some[name] == every[name] for name in sampled)
    done = segue("run", events_file, "--out", "parquet", "--log", "complete", "--log-format", "parquet")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "parquet/decisions.arrows").exists()
    of_parquet = [
        row for batch in read_log(tmp_path / "parquet/decisions.parquet") for row in batch.to_pylist()
    ]
    assert {row["decision_id"]: row for row in of_parquet} == every
    told = [segue("explain", of_parquet[0]["decision_id"], "--out", out) for out in ("parquet", "complete")]
    assert told[0].stdout.replace("parquet", "complete") == told[1].stdout
    refused = segue("explain", "anyone", "--out", "off")
    assert refused.returncode == 1
    assert "--log off" in refused.stderr


def test_summary_counts_what_the_files_hold(segue, events_file, tmp_path):
    done = segue("run", events_file, "--out", "out")
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    summary = json.loads((out / "summary.json").read_text())
    lines = sorted_lines(out)
    assert summary["events"] == 20_000
    assert summary["actions_by_channel"] == {channel: len(lines[channel]) for channel in CHANNELS}
    assert summary["actions"] == sum(row["actions"] for row in summary["actions_by_journey"])
    assert summary["late"] == len(lines["late"])
    assert summary["dead_letters"] == 0
    assert summary["decisions"] == len(sorted_decisions(out))
    assert f"{summary['actions']:,}" in done.stdout
    assert "20,000 events read" in done.stderr
    assert not (out / "summary.jsonl").exists()


def test_standard_input_and_batches_change_nothing(segue, events_file, tmp_path):
    assert segue("run", events_file, "--out", "file", "-q").returncode == 0
    done = segue(
        "run", "-", "--out", "pipe", "-q", "--batch", 777, "--no-native", stdin=events_file.read_bytes()
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    ours, theirs = sorted_lines(tmp_path / "pipe"), sorted_lines(tmp_path / "file")
    assert [ours[name] for name in CHANNELS] == [theirs[name] for name in CHANNELS]


def test_results_are_not_replaced_unless_asked(segue, events_file, tmp_path):
    assert segue("run", events_file, "--out", "out").returncode == 0
    refused = segue("run", events_file, "--out", "out")
    assert refused.returncode == 1
    assert "exist already" in refused.stderr
    assert segue("run", events_file, "--out", "out", "--overwrite").returncode == 0


def test_an_output_is_no_input(segue, events_file, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "late.jsonl").write_bytes(events_file.read_bytes())
    done = segue("run", "out/late.jsonl", "--out", "out", "--overwrite")
    assert done.returncode == 1
    assert "an input and an output" in done.stderr
    assert (out / "late.jsonl").stat().st_size == events_file.stat().st_size


def test_nothing_to_decide_leaves_readable_files(segue, tmp_path):
    (tmp_path / "one.jsonl").write_text(
        '{"id":"1","type":"Product Viewed","time":"2026-03-02T08:00:00Z","userId":"a"}\n'
    )
    done = segue("run", "one.jsonl", "--out", "out")
    assert done.returncode == 0, done.stderr
    assert all(not lines for lines in sorted_lines(tmp_path / "out").values())
    with pa.OSFile(str(tmp_path / "out" / "decisions.arrows")) as file:
        assert pa.ipc.open_stream(file).read_all().num_rows == 0


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_a_run(tmp_path, events_file, processes, number, code):
    command = [sys.executable, "-m", "segue", "run", "-", "--out", "out", "--processes", str(processes)]
    with subprocess.Popen(
        command, cwd=tmp_path, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ)
    ) as process:
        assert process.stdin
        process.stdin.write(events_file.read_bytes())
        process.stdin.flush()
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("out/*.jsonl")) and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == code
    assert stderr.decode().splitlines()[-1] == "stopped; what was written so far is not complete"
    assert "Traceback" not in stderr.decode()


@pytest.mark.parametrize("stopped_in", ["open_source", "load_policies", "warm_up"])
def test_a_run_stopped_before_it_began_does_not_speak_of_what_was_written(
    tmp_path, events_file, monkeypatch, stopped_in
):
    def stop(*arguments: object, **options: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr("segue.run.runner.is_warm", lambda: False)
        patched.setattr(f"segue.run.runner.{stopped_in}", stop)
        early = CliRunner().invoke(app, ["run", str(events_file), "--out", str(tmp_path / "out"), "--quiet"])
    assert early.exit_code == 143
    assert early.stderr == "stopped before the run began: no results were written\n"
    assert not list(tmp_path.glob("out/*"))

    monkeypatch.setattr("segue.simulate.write_simulation", stop)
    later = CliRunner().invoke(app, ["simulate", "--out", str(tmp_path / "e.jsonl"), "--quiet"])
    assert later.exit_code == 143
    assert later.stderr == "stopped; what was written so far is not complete\n"


def children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
@pytest.mark.parametrize("killed", ["worker", "parent"])
def test_a_killed_process_takes_the_others_along(tmp_path, events_file, killed):
    command = [sys.executable, "-m", "segue", "run", "-", "--out", "out", "--processes", "2"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command, cwd=tmp_path, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        deadline = time.monotonic() + 120
        while len(workers := children(process.pid)) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(0.5)
        os.kill(workers[1] if killed == "worker" else process.pid, signal.SIGKILL)
        _, stderr = process.communicate(timeout=30)
    if killed == "worker":
        assert process.returncode == 1
        assert "worker process 1 was ended by SIGKILL" in stderr.decode()
        assert "Traceback" not in stderr.decode()
    deadline = time.monotonic() + 10
    while any(running(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(running(worker) for worker in workers)


def running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_live_run_sets_what_is_ahead_to_its_arrival(segue, tmp_path):
    """A replay would refuse it."""
    far = b'{"id":"1","type":"page","time":"2999-01-01T00:00:00Z","userId":"u"}\n'
    for options, ahead, dead in ((["--live"], 1, 0), ([], 0, 1)):
        done = segue("run", "-", "--out", "out", "--overwrite", *options, stdin=far)
        assert done.returncode == 0, done.stderr
        summary = json.loads((tmp_path / "out" / "summary.json").read_text())
        assert (summary["ahead"], summary["dead_letters"]) == (ahead, dead)
        assert ("\nahead " in done.stdout) == bool(ahead)


def test_an_action_is_explained(segue, events_file, tmp_path):
    assert segue("run", events_file, "--out", "out").returncode == 0
    action = json.loads((tmp_path / "out/web.jsonl").read_text().splitlines()[0])
    done = segue("explain", action["action_id"], "--out", "out")
    assert done.returncode == 0, done.stderr
    for text in (action["customer_id"], action["offer"], f"score {action['score']:.4f} =", "goes out"):
        assert text in done.stdout
    found = json.loads(segue("explain", action["customer_id"], "--out", "out", "--json").stdout)
    assert action in found["sent"]
    done = segue("explain", "nobody", "--out", "out", "--at", "2026-03-02")
    assert "nothing was decided for nobody" in done.stdout
    for wrong, words in (
        (("explain", "x", "--out", "nowhere"), "nowhere"),
        (("explain", "f" * 32, "--out", "out"), "no action, decision or customer"),
        (("explain", "x", "--out", "out", "--at", "yesterday"), "--at"),
        (("explain", "x", "--brokers", "127.0.0.1:1"), "127.0.0.1:1"),
    ):
        done = segue(*wrong)
        assert done.returncode == 1
        assert words in done.stderr
        assert "Traceback" not in done.stderr
