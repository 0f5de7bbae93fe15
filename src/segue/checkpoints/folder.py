"""The folder in which a deployment's state survives, and who may use it.

    deployment.json   what is fixed for the life of the deployment
    recovery/         Bytewax's store: which epoch is resumed, and each part's manifest
    journals/         what changed, by process and generation
    bases/            whole parts
    generations/      a file for each process that ever wrote, locked while it lives
    lock              held while an engine runs; lock-<process> too where a cluster's processes start on their own

A generation belongs to one process from its start to its end: no file is ever written by two of them, and what a
crashed or forgotten one left is never taken for what a living one wrote.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from segue.checkpoints.disk import unreadable, unwritable, write_whole
from segue.checkpoints.record import FORMAT_VERSION
from segue.errors import SettingsError

LOCK_VARIABLE = "SEGUE_STATE_LOCK"  # file descriptor of the lock that a process inherits from who started it
STORE_FILE = "part-0.sqlite3"

_STEP = "open the state"
_LOOK_S = 0.02
_START_WAIT_S = 30.0


class Deployment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is fixed for the life of a deployment; only partitions are appended.

    secret      fingerprint of the secret that keys all hashes
    partitions  names in the order of their index
    """

    shards: int
    lanes: int
    secret: str
    partitions: tuple[str, ...] = ()
    format: int = FORMAT_VERSION


def deployment_of(shards: int, lanes: int, secret: bytes, partitions: tuple[str, ...]) -> Deployment:
    """The deployment that settings describe."""
    fingerprint = hashlib.blake2b(secret, digest_size=8, person=b"segue-state").hexdigest()
    return Deployment(shards, lanes, fingerprint, partitions)


def merged(path: Path, kept: Deployment, wanted: Deployment) -> Deployment:
    """The deployment as it goes on. Raises SettingsError where the two can't be one."""
    another = "use this value again, or another state folder"
    for name in ("format", "shards", "lanes"):
        was, now = getattr(kept, name), getattr(wanted, name)
        if was != now:
            what = "the layout of its files" if name == "format" else f"the number of {name}"
            raise SettingsError(
                _STEP,
                f'"{path}" was made with {was} as {what}, now it is {now}',
                f"it is fixed for life: {another}",
            )
    if kept.secret != wanted.secret:
        raise SettingsError(
            _STEP,
            f'"{path}" was made with another secret',
            "set SEGUE_SECRET or SEGUE_SECRET_FILE to the one of the first start: every hash depends on it",
        )
    new = tuple(name for name in wanted.partitions if name not in kept.partitions)
    return msgspec.structs.replace(kept, partitions=kept.partitions + new)


class _Holder(msgspec.Struct):
    """What a lock's file tells about its holder."""

    pid: int
    host: str
    cluster: str = ""


