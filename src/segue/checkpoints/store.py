"""Bytewax's recovery store, read and put back to an earlier epoch without Bytewax.

Tables of the SQLite file: exs (executions: ex_num, worker_count, resume_epoch), fronts (how far each worker of an
execution came), commits (epochs up to here are cleaned up), snaps (step, key, epoch, pickled state; NULL = discarded).

The next start resumes the newest execution at the least epoch that all its workers came to; a worker of which
nothing is known came to the epoch the execution began with. Each key then has its newest state from before that epoch.

No process may read this file while Bytewax has it open in that same process: closing it drops Bytewax's locks.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import re
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from segue.checkpoints.bases import check_part, missing_files
from segue.checkpoints.disk import sync_folder, unwritable
from segue.checkpoints.folder import STORE_FILE, hold, read_deployment
from segue.checkpoints.manifest import Manifest, manifests_in
from segue.errors import CheckpointError, SegueError

_STEP = "read the recovery store"
_FIRST_EPOCH = 1
_BUSY_S = 5.0
_OF_SQLITE = re.compile(r'SqliteFailure\(Error \{ code: (\w+).*?(?:Some\("(.*?)"\)|None)\)', re.DOTALL)
_ERRNO = {
    "DiskFull": errno.ENOSPC,
    "ReadOnly": errno.EACCES,
    "PermissionDenied": errno.EACCES,
    "CannotOpen": errno.EACCES,
    "SystemIoFailure": errno.EIO,
}

Key = tuple[str, str]  # (step, key)


class ResumePoint(NamedTuple):
    """What a start begins with: its execution's number, its first epoch, and the state of each (step, key)."""

    execution: int
    epoch: int
    states: dict[Key, Any]

    def manifests(self) -> dict[Key, list[Manifest]]:
        """The manifests in the states."""
        found = {key: manifests_in(state) for key, state in self.states.items()}
        return {key: manifests for key, manifests in found.items() if manifests}


class Cut(NamedTuple):
    """An epoch that can be resumed.

    epoch       the first that would be run again
    time        when the state it begins with was saved
    parts       of the state, with manifests
    bytes       of their files' records and bases
    missing     files that are gone: not resumable
    is_next     the next start resumes here
    """

    epoch: int
    time: datetime
    parts: int
    bytes: int
    missing: tuple[Path, ...]
    is_next: bool

    @property
    def is_complete(self) -> bool:
        """Whether all files are there; `verify` reads them."""
        return not self.missing


class Verified(NamedTuple):
    """What reading a whole cut showed."""

    epoch: int
    parts: int
    bytes: int
    problems: tuple[SegueError, ...]


class Restored(NamedTuple):
    """What was put back, and where the store as it was is kept."""

    epoch: int
    parts: int
    copy: Path


def of_sqlite(folder: Path, error: BaseException) -> CheckpointError | None:
    """What Bytewax's panic over its store says, for people; None if it was none."""
    link: BaseException | None = error
    while link is not None:
        found = _OF_SQLITE.search(str(link))
        if found is not None:
            code = _ERRNO.get(found[1], 0)
            return unwritable(_path(folder), OSError(code, found[2] or found[1]))
        link = link.__cause__ or link.__context__
    return None


def _path(folder: Path) -> Path:
    return folder / "recovery" / STORE_FILE


@contextlib.contextmanager
def _connected(path: Path) -> Iterator[sqlite3.Connection]:
    if not path.exists():
        raise CheckpointError(_STEP, f'"{path}" is missing', "put it back from a copy")
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_BUSY_S)
        with connection:
            connection.execute("BEGIN")
            yield connection
    except sqlite3.Error as error:
        raise CheckpointError(
            _STEP, f'"{path}" can\'t be read: {error}', "put it back from a copy, beside the original"
        ) from error
    finally:
        if connection is not None:
            connection.close()


