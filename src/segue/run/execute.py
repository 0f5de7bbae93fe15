"""This process's share of the flow, from its settings to its end: how `segue run`, its workers and Bytewax's own
command come to the same flow on the same state."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig

from segue import limits
from segue.checkpoints.disk import write_whole
from segue.checkpoints.folder import StateFolder, deployment_of, open_folder, started_as
from segue.checkpoints.recovered import Recovered, recover, without_state
from segue.checkpoints.store import of_sqlite
from segue.errors import SettingsError
from segue.kafka.settings import KafkaSettings
from segue.run.board import join_board
from segue.run.collector import leave_alone_what_is_here
from segue.run.failure import Stopped
from segue.run.stop import FAILED, STARTED, STOP, stop_on_signals
from segue.settings import Settings, load_settings, secret
from segue.sources.interface import Source
from segue.sources.open import open_source

_EPOCH = timedelta(seconds=10)  # without state: files are flushed at least so often
_LOOK_S = 0.1
_RUN_FILE = "run.json"  # in the state folder


class KnownRun(msgspec.Struct, frozen=True):
    """What a state folder remembers of its run beside the deployment.

    out         the folder of its outputs; "" = it writes to topics
    arrival_ms  when it began: what was too far ahead of that then still is
    kafka       as it was at the first start
    """

    out: str
    arrival_ms: int
    kafka: KafkaSettings | None = None


def known_run(settings: Settings) -> KnownRun | None:
    """The run that the state folder holds, None if there is none yet."""
    return read_known_run(settings.state)


def read_known_run(state: str) -> KnownRun | None:
    """The run that a state folder holds, None if there is none yet."""
    path = Path(state) / _RUN_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=KnownRun)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, msgspec.MsgspecError) as error:
        found = f'"{path}" can\'t be read: {error}'
        raise SettingsError("continue the run", found, "start afresh: another state folder") from error


def of_this_run(settings: Settings) -> Settings:
    """The settings with what the run began with; noted, if it begins. The folder is locked."""
    known = known_run(settings)
    if known is None:
        if settings.kafka.brokers:
            wanted = KnownRun("", settings.arrival_ms, settings.kafka)
        else:
            wanted = KnownRun(os.path.realpath(settings.out), settings.arrival_ms)
        path = Path(settings.state) / _RUN_FILE
        mine = path.with_suffix(f".{os.getpid()}")
        write_whole(mine, msgspec.json.encode(wanted))
        with contextlib.suppress(FileExistsError):  # another process of the cluster was first
            os.link(mine, path)
        mine.unlink()
        known = known_run(settings)
        assert known is not None
    return msgspec.structs.replace(settings, arrival_ms=known.arrival_ms)


def state_folder(
    settings: Settings, source: Source[Any], process: int = 0, processes: int = 1, cluster: str = ""
) -> StateFolder:
    """The folder that the settings name, locked. Raises SettingsError and CheckpointError."""
    deployment = deployment_of(settings.shards, settings.kafka.lanes, secret(), source.partitions)
    folder = open_folder(settings.state, deployment, process=process, processes=processes, cluster=cluster)
    missing = [name for name in folder.deployment.partitions if name not in source.partitions]
    if missing:
        folder.close()
        raise SettingsError(
            "continue the run",
            f'the input "{missing[0]}" of the run in "{settings.state}" is not given now',
            "give all inputs as in the first start, or start afresh: another state folder and other outputs",
        )
    return folder


def execute(
    settings: Settings,
    source: Source[Any],
    folder: StateFolder | None,
    addresses: Sequence[str] = (),
    process: int = 0,
    *,
    epoch: timedelta = _EPOCH,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Build the flow and run it to its end, or to where it is stopped. `ready` is called just before it starts."""
    from bytewax._bytewax import cluster_main

    from flows.next_best_action import next_best_action

    with contextlib.ExitStack() as stack:
        try:
            recovered = stack.enter_context(
                _recovered(settings, source, folder, process, max(1, len(addresses)))
            )
        except Stopped:
            if not STOP.is_set():
                raise
            return
        flow = next_best_action(settings, source, recovered=recovered)
        leave_alone_what_is_here()
        ready()
        if STOP.is_set():
            return
        if folder is None:
            cluster_main(flow, list(addresses), process, epoch_interval=epoch)  # type: ignore[no-untyped-call]
        else:
            try:
                cluster_main(  # type: ignore[no-untyped-call]
                    flow,
                    list(addresses),
                    process,
                    epoch_interval=timedelta(milliseconds=settings.epoch_ms),
                    recovery_config=recovery_config(folder),
                )
            except Exception as error:
                failure = of_sqlite(folder.path, error)
                if failure is not None:
                    raise failure from error
                raise
        FAILED.raise_if_set()


def recovery_config(folder: StateFolder) -> RecoveryConfig:
    """Bytewax's store; an epoch can be resumed for so long after it was finished."""
    backup = timedelta(milliseconds=limits.BACKUP_MS)
    return RecoveryConfig(str(folder.recovery), backup)  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def _recovered(
    settings: Settings, source: Source[Any], folder: StateFolder | None, process: int, processes: int
) -> Iterator[Recovered]:
    if folder is None:
        yield without_state(source)
        return
    recovered = recover(settings, source, folder, process, processes)
    try:
        yield recovered
    finally:
        recovered.close()


def deployed(make: Callable[..., Dataflow]) -> Dataflow:
    """The flow of a process that `python -m bytewax.run` starts, alone or in a cluster; for a module's top.

    Bytewax is given the same folder: -r DIR/recovery. SIGTERM ends the run at an epoch, and so does the end of a wait
    for peers that do not come.
    """
    settings = load_settings()
    source = open_source(settings)
    if not settings.state:
        return make(settings, source, recovered=without_state(source))
    process, processes, cluster = started_as()
    folder = state_folder(settings, source, process, processes, cluster)
    settings = of_this_run(settings)
    if processes > 1:
        board = join_board(folder, os.getpid(), settings)
        settings = msgspec.structs.replace(settings, pace_path=board)
    stop_on_signals()
    threading.Thread(target=_wait_for_the_start, args=(processes,), name="start", daemon=True).start()
    return make(settings, source, recovered=recover(settings, source, folder, process, processes))


def _wait_for_the_start(processes: int) -> None:
    """Bytewax waits for its peers for ever, and hears no signal meanwhile."""
    waited_s = 0.0
    while not STARTED.wait(_LOOK_S):
        waited_s += _LOOK_S
        if STOP.is_set():
            os._exit(0)  # nothing has begun
        if waited_s > limits.START_WAIT_S:
            sys.stderr.write(
                f"error: start the flow: not all of {processes} processes were there after "
                f"{limits.START_WAIT_S} s\n  hint: start them all, with the same list of addresses\n"
            )
            sys.stderr.flush()
            os._exit(1)
