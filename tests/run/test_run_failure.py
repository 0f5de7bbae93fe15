"""Errors on their way from a worker to people."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import msgspec
import pytest

from segue.errors import PolicyError, SinkError
from segue.run.failure import (
    SAY_VARIABLE,
    Failure,
    as_error,
    as_failure,
    captured_stderr,
    keep_log,
    say_warnings,
)
from segue.run.progress import Total
from segue.run.runner import WorkerReport, _worst


def wrapped(cause: Exception) -> Exception:
    try:
        try:
            raise cause
        except Exception as error:
            raise RuntimeError("error calling a step") from error
    except RuntimeError as error:
        return error


def test_an_error_survives_the_way_between_processes():
    failure = as_failure(wrapped(SinkError("write", "full", "free some")))
    error = as_error(msgspec.json.decode(msgspec.json.encode(failure), type=Failure))
    assert isinstance(error, SinkError)
    assert str(error) == "write: full\n  hint: free some"
    assert as_error(as_failure(wrapped(ValueError("odd")))) is None


def test_the_cause_is_told_not_its_consequences(tmp_path):
    peer = Failure("", "", "PanicException: a peer went", "", secondary=True)
    known = Failure("PolicyError", "load", "bad", "")
    odd = Failure("", "", "ValueError: odd", "")
    reports = [WorkerReport(failure=peer), WorkerReport(failure=odd), WorkerReport(failure=known)]
    assert isinstance(_worst(reports, [1, 1, 1], tmp_path), PolicyError)
    unexpected = _worst(reports[:2], [1, 1], tmp_path)
    assert "ValueError: odd" in str(unexpected)
    Path(unexpected.args[1]).unlink()
    killed = _worst([WorkerReport(), reports[0]], [-9, 1], tmp_path)
    assert "SIGKILL" in str(killed)
    Path(killed.args[1]).unlink()


def test_stderr_of_any_language_is_captured(tmp_path, capfd):
    with captured_stderr(tmp_path / "log"):
        os.write(2, b"thread panicked\n")
    os.write(2, b"after\n")
    assert (tmp_path / "log").read_bytes() == b"thread panicked\n"
    assert capfd.readouterr().err == "after\n"


def test_stderr_is_seen_when_debugging(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("SEGUE_DEBUG", "1")
    with captured_stderr(tmp_path / "log"):
        os.write(2, b"thread panicked\n")
    assert capfd.readouterr().err == "thread panicked\n"


def test_logs_are_kept_with_the_traceback(tmp_path):
    (tmp_path / "log").write_text("what was printed\n")
    path = Path(keep_log(tmp_path / "log", wrapped(ValueError("odd"))))
    text = path.read_text()
    path.unlink()
    assert text.startswith("what was printed\n")
    assert "ValueError: odd" in text


@pytest.mark.parametrize(
    ("total", "share"), [(Total(), None), (Total(events=100), 0.5), (Total(payload_bytes=1_000), 0.25)]
)
def test_share_of_the_total(total, share):
    assert total.share(50, 250) == share


def test_warnings_of_a_worker_are_said_where_people_look(monkeypatch: pytest.MonkeyPatch) -> None:
    read_end, write_end = os.pipe()
    monkeypatch.setattr("segue.run.failure._stderr", 2)
    monkeypatch.setenv(SAY_VARIABLE, str(write_end))
    logger = logging.getLogger("segue")
    before = list(logger.handlers)
    try:
        say_warnings()
        say_warnings()
        logging.getLogger("segue.kafka").warning("no broker of %s can be reached", "here")
        logging.getLogger("segue.kafka").info("not told")
        assert os.read(read_end, 1_000) == b"no broker of here can be reached\n"
    finally:
        logger.handlers[:] = before
        os.close(read_end)
        os.close(write_end)
