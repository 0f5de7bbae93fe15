"""Bad input: dead letters, or one clear message and a code that is not 0; never a traceback."""

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from segue.errors import SourceError
from segue.sources import files

LINE = '{"id":"%d","type":"Product Viewed","time":"2026-03-02T08:00:%02dZ","userId":"u","product_id":"p"}\n'


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """One clear message, exit code 1."""
    assert done.returncode == 1, (done.stdout, done.stderr)
    told = [line for line in done.stderr.splitlines() if not line.startswith("checking")]
    assert told[0].startswith("error: ")
    assert len(told) <= 2, done.stderr
    for word in words:
        assert word in done.stderr
    clean(done)


def clean(done: subprocess.CompletedProcess[str]) -> None:
    for ugly in ("Traceback", "panicked", "unexpected error", 'File "'):
        assert ugly not in done.stderr + done.stdout, done.stderr


def dead_letters(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "dead_letters.jsonl").read_text().splitlines()]


def lines(count: int) -> bytes:
    return "".join(LINE % (i, i % 60) for i in range(count)).encode()


def test_random_bytes_are_dead_letters(segue, tmp_path):
    noise = random.Random(3).randbytes(20_000)
    (tmp_path / "noise.jsonl").write_bytes(lines(5) + noise + b"\n" + lines(5))
    done = segue("run", "noise.jsonl", "--out", "out")
    clean(done)
    assert done.returncode == 0, done.stderr
    letters = dead_letters(tmp_path / "out")
    assert len(letters) > 10
    assert json.loads((tmp_path / "out/summary.json").read_text())["events"] == 10
    assert all(letter["reason"] and letter["file"] == "noise.jsonl" for letter in letters)


def test_random_bytes_without_a_format_are_refused(segue, tmp_path):
    (tmp_path / "noise.bin").write_bytes(random.Random(4).randbytes(20_000))
    refused(segue("run", "noise.bin", "--out", "out"), "noise.bin", "format")


def test_truncated_gzip_gives_its_whole_lines_and_a_dead_letter(segue, tmp_path):
    whole = gzip.compress(random.Random(5).randbytes(2_000).hex().encode() + b"\n" + lines(2_000))
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[: len(whole) * 2 // 3])
    done = segue("run", "cut.jsonl.gz", "--out", "out")
    clean(done)
    assert done.returncode == 0, done.stderr
    assert "cut" in str(dead_letters(tmp_path / "out")[-1]["reason"])


def test_half_a_parquet_file_is_one_dead_letter(segue, tmp_path):
    rows = [json.loads(line) for line in lines(500).splitlines()]
    pa.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "whole.parquet")
    whole = (tmp_path / "whole.parquet").read_bytes()
    (tmp_path / "half.parquet").write_bytes(whole[: len(whole) // 2])
    done = segue("run", "half.parquet", "--out", "out")
    clean(done)
    if done.returncode:
        refused(done, "half.parquet")
    else:
        assert len(dead_letters(tmp_path / "out")) == 1


def test_empty_folder_missing_file_empty_file(segue, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "events.jsonl").write_bytes(b"")
    refused(segue("run", "empty", "--out", "out"), "empty", "hint")
    refused(segue("run", "event.jsonl", "--out", "out"), "does not exist", 'did you mean "events.jsonl"?')
    done = segue("run", "events.jsonl", "--out", "out")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out/summary.json").read_text())["events"] == 0


def test_unreadable_file(tmp_path, monkeypatch):
    path = tmp_path / "events.jsonl"
    path.write_bytes(lines(3))
    path.chmod(0)
    if os.access(path, os.R_OK):  # root reads everything

        def denied(*args: object, **kwargs: object) -> None:
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(files, "open", denied, raising=False)
    with pytest.raises(SourceError, match="no permission"):
        files.file_source([path])


def test_full_disk_in_one_message(segue, events_file, tmp_path):
    """A bound on the size of files stands for the disk: both end a write half way."""
    done = segue("run", events_file, "--out", "out", file_bytes_max=48_000)
    refused(done, "can't be written", "hint")
    for path in (tmp_path / "out").glob("*.jsonl"):
        assert not path.stat().st_size or path.read_bytes().endswith(b"\n")
    assert not (tmp_path / "out/summary.json").exists()


def test_full_disk_of_two_processes_in_one_message(segue, events_file, tmp_path):
    done = segue("run", events_file, "--out", "out", "--processes", 2, file_bytes_max=48_000)
    refused(done, "can't be written", "hint")


def test_really_full_disk(segue, events_file, tmp_path):
    out = tmp_path / "disk"
    out.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(out)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no right to mount")
    try:
        refused(segue("run", events_file, "--out", "disk"), "No space left", "free some space")
    finally:
        subprocess.run(["umount", str(out)], check=True)


def test_output_is_a_file(segue, events_file, tmp_path):
    (tmp_path / "out").write_text("mine")
    refused(segue("run", events_file, "--out", "out"), "not a folder")


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--shards", "0", ("shards is 0",)),
        ("--processes", "0", ("0 processes",)),
        ("--log", "sampled=2", ("--log", '"2"', "from 0 to 1")),
        ("--log", "of", ("--log", '"of"', 'did you mean "off"?')),
        ("--log-format", "parket", ('"parket"', 'did you mean "parquet"?')),
        ("--log", "complete=1", ("--log", "complete=1")),
        ("--lateness", "5 parsecs", ("--lateness", "500ms")),
        ("--currency", "EURO", ('"EURO"',)),
        ("--policies", "missing.toml", ("missing.toml",)),
    ],
)
def test_settings_no_run_can_have(segue, events_file, option, value, words):
    refused(segue("run", events_file, "--out", "out", option, value), *words)


def test_a_secret_that_is_none(segue, events_file):
    refused(segue("run", events_file, "--out", "out", SEGUE_SECRET="short"), "32 hexadecimal digits")


def test_unknown_option_is_a_usage_error(segue, events_file):
    done = segue("run", events_file, "--out", "out", "--bogus")
    assert done.returncode == 2
    clean(done)


def test_a_default_time_zone_that_is_none(segue, tmp_path):
    (tmp_path / "a.jsonl").write_bytes(lines(1))
    done = segue("run", "a.jsonl", "--out", "out", "--timezone", "Europe/Berln")
    refused(done, 'unknown time zone "Europe/Berln"', 'did you mean "Europe/Berlin"?')


def test_tables_that_are_none(segue, tmp_path):
    (tmp_path / "a.jsonl").write_bytes(lines(1))
    (tmp_path / "p.csv").write_text("product_id,margin\n")
    refused(segue("run", "a.jsonl", "--out", "out", "--table", "p.csv"), '"p.csv" is not NAME=FILE')
    twice = ("--table", "catalogue=p.csv", "--table", "catalogue=p.csv")
    refused(segue("run", "a.jsonl", "--out", "out", *twice), '"catalogue" is given twice')
    done = segue("run", "a.jsonl", "--out", "out", "--table", "catalogue=p.csv")
    refused(done, 'no policy looks into a table "catalogue"')


def test_unknown_time_zones_are_counted(segue, tmp_path):
    unknown = lines(2).replace(b'"userId"', b'"timezone":"Mars/Olympus","userId"')
    (tmp_path / "a.jsonl").write_bytes(unknown + lines(5)[len(lines(2)) :])
    done = segue("run", "a.jsonl", "--out", "out", "--timezone", "Europe/Berlin")
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "out/summary.json").read_text())
    assert (told["events"], told["unknown_zones"], told["dead_letters"]) == (5, 2, 0)
    assert "unknown time zones" in done.stdout