def _next(store: sqlite3.Connection) -> tuple[int, int]:
    """(execution, epoch) of the next start."""
    newest = store.execute(
        "SELECT ex_num, worker_count, resume_epoch FROM exs ORDER BY ex_num DESC LIMIT 1"
    ).fetchone()
    if newest is None:
        return 0, _FIRST_EPOCH
    execution, workers, resumed = newest
    fronts = dict(
        store.execute("SELECT worker_index, worker_frontier FROM fronts WHERE ex_num = ?", (execution,))
    )
    known = set(range(workers)) | set(fronts)
    return execution + 1, min(max(fronts.get(worker, resumed), resumed) for worker in known)


def _states(store: sqlite3.Connection, epoch: int) -> dict[Key, Any]:
    rows = store.execute(
        "SELECT step_id, state_key, ser_change, MAX(snap_epoch) FROM snaps WHERE snap_epoch < ?"
        " GROUP BY step_id, state_key",
        (epoch,),
    )
    return {(step, key): _unpickled(step, key, change) for step, key, change, _ in rows if change is not None}


def _unpickled(step: str, key: str, change: bytes) -> Any:
    try:
        return pickle.loads(change)
    except Exception as error:
        raise CheckpointError(
            _STEP,
            f'the state of "{key}" in step "{step}" can\'t be read: {type(error).__name__}: {error}',
            "go back to the last good checkpoint: segue checkpoints restore",
        ) from error


def resume_point(folder: str | os.PathLike[str]) -> ResumePoint:
    """What Bytewax is going to begin with; execution 0 and no states if it never ran.

    For a process that holds the folder, before Bytewax starts in it. Raises CheckpointError.
    """
    with _connected(_path(Path(folder))) as store:
        execution, epoch = _next(store)
        return ResumePoint(execution, epoch, _states(store, epoch))


def manifests_kept(folder: Path) -> list[Manifest] | None:
    """All manifests in the store, of whatever epoch: files they name are needed. None: it can't be read just now."""
    try:
        with _connected(_path(folder)) as store:
            rows = store.execute(
                "SELECT step_id, state_key, ser_change FROM snaps WHERE ser_change IS NOT NULL"
            )
            return [
                manifest
                for step, key, change in rows
                if b"manifest" in change.lower()
                for manifest in manifests_in(_unpickled(step, key, change))
            ]
    except CheckpointError as error:
        if isinstance(error.__cause__, sqlite3.OperationalError):
            return None
        raise


def _epochs(store: sqlite3.Connection) -> list[int]:
    """All epochs that a start could begin with, newest first."""
    _, newest = _next(store)
    (committed,) = store.execute("SELECT MAX(commit_epoch) FROM commits").fetchone()
    least = _FIRST_EPOCH if committed is None else committed + 1
    ends = {epoch + 1 for (epoch,) in store.execute("SELECT DISTINCT snap_epoch FROM snaps")}
    return sorted({epoch for epoch in ends if least <= epoch < newest} | {newest}, reverse=True)


def _saved_at(store: sqlite3.Connection, epoch: int) -> datetime:
    (text,) = store.execute("SELECT MAX(created_at) FROM snaps WHERE snap_epoch < ?", (epoch,)).fetchone()
    if text is None:
        (text,) = store.execute("SELECT MAX(created_at) FROM parts").fetchone()
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def list_cuts(folder: str | os.PathLike[str]) -> list[Cut]:
    """All epochs that can be resumed, newest first; the first of them is the next start's. Raises SegueError."""
    path = Path(folder)
    read_deployment(path)
    cuts: list[Cut] = []
    with _connected(_path(path)) as store:
        for number, epoch in enumerate(_epochs(store)):
            states = _states(store, epoch)
            manifests = [manifest for state in states.values() for manifest in manifests_in(state)]
            missing = sorted({file for manifest in manifests for file in missing_files(path, manifest)})
            size = sum(manifest.base_bytes + manifest.record_bytes for manifest in manifests)
            time = _saved_at(store, epoch)
            cuts.append(Cut(epoch, time, len(manifests), size, tuple(missing), number == 0))
    return cuts


