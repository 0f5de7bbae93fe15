"""A run: all is checked before anything starts; then the flow runs here, or in several worker processes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from segue import limits
from segue import settings as settings_module
from segue.checkpoints.folder import StateFolder
from segue.errors import SegueError, SettingsError, SinkError, root_cause
from segue.kafka.settings import KafkaSettings
from segue.outputs import ALL_OUTPUTS, HEARTBEAT, SUMMARY
from segue.policy.compiled import CompiledPolicies
from segue.policy.load import load_policies
from segue.reference.world import check_tables
from segue.run.execute import KnownRun, execute, known_run, of_this_run, state_folder
from segue.run.failure import (
    SAY_VARIABLE,
    Failure,
    NothingToDo,
    Stopped,
    UnexpectedError,
    as_error,
    captured_stderr,
    debugging,
    describe,
    keep_log,
)
from segue.run.progress import Display, Total
from segue.run.report import SUMMARY_FILE, Summary, summarise
from segue.run.stop import PREPARING, STOP, stopping_at_an_epoch
from segue.run.warmup import is_ledger_warm, is_warm, warm_up, warm_up_ledger
from segue.settings import SETTINGS_VARIABLE, Settings, save_settings, secret
from segue.sinks.files import output_path, prepare_folder
from segue.sources.files import STDIN, FileSource
from segue.sources.formats import Form, Format
from segue.sources.interface import Source
from segue.sources.open import new_pace, open_source
from segue.sources.pace import Pace
from segue.summary import read_summary

PROCESSES_MAX = 64
_EPOCH = timedelta(seconds=10)  # files are flushed at least so often
_LOOK_S = 0.05  # between two looks at the workers
_LAST_WORDS_S = 2.0  # the others have so long to say what they know when one worker died
_STOP_S = (limits.STOP_MS_MAX + limits.STOP_LATE_MS / 2) / 1000  # workers have ended by then, or hang
_PORT_ATTEMPTS = 3


class WorkerReport(msgspec.Struct):
    """What a worker process leaves behind: when its part began and ended (time.time()), or its failure."""

    started: float = 0.0
    ended: float = 0.0
    failure: Failure | None = None


@dataclass(frozen=True)
class Prepared:
    """A run that can start. `state` is locked by this process until the run has ended."""

    settings: Settings
    policies: CompiledPolicies
    source: Source[Any]
    processes: int
    state: StateFolder | None = None


def prepare(settings: Settings, processes: int = 1, *, overwrite: bool = False) -> Prepared:
    """Check settings, inputs, policies, tables, the output folder and the state, in this order.

    Raises SegueError; nothing was written then, except that folders may have been made. NothingToDo: the run that the
    state folder holds is finished.
    """
    settings_module.check(settings)
    if not 1 <= processes <= PROCESSES_MAX:
        raise SettingsError("start", f"{processes} processes", f"choose from 1 to {PROCESSES_MAX}")
    secret()
    source = open_source(settings)
    policies = load_policies(
        settings.policies, secret=secret(), currency=settings.currency, native=settings.native
    )
    check_tables(settings, policies)
    if settings.kafka.brokers:
        _refuse_to_read_output_topics(settings.kafka)
        state = state_folder(settings, source)
        return Prepared(of_this_run(settings), policies, source, processes, state)
    # also those that these policies do not have: none of an earlier run may be taken for this one's
    _refuse_to_read_outputs(source, settings.out, ALL_OUTPUTS)
    known = known_run(settings) if settings.state else None
    if known is not None:
        _check_continued(settings, known, overwrite)
    else:
        if settings.state:
            _check_can_be_read_again(source)
        prepare_folder(settings.out, ALL_OUTPUTS, overwrite=overwrite)
        (Path(settings.out) / SUMMARY_FILE).unlink(missing_ok=True)
    if not settings.state:
        return Prepared(settings, policies, source, processes)
    state = state_folder(settings, source)
    return Prepared(of_this_run(settings), policies, source, processes, state)


def _check_continued(settings: Settings, run: KnownRun, overwrite: bool) -> None:
    afresh = "or start afresh: another state folder and another output folder"
    if overwrite:
        found = f'"{settings.state}" holds a run that goes on: nothing is overwritten'
        raise SettingsError("continue the run", found, f"leave --overwrite out, {afresh}")
    if run.out != os.path.realpath(settings.out):
        found = f'the run of "{settings.state}" writes to "{run.out}", not to "{settings.out}"'
        raise SettingsError("continue the run", found, f"give that folder, {afresh}")
    if (Path(settings.out) / SUMMARY_FILE).exists():
        raise NothingToDo(
            f'finished: the run of "{settings.state}" has read all of its input; '
            f'"{Path(settings.out) / SUMMARY_FILE}" says what it did'
        )


def _check_can_be_read_again(source: Source[Any]) -> None:
    if isinstance(source, FileSource):
        for entries in source.files.values():
            for entry in entries:
                if entry.format is None:
                    what = "standard input" if entry.path == STDIN else f'the pipe "{entry.path}"'
                    raise SettingsError(
                        "start",
                        f"{what} can't be read again: the run could not go on where it was",
                        "give files, or leave --state out",
                    )


def _refuse_to_read_output_topics(kafka: KafkaSettings) -> None:
    outputs = {kafka.prefix + name for name in (*ALL_OUTPUTS, HEARTBEAT)}
    for topic in kafka.topics:
        if topic.name in outputs:
            found = f'the topic "{topic.name}" is an input and an output of this run'
            raise SettingsError("start", found, "choose another prefix: --prefix")


def _refuse_to_read_outputs(source: Source[Any], out: str, names: Sequence[str]) -> None:
    if not isinstance(source, FileSource):
        return
    outputs = {os.path.realpath(output_path(out, name)) for name in names}
    for entry in (entry for entries in source.files.values() for entry in entries):
        if os.path.realpath(entry.path) in outputs:
            raise SettingsError(
                "start",
                f'"{entry.path}" is an input and an output of this run',
                "choose another output folder",
            )


def run(prepared: Prepared, display: Display, *, epoch: timedelta = _EPOCH) -> Summary:
    """Run to the end; what it did, which also stands in the folder's summary.json.

    Raises SegueError, UnexpectedError with the path of a log,
    KeyboardInterrupt and Stopped when it was stopped; NothingToDo if it can go on where it was stopped.
    """
    if not is_warm():
        # where it can be seen, and before several processes compile the same
        warm_up(display.step, display.note)
    if prepared.policies.campaign_infos and not is_ledger_warm():
        warm_up_ledger(display.step)
    state = prepared.state
    with contextlib.ExitStack() as stack:
        if state is not None:
            stack.enter_context(state)
            stack.enter_context(stopping_at_an_epoch())
        temporary = tempfile.TemporaryDirectory(prefix="segue-", ignore_cleanup_errors=True)
        folder = Path(stack.enter_context(temporary))
        board = str(folder / "pace")
        settings = msgspec.structs.replace(prepared.settings, pace_path=board)
        partitions = prepared.source.partitions if state is None else state.deployment.partitions
        pace = new_pace(settings, partitions, board)
        total = total_of(prepared.source)
        PREPARING.clear()
        if prepared.processes == 1:
            seconds = _run_here(prepared, settings, folder, display, pace, total, epoch)
        else:
            seconds = _run_workers(prepared, settings, folder, display, pace, total)
        if not all(pace.is_done(partition) for partition in range(pace.partitions)):
            raise NothingToDo("stopped", resumes=True)
    out = Path(settings.out)
    summary = summarise(read_summary(out), prepared.policies, seconds, prepared.processes)
    try:
        _complete(out, prepared.policies, settings)
        if settings.log_format == "parquet":
            from segue.sinks.parquet import to_parquet

            to_parquet(out, keep_streams=bool(settings.state))
        (out / SUMMARY_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")
        output_path(out, SUMMARY).unlink(missing_ok=True)
    except OSError as error:
        found = f'"{error.filename or out}" can\'t be written: {error.strerror}'
        raise SinkError("write the summary", found, "check the disk and the folder") from error
    return summary


def _complete(out: Path, policies: CompiledPolicies, settings: Settings) -> None:
    """Outputs that nothing was written to are there too, and empty: who reads the folder need not ask."""
    import pyarrow as pa

    from segue.actions.encode import ActionEncoder
    from segue.flow.outputs import output_names

    schemas = ActionEncoder(policies).schemas
    for name in output_names(policies, settings):
        path = output_path(out, name)
        if name == SUMMARY or (path.exists() and path.stat().st_size):
            continue
        if name in schemas:
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schemas[name]):
                pass
        else:
            path.touch()


def total_of(source: Source[Any]) -> Total:
    """What there is to read, as far as it can be told beforehand."""
    if isinstance(source, FileSource):
        entries = [entry for entries in source.files.values() for entry in entries]
        if any(entry.format != Format(Form.LINES) for entry in entries):
            return Total()
        with contextlib.suppress(OSError):
            return Total(payload_bytes=sum(os.stat(entry.path).st_size for entry in entries))
        return Total()
    return Total(events=getattr(source, "events", 0))


# --- in this process -----------------------------------------------------------------------------------


def _run_here(
    prepared: Prepared,
    settings: Settings,
    folder: Path,
    display: Display,
    pace: Pace,
    total: Total,
    epoch: timedelta,
) -> float:
    log = folder / "stderr.log"
    started = time.monotonic()

    def begin() -> None:
        nonlocal started
        started = time.monotonic()

    with display.watch(pace, total):
        try:
            with captured_stderr(log):
                execute(settings, prepared.source, prepared.state, epoch=epoch, ready=begin)
        except BaseException as error:
            cause = root_cause(error)
            if debugging() and not isinstance(cause, SegueError | KeyboardInterrupt | Stopped):
                raise
            if isinstance(cause, SegueError | KeyboardInterrupt | Stopped):
                raise cause from None
            raise UnexpectedError(describe(cause), keep_log(log, error)) from None
    return time.monotonic() - started


# --- in several processes ------------------------------------------------------------------------------


def _run_workers(
    prepared: Prepared, settings: Settings, folder: Path, display: Display, pace: Pace, total: Total
) -> float:
    processes = prepared.processes
    path = folder / "settings.json"
    save_settings(settings, path)
    with display.watch(pace, total):
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            reports, codes = _start_and_wait(path, processes, folder, prepared.state)
            if not any(codes):
                return max(r.ended for r in reports) - max(r.started for r in reports)
            if attempt == _PORT_ATTEMPTS or not _port_was_taken(folder, processes):
                raise _worst(reports, codes, folder)
    raise AssertionError("the last attempt returns or raises")


def _start_and_wait(
    path: Path, processes: int, folder: Path, state: StateFolder | None
) -> tuple[list[WorkerReport], list[int]]:
    """Reports and exit codes of all workers; when one fails the others are ended. With state a signal to this process
    is passed on to them."""
    addresses = free_addresses(processes)
    alive, hold = os.pipe()  # closes when this process goes, however: then the workers go too
    told = _standard_error()
    workers: list[subprocess.Popen[bytes]] = []
    lock, inherited = (-1, {}) if state is None else state.inheritance()
    environment = {
        **os.environ,
        **inherited,
        SETTINGS_VARIABLE: str(path),
        SAY_VARIABLE: "".join(map(str, told)),
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
    }
    try:
        for process in range(processes):
            command = [
                sys.executable, "-P", "-m", "segue.run.worker",
                str(folder), str(process), str(alive), *addresses,
            ]  # fmt: skip
            with open(_worker_log(folder, process), "wb") as log:
                worker = subprocess.Popen(
                    command,
                    env=environment,
                    stderr=None if debugging() else log,
                    stdout=log,
                    pass_fds=(alive, *told) if state is None else (alive, lock, *told),
                    start_new_session=True,  # Ctrl-C comes to this process, which ends them
                )
            workers.append(worker)
        stopped = 0.0
        while True:
            if STOP.is_set() and not stopped:
                stopped = time.monotonic()
                for worker in workers:
                    worker.terminate()
            codes = [worker.poll() for worker in workers]
            if all(code == 0 for code in codes):
                break
            if any(code for code in codes):
                _wait(workers, _LAST_WORDS_S)
                break
            if stopped and time.monotonic() - stopped > _STOP_S:
                for worker in workers:
                    worker.kill()
                break
            time.sleep(_LOOK_S)
    finally:
        _end(workers)
        for fd in (hold, alive, *told):
            os.close(fd)
    return [_report(folder, process) for process in range(processes)], [w.returncode for w in workers]


def _standard_error() -> list[int]:
    """Where workers say what people should see at once; nothing if it is closed."""
    try:
        return [os.dup(2)]
    except OSError:
        return []


def free_addresses(count: int) -> list[str]:
    """Ports of the loopback interface that were free a moment ago."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]


