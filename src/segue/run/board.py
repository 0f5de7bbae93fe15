"""One board (segue.sources.pace) for the processes of a cluster that nobody started together.

The first of them makes it anew, the others join. A process that finds itself among those who joined is a later life
of one: the board belongs to a cluster that is ending, and it waits until all of that are gone.
"""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from segue import limits
from segue.checkpoints.folder import StateFolder, holder_of, one_at_a_time
from segue.errors import SettingsError
from segue.settings import Settings
from segue.sources.open import new_pace

_LOOK_S = 0.05
_BOARD = "pace"
_MEMBERS = "pace-members.json"


def join_board(folder: StateFolder, pid: int, settings: Settings) -> str:
    """The path of the board. Raises SettingsError if an old cluster does not end."""
    board = folder.path / _BOARD
    members_file = folder.path / _MEMBERS
    until = time.monotonic() + limits.START_WAIT_S
    while True:
        with one_at_a_time(folder.path):
            members = _members(members_file)
            others = {
                process: its
                for process, its in members.items()
                if process != folder.process and _lives(folder.path, process, its)
            }
            if not others:
                new_pace(settings, folder.deployment.partitions, str(board))
            if not others or folder.process not in members:
                joined = {**others, folder.process: pid}
                members_file.write_bytes(msgspec.json.encode(joined))
                return str(board)
        if time.monotonic() > until:
            listed = ", ".join(str(process) for process in sorted(others))
            raise SettingsError(
                "start the flow",
                f"processes of an earlier cluster still run: {listed}",
                "end them, then start all processes of the cluster",
            )
        time.sleep(_LOOK_S)


def _members(path: Path) -> dict[int, int]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[int, int])
    except (OSError, msgspec.MsgspecError):
        return {}


def _lives(folder: Path, process: int, pid: int) -> bool:
    holder = holder_of(folder / f"lock-{process:03d}")
    return holder is not None and holder.pid == pid
