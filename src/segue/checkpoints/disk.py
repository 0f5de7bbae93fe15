"""Files of checkpoints on a disk that may be full, forbidden or broken: names, atomic writes, clear errors."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from segue.errors import CheckpointError

WRITE_STEP = "write a checkpoint"
READ_STEP = "read a checkpoint"

_HINTS = {
    errno.ENOSPC: "free some space; a new start resumes at the last whole checkpoint",
    errno.EDQUOT: "the quota of this user is used up; a new start resumes at the last whole checkpoint",
    errno.EFBIG: "the file has the greatest size allowed here (ulimit -f, or the file system's bound)",
    errno.EACCES: "let this user read and write there, or choose another folder",
    errno.EPERM: "let this user read and write there, or choose another folder",
    errno.EROFS: "choose a folder that can be written",
    errno.EMFILE: "raise the number of open files (ulimit -n)",
    errno.ENOTDIR: "choose another folder",
    errno.EIO: "the disk is failing: look at the system's log, and move the folder to another disk",
}


def unwritable(path: str | Path, error: OSError) -> CheckpointError:
    """A file or folder of the state can't be written."""
    found = f'"{path}" can\'t be written: {error.strerror or error}'
    return CheckpointError(WRITE_STEP, found, _HINTS.get(error.errno or 0, "check the disk and the folder"))


def unreadable(path: str | Path, error: OSError) -> CheckpointError:
    """A file of the state can't be read."""
    if error.errno == errno.ENOENT:
        return CheckpointError(READ_STEP, f'"{path}" is missing', go_back(path))
    found = f'"{path}" can\'t be read: {error.strerror or error}'
    return CheckpointError(READ_STEP, found, _HINTS.get(error.errno or 0, "check the disk and the folder"))


def damaged(path: str | Path, offset: int, what: str) -> CheckpointError:
    """A file of the state does not hold what was written to it."""
    return CheckpointError(READ_STEP, f'"{path}" is damaged at byte {offset}: {what}', go_back(path))


def go_back(path: str | Path) -> str:
    """The hint of an error about a file in one of the state's folders."""
    folder = Path(path).parent.parent
    return f"go back to the last good checkpoint: segue checkpoints restore --state {folder}"


def sync_folder(path: str | Path) -> None:
    """Make the names in a folder durable. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: memoryview | bytes, offset: int) -> None:
    """Write all of it at an offset. Raises OSError."""
    view = memoryview(data).cast("B")
    done = 0
    while done < len(view):
        done += os.pwrite(fd, view[done:], offset + done)


def write_whole(path: Path, data: bytes) -> None:
    """The file has these bytes or what it had before, whatever happens. Raises CheckpointError."""
    unfinished = path.with_name(path.name + ".part")
    try:
        with open(unfinished, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error


# --- names: generation and number tell who made a file ---------------------------------------------------


def journal_name(generation: int, number: int) -> str:
    """File of a process's journal."""
    return f"{generation:08d}-{number:06d}.journal"


def base_name(generation: int, number: int, part: int) -> str:
    """File of a part's base."""
    return f"{generation:08d}-{number:06d}-{part:06d}.base"


def generation_of(name: str) -> int:
    """The generation that a file belongs to, 0 if it is no file of a generation."""
    head = name.split("-", 1)[0]
    return int(head) if head.isascii() and head.isdigit() else 0


def number_of(name: str) -> int:
    """The number of a journal within its generation."""
    return int(name.split("-")[1].split(".")[0])