def _worker_log(folder: Path, process: int) -> Path:
    return folder / f"worker-{process}.log"


def report_path(folder: Path, process: int) -> Path:
    """Where a worker leaves its report."""
    return folder / f"worker-{process}.json"


def _report(folder: Path, process: int) -> WorkerReport:
    try:
        return msgspec.json.decode(report_path(folder, process).read_bytes(), type=WorkerReport)
    except (OSError, msgspec.DecodeError):
        return WorkerReport()


def _wait(workers: list[subprocess.Popen[bytes]], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(worker.poll() is None for worker in workers):
        time.sleep(_LOOK_S)


def _end(workers: list[subprocess.Popen[bytes]]) -> None:
    """Whoever still runs is told to end, then made to."""
    for worker in workers:
        if worker.poll() is None:
            worker.terminate()
    _wait(workers, _LAST_WORDS_S)
    for worker in workers:
        if worker.poll() is None:
            worker.kill()
        worker.wait()


def _port_was_taken(folder: Path, processes: int) -> bool:
    return any(b"Address already in use" in _log_bytes(folder, process) for process in range(processes))


def _log_bytes(folder: Path, process: int) -> bytes:
    try:
        return _worker_log(folder, process).read_bytes()
    except OSError:
        return b""


def _worst(reports: list[WorkerReport], codes: list[int], folder: Path) -> Exception:
    """The failure to tell: one that Segue knows, else the first that is no mere consequence of another's."""
    failures = [report.failure for report in reports if report.failure is not None]
    for failure in failures:
        error = as_error(failure)
        if error is not None:
            return error
    log = folder / "workers.log"
    log.write_bytes(
        b"".join(
            f"--- worker process {process}, exit code {code}\n".encode() + _log_bytes(folder, process) + b"\n"
            for process, code in enumerate(codes)
        )
    )
    kept = keep_log(log)
    # SIGTERM is what the surviving ones got from here
    for process, (report, code) in enumerate(zip(reports, codes, strict=True)):
        if report.failure is None and code < 0 and code != -signal.SIGTERM:
            what = f"worker process {process} was ended by {signal.Signals(-code).name}"
            return UnexpectedError(what, kept)
    for failure in sorted(failures, key=lambda failure: failure.secondary):
        return UnexpectedError(failure.found, kept)
    codes_text = ", ".join(str(code) for code in codes)
    return UnexpectedError(f"a worker process ended early (exit codes {codes_text})", kept)
