"""What went wrong in a run, wherever it ran: one clear error; and a log, where nobody foresaw it."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

import msgspec

from segue import errors
from segue.errors import SegueError, root_cause

DEBUG_VARIABLE = "SEGUE_DEBUG"
SAY_VARIABLE = "SEGUE_SAY"  # file descriptor where people look, of who started this process


def debugging() -> bool:
    """Whether people asked to see everything (SEGUE_DEBUG=1)."""
    return os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")


class UnexpectedError(Exception):
    """Something nobody foresaw; `log` has all that is known about it."""

    def __init__(self, what: str, log: str) -> None:
        super().__init__(what, log)
        self.what = what
        self.log = log

    def __str__(self) -> str:
        return f"unexpected error: {self.what}\n  details: {self.log}"


class Stopped(BaseException):
    """The run was asked to end by a signal."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number


class NothingToDo(BaseException):
    """There is nothing (more) to do now, and nothing is wrong. `resumes`: the same command goes on where it was."""

    def __init__(self, what: str, resumes: bool = False) -> None:
        super().__init__(what, resumes)
        self.what = what
        self.resumes = resumes

    def __str__(self) -> str:
        return self.what


class Failure(msgspec.Struct, frozen=True):
    """An error as it is passed from one process to another. `kind` "" = unexpected, `found` says what."""

    kind: str
    step: str
    found: str
    hint: str
    secondary: bool = False  # most likely the consequence of another process's failure


def as_failure(error: BaseException) -> Failure:
    """The cause of an error that Bytewax raised."""
    cause = root_cause(error)
    if isinstance(cause, SegueError):
        return Failure(type(cause).__name__, cause.step, cause.found, cause.hint)
    return Failure("", "", describe(cause), "", secondary=type(cause).__name__ == "PanicException")


def as_error(failure: Failure) -> SegueError | None:
    """The error a failure was made of, None for an unexpected one."""
    kind = getattr(errors, failure.kind, SegueError) if failure.kind else None
    if kind is None:
        return None
    error: SegueError = kind(failure.step, failure.found, failure.hint)
    return error


def describe(error: BaseException) -> str:
    """One line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def keep_log(path: Path, error: BaseException | None = None) -> str:
    """Copy a log, with the error's traceback, to where it outlives the run; its new path."""
    fd, kept = tempfile.mkstemp(prefix="segue-error-", suffix=".log")
    with os.fdopen(fd, "wb") as out:
        if path.exists():
            with open(path, "rb") as log:
                shutil.copyfileobj(log, out)
        if error is not None:
            out.write("".join(traceback.format_exception(error)).encode())
    return kept


_stderr = 2  # where people look


def say(text: str) -> None:
    """A line for people, also while standard error is captured."""
    with contextlib.suppress(OSError):
        os.write(_stderr, f"{text}\n".encode())


class _Sayer(logging.Handler):
    """Says what the log says."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


def say_warnings() -> None:
    """From now on people see what Segue's own log warns of (a broker that is away, …), also while standard error is
    captured, and in a worker process where it goes into a file."""
    global _stderr
    given = os.environ.get(SAY_VARIABLE, "")
    if given.isdigit():
        _stderr = int(given)
    logger = logging.getLogger("segue")
    if not any(isinstance(handler, _Sayer) for handler in logger.handlers):
        logger.addHandler(_Sayer(logging.WARNING))


@contextlib.contextmanager
def captured_stderr(path: Path) -> Iterator[None]:
    """Whatever is written to file descriptor 2 meanwhile, by whatever language, goes into a file."""
    global _stderr
    if debugging():
        yield
        return
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # it is closed: nothing can be seen anyway
        yield
        return
    try:
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.dup2(log, 2)
        os.close(log)
        _stderr = kept
        yield
    finally:
        _stderr = 2
        with contextlib.suppress(ValueError, OSError):
            sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