class StateFolder:
    """A folder that this process may use until `close`, or until it ends however that comes."""

    def __init__(self, path: Path, deployment: Deployment, locks: list[int], process: int) -> None:
        self.path = path
        self.deployment = deployment
        self.process = process
        self._locks = locks
        self._generation = 0

    @property
    def journals(self) -> Path:
        """Folder of the journals."""
        return self.path / "journals"

    @property
    def bases(self) -> Path:
        """Folder of the bases."""
        return self.path / "bases"

    @property
    def recovery(self) -> Path:
        """Folder of Bytewax's store: give it to RecoveryConfig."""
        return self.path / "recovery"

    @property
    def generation(self) -> int:
        """The generation of this process; a new one at the first call."""
        if self._generation == 0:
            self._generation = self._new_generation()
        return self._generation

    def inheritance(self) -> tuple[int, dict[str, str]]:
        """(file descriptor, environment) for the processes of a cluster that this one starts: they share its lock."""
        fd = self._locks[0]
        return fd, {LOCK_VARIABLE: str(fd)}

    def close(self) -> None:
        """Let go of the folder."""
        while self._locks:
            os.close(self._locks.pop())

    def __enter__(self) -> StateFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _new_generation(self) -> int:
        folder = self.path / "generations"
        try:
            while True:
                newest = max((int(name) for name in os.listdir(folder) if name.isdigit()), default=0)
                # born under another name and locked before anyone can see it: nobody takes it for a dead one
                unborn = folder / f"{newest + 1:08d}.{os.getpid()}.part"
                fd = os.open(unborn, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
                fcntl.flock(fd, fcntl.LOCK_EX)
                os.write(fd, msgspec.json.encode(_holder("")))
                try:
                    os.link(unborn, folder / f"{newest + 1:08d}")
                except FileExistsError:
                    os.close(fd)
                    continue
                finally:
                    unborn.unlink()
                self._locks.append(fd)
                return newest + 1
        except OSError as error:
            raise unwritable(folder, error) from error


def generation_lives(path: Path, generation: int) -> bool:
    """Whether the process of a generation is still there."""
    try:
        fd = os.open(path / "generations" / f"{generation:08d}", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(fd)


def _holder(cluster: str) -> _Holder:
    return _Holder(os.getpid(), socket.gethostname(), cluster)


def _lock(path: Path, how: int, cluster: str | None = None) -> int | None:
    """A descriptor that holds the lock, or None: somebody else does. `cluster`: the file tells who took it."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return None
        raise unwritable(path, error) from error
    if cluster is not None:
        os.ftruncate(fd, 0)
        os.pwrite(fd, msgspec.json.encode(_holder(cluster)), 0)
    return fd


def _held_by(path: Path) -> _Holder | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Holder)
    except (OSError, msgspec.MsgspecError):
        return None


def holder_of(path: Path) -> _Holder | None:
    """Who holds a lock; None if nobody does."""
    if not path.exists():
        return None
    fd = _lock(path, fcntl.LOCK_SH)
    if fd is not None:
        os.close(fd)
        return None
    return _held_by(path)


def _in_use(folder: Path, lock: Path) -> SettingsError:
    holder = _held_by(lock)
    who = f" (process {holder.pid} on {holder.host})" if holder is not None else ""
    return SettingsError(
        _STEP,
        f'"{folder}" is used by another engine{who}',
        "stop it first, or choose another state folder: two engines can't share one",
    )


def _inherited(lock: Path) -> int | None:
    """The lock of the process that started this one, as a descriptor of our own."""
    text = os.environ.get(LOCK_VARIABLE, "")
    if not text.isdigit():
        return None
    try:
        given, here = os.fstat(int(text)), os.stat(lock)
        if (given.st_dev, given.st_ino) != (here.st_dev, here.st_ino):
            return None
        return os.dup(int(text))
    except OSError:
        return None


def _take(path: Path, process: int, processes: int, cluster: str) -> list[int]:
    """The locks that this process holds from now on. Raises SettingsError if another engine runs."""
    lock = path / "lock"
    inherited = _inherited(lock)
    if inherited is not None:
        return [inherited]
    if processes == 1:
        fd = _lock(lock, fcntl.LOCK_EX, "")
        if fd is None:
            raise _in_use(path, lock)
        return [fd]
    shared = _lock(lock, fcntl.LOCK_SH, cluster)
    if shared is None:
        raise _in_use(path, lock)
    mine = path / f"lock-{process:03d}"
    own = _lock(mine, fcntl.LOCK_EX, cluster)
    if own is None:
        os.close(shared)
        raise _in_use(path, mine)
    for other in sorted(path.glob("lock-*")):
        if other == mine:
            continue
        free = _lock(other, fcntl.LOCK_SH)
        if free is not None:
            os.close(free)
            continue
        holder = _held_by(other)
        if holder is not None and holder.cluster != cluster:
            os.close(own)
            os.close(shared)
            raise _in_use(path, other)
    return [shared, own]


@contextlib.contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """One process at a time looks at the folder and makes what is not there."""
    until = time.monotonic() + _START_WAIT_S
    fd = _lock(path / "lock-start", fcntl.LOCK_EX)
    while fd is None:
        if time.monotonic() > until:
            raise _in_use(path, path / "lock-start")
        time.sleep(_LOOK_S)
        fd = _lock(path / "lock-start", fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(fd)


def open_folder(
    path: str | os.PathLike[str],
    wanted: Deployment,
    *,
    process: int = 0,
    processes: int = 1,
    cluster: str = "",
) -> StateFolder:
    """Make the folder if it is not there, check that it belongs to this deployment, and take its lock.

    Before Bytewax starts, in each process: its store is made here. A process that was started by one which holds
    the lock (`inheritance`) shares it. Otherwise a cluster's processes hold it together: `process` of `processes`,
    `cluster` = what they have in common and no other cluster has (the list of addresses).
    Raises SettingsError (another engine, another deployment), CheckpointError (the disk).
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        taken = next(p for p in (folder, *folder.parents) if p.exists())
        raise SettingsError(_STEP, f'"{taken}" is not a folder', "choose another state folder") from error
    except OSError as error:
        raise unwritable(folder, error) from error
    with one_at_a_time(folder):
        locks = _take(folder, process, processes, cluster)
        try:
            return StateFolder(folder, _opened(folder, wanted), locks, process)
        except BaseException:
            for fd in locks:
                os.close(fd)
            raise


@contextlib.contextmanager
def hold(path: Path) -> Iterator[None]:
    """Meanwhile no engine uses the folder. Raises SettingsError if one does."""
    lock = path / "lock"
    fd = _lock(lock, fcntl.LOCK_EX, "")
    if fd is None:
        raise _in_use(path, lock)
    try:
        yield
    finally:
        os.close(fd)


def read_deployment(path: Path) -> Deployment:
    """What an existing folder belongs to. Raises SettingsError, CheckpointError."""
    file = path / "deployment.json"
    try:
        return msgspec.json.decode(file.read_bytes(), type=Deployment)
    except FileNotFoundError as error:
        raise SettingsError(
            _STEP,
            f'"{path}" holds no state: there is no deployment.json',
            "check the path given with --state",
        ) from error
    except OSError as error:
        raise unreadable(file, error) from error
    except msgspec.MsgspecError as error:
        raise SettingsError(
            _STEP, f'"{file}" is not valid: {error}', "it was written by another version, or changed by hand"
        ) from error


def _opened(folder: Path, wanted: Deployment) -> Deployment:
    """The deployment of a folder that afterwards has all that is needed."""
    file = folder / "deployment.json"
    if file.exists():
        kept = read_deployment(folder)
        deployment = merged(folder, kept, wanted)
    else:
        if any((folder / "recovery").glob("*")):
            raise SettingsError(
                _STEP,
                f'"{folder}" has a recovery store but no deployment.json',
                "restore the file, or start anew",
            )
        kept, deployment = None, wanted
    try:
        for name in ("journals", "bases", "generations", "recovery"):
            (folder / name).mkdir(exist_ok=True)
        for name in ("journals", "bases"):
            probe = folder / name / f".probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
    except OSError as error:
        raise unwritable(folder, error) from error
    store = folder / "recovery" / STORE_FILE
    if kept is not None and not store.exists():
        raise SettingsError(
            _STEP, f'"{store}" is missing', "put it back from a copy; without it the state can't be found"
        )
    if not store.exists():
        from bytewax.recovery import init_db_dir

        init_db_dir(store.parent, 1)  # type: ignore[no-untyped-call]
    if deployment != kept:
        write_whole(file, msgspec.json.format(msgspec.json.encode(deployment), indent=2) + b"\n")
    return deployment


def started_as(arguments: list[str] | None = None) -> tuple[int, int, str]:
    """(process, processes, cluster) of a process that `python -m bytewax.run` started, for open_folder.

    Bytewax tells a flow neither its process nor its addresses: they are read where it reads them.
    """
    words = sys.argv[1:] if arguments is None else arguments

    def option(names: tuple[str, ...], variable: str) -> str:
        for index, word in enumerate(words):
            for name in names:
                if word == name and index + 1 < len(words):
                    return words[index + 1]
                if name.startswith("--") and word.startswith(name + "="):
                    return word.partition("=")[2]
                if not name.startswith("--") and word.startswith(name) and len(word) > len(name):
                    return word[len(name) :]
        return os.environ.get(variable, "")

    process = option(("-i", "--process-id"), "BYTEWAX_PROCESS_ID")
    pod, owner = os.environ.get("BYTEWAX_POD_NAME"), os.environ.get("BYTEWAX_STATEFULSET_NAME")
    if not process and pod and owner:
        process = pod.removeprefix(f"{owner}-")
    addresses = option(("-a", "--addresses"), "BYTEWAX_ADDRESSES")
    hosts = os.environ.get("BYTEWAX_HOSTFILE_PATH")
    if process and not addresses and hosts:
        with contextlib.suppress(OSError):
            addresses = ";".join(
                line.strip() for line in Path(hosts).read_text().splitlines() if line.strip()
            )
    if not process.isdigit() or not addresses:
        return 0, 1, ""
    return int(process), len(addresses.split(";")), addresses