def point_at(folder: str | os.PathLike[str], epoch: int | None) -> ResumePoint:
    """What a start would begin with at an epoch (None: the next start's). Raises CheckpointError if it can't."""
    path = Path(folder)
    read_deployment(path)
    with _connected(_path(path)) as store:
        execution, newest = _next(store)
        if epoch is None:
            epoch = newest
        epochs = _epochs(store)
        if epoch not in epochs:
            listed = f"{epochs[-1]} to {epochs[0]}" if len(epochs) > 1 else str(epochs[0])
            raise CheckpointError(
                "find a checkpoint",
                f"epoch {epoch} can't be resumed",
                f"epochs that can: {listed}; segue checkpoints list --state {path} has them all",
            )
        return ResumePoint(execution, epoch, _states(store, epoch))


def verify(folder: str | os.PathLike[str], epoch: int | None = None) -> Verified:
    """Read every file of a cut (None: the next start's) and compare all checksums. Raises SegueError if there is no
    such cut; what is wrong with its files is in the result."""
    path = Path(folder)
    point = point_at(path, epoch)
    parts = size = 0
    problems: list[SegueError] = []
    for manifests in point.manifests().values():
        for manifest in manifests:
            parts += 1
            try:
                size += check_part(path, manifest)
            except CheckpointError as error:
                problems.append(error)
    return Verified(point.epoch, parts, size, tuple(problems))


def restore(
    folder: str | os.PathLike[str],
    epoch: int | None = None,
    check_positions: Callable[[ResumePoint], None] | None = None,
) -> Restored:
    """Afterwards the next start resumes at this epoch, with every part, source and output as of then.

    Without an epoch: the newest that is whole. The store as it was is kept as a copy, to look into: what later epochs
    alone need is deleted once an engine runs again. Nothing is changed if an
    engine runs, the cut is damaged, or `check_positions` raises (topics that no longer hold what would be read).
    """
    path = Path(folder)
    read_deployment(path)
    with hold(path):
        if epoch is None:
            epoch = _newest_whole(path)
        verified = verify(path, epoch)
        if verified.problems:
            raise verified.problems[0]
        point = point_at(path, epoch)
        if check_positions is not None:
            check_positions(point)
        return Restored(epoch, verified.parts, _put_back(_path(path), point))


def _newest_whole(folder: Path) -> int:
    problem: SegueError | None = None
    for cut in list_cuts(folder):
        if cut.is_complete:
            verified = verify(folder, cut.epoch)
            if not verified.problems:
                return cut.epoch
            problem = problem or verified.problems[0]
    found = "none of the epochs that can be resumed is whole"
    raise CheckpointError(
        "find a checkpoint",
        f"{found}: {problem.found}" if problem is not None else found,
        "put the folder back from a backup, or start anew with another state folder",
    )


def _put_back(path: Path, point: ResumePoint) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    copies = path.parent.parent / "recovery-copies"
    copy = copies / f"{stamp}-{STORE_FILE}"
    unfinished = path.with_name(path.name + ".part")
    try:
        copies.mkdir(exist_ok=True)
        for left in (unfinished, copy):
            left.unlink(missing_ok=True)
        _copied(path, unfinished, point)
        _copied(path, copy, None)
        # the store alone has all that is in its log: the log may go, and nothing is lost if this ends here
        with contextlib.closing(sqlite3.connect(path)) as store:
            store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            store.execute("PRAGMA journal_mode = DELETE")
        unfinished.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    except sqlite3.Error as error:
        raise CheckpointError(_STEP, f'"{path}" can\'t be rewritten: {error}', "check the disk") from error
    return copy


def _copied(path: Path, to: Path, point: ResumePoint | None) -> None:
    """A copy of the store; with a point: what came later is gone, and a new execution begins with its epoch."""
    with (
        contextlib.closing(sqlite3.connect(path)) as store,
        contextlib.closing(sqlite3.connect(to)) as copied,
    ):
        store.backup(copied)
        copied.execute("PRAGMA journal_mode = DELETE")
        if point is not None:
            with copied:
                copied.execute("DELETE FROM snaps WHERE snap_epoch >= ?", (point.epoch,))
                copied.execute(
                    "INSERT INTO exs (ex_num, worker_count, resume_epoch) VALUES (?, 1, ?)",
                    (point.execution, point.epoch),
                )
    fd = os.open(to, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
