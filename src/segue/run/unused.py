"""Compiled kernels of other versions: deleted when nobody runs them, or has started with them for days.

Each version of the kernels' sources has a folder of its own beside the others (segue_kernels.jit.cache_folder). Each
process that starts with it sets its time, and holds a shared lock on it while it runs. One that is needed again after
all costs a minute: it is compiled anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from segue import limits

MARK = "complete"  # the file in a folder that says that all kernels are there

_FOLDER = re.compile("kernels-[0-9a-f]{16}")


@dataclass(frozen=True)
class Deleted:
    """What was deleted."""

    versions: int
    size_bytes: int

    def __str__(self) -> str:
        what = "another version" if self.versions == 1 else f"{self.versions:,} other versions"
        days = limits.KERNELS_UNUSED_MS_MAX / limits.DAY_MS
        return (
            f"compiled kernels of {what}, unused for {days:g} days, deleted: {self.size_bytes / 1e6:,.0f} MB"
        )


def delete_unused(own: Path) -> Deleted:
    """Delete the folders of other versions beside `own` that nobody uses.

    What can't be deleted stays, and all else in that place is left alone. Several processes may do this at once; one
    that starts with a version just then compiles again what it doesn't find.
    """
    before_s = time.time() - limits.KERNELS_UNUSED_MS_MAX / 1_000
    sizes = []
    with contextlib.suppress(OSError):
        for name in os.listdir(own.parent):
            if name != own.name and _FOLDER.fullmatch(name):
                size_bytes = _delete(own.parent / name, before_s)
                if size_bytes is not None:
                    sizes.append(size_bytes)
    return Deleted(len(sizes), sum(sizes))


def _delete(folder: Path, before_s: float) -> int | None:
    """Delete a folder unless somebody uses it; its size, None if it stays."""
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        if os.fstat(lock).st_mtime >= before_s:
            return None
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(lock).st_mtime >= before_s:  # somebody was here in between: to use it, or to delete it
            return None
        size_bytes = _size_bytes(folder)
        # first: who starts with it from now on doesn't rely on the rest
        (folder / MARK).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        return None if folder.exists() else size_bytes
    except OSError:
        return None
    finally:
        os.close(lock)


def _size_bytes(folder: Path) -> int:
    size_bytes = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                size_bytes += os.lstat(os.path.join(place, name)).st_size
    return size_bytes
