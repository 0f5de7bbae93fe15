"""What keeps the folder of a state small and without anything erased: a process of its own, beside each that writes.

It makes bases, and deletes files that no resumable epoch needs. A process, not a thread: the one that decides shares
no interpreter with it, it runs at a low priority, and it may open Bytewax's store while Bytewax writes to it: two
copies of SQLite in one process drop each other's locks.

    python -m segue.checkpoints.keeping FOLDER GENERATION BYTES_PER_S     (requests on stdin, answers on stdout)
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path

import msgspec

from segue.checkpoints.bases import load, sweep, write_base
from segue.checkpoints.folder import StateFolder, generation_lives
from segue.checkpoints.manifest import Manifest
from segue.checkpoints.record import Room
from segue.checkpoints.store import manifests_kept
from segue.errors import CheckpointError

_STEP = "gather a checkpoint's records"
# it gets what others leave of the cores, and a thirtieth of one that is busy: more was felt in latency. Read at 88,000
# events/s for 100 s, broker and load on the same two cores: p99 82 ms, at a priority of 5 113 ms
_LOW_PRIORITY = 15
_END_WAIT_S = 5.0


class Request(msgspec.Struct):
    """With a manifest: make a base of it. Otherwise delete what is not needed: `names` are files of manifests that
    Bytewax's store may not have yet, `current` is the number of the journal that is written to."""

    number: int = 0
    manifest: Manifest | None = None
    names: set[str] = set()
    current: int = 0


class Made(msgspec.Struct):
    """The answer: a new base, or bytes that were freed, or what went wrong. `number`: of the request."""

    number: int = 0
    part: int = -1
    base: str = ""
    base_bytes: int = 0
    freed: int = 0
    failure: tuple[str, str, str] | None = None


class Work:
    """What the keeper does, in whichever process."""

    def __init__(self, folder: Path, generation: int, bytes_per_s: int) -> None:
        self._folder = folder
        self._generation = generation
        self._bytes_per_s = bytes_per_s
        self._numbers = 0
        self._room = Room()
        self._unseen: set[str] = (
            set()
        )  # bases that no request has named yet: the other side may not know of them

    def answer(self, request: Request) -> Made:
        """Do what is asked. Raises CheckpointError."""
        if request.manifest is not None:
            made = self.compact(request.manifest)
            made.number = request.number
            return made
        self._unseen -= request.names
        kept = manifests_kept(self._folder)
        if kept is None:  # the store is busy: next time
            return Made()
        needed = {name for manifest in kept for name in manifest.files()} | request.names | self._unseen
        return Made(
            freed=sweep(
                self._folder,
                needed,
                self._generation,
                request.current,
                lambda generation: generation_lives(self._folder, generation),
            )
        )

    def compact(self, manifest: Manifest) -> Made:
        """A base of all that a manifest tells of. Raises CheckpointError."""
        self._numbers += 1
        delta = load(self._folder, manifest, threads=False, room=self._room)
        part = manifest.part
        base, size = write_base(self._folder, self._generation, self._numbers, part, delta, self._bytes_per_s)
        self._unseen.add(base)
        return Made(part=part, base=base, base_bytes=size)


class Keeper:
    """The process, from the side of the one that writes. It is started when there is something to do."""

    def __init__(self, folder: StateFolder, bytes_per_s: int) -> None:
        self._arguments = [str(folder.path.absolute()), str(folder.generation), str(bytes_per_s)]
        self._requests: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Made] = queue.SimpleQueue()
        self._collecting = False
        self._number = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._pass_on, name="keeper", daemon=True)
        self._thread.start()

    def compact(self, manifest: Manifest) -> int:
        """Make a base in the background; `made` tells when it is there. The number of the request."""
        self._number += 1
        self._requests.put(Request(self._number, manifest))
        return self._number

    def collect(self, names: set[str], current: int) -> bool:
        """Delete in the background what is not needed; False: that is still being done from the last time."""
        if self._collecting:
            return False
        self._collecting = True
        self._requests.put(Request(names=names, current=current))
        return True

    def made(self) -> list[Made]:
        """Bases made since the last time. Raises CheckpointError if something went wrong."""
        bases: list[Made] = []
        while not self._answers.empty():
            answer = self._answers.get()
            if answer.failure is not None:
                raise CheckpointError(*answer.failure)
            if answer.base:
                bases.append(answer)
        return bases

    def close(self) -> None:
        """End the process: a base that is being made is given up."""
        self._requests.put(None)
        process = self._process
        if process is not None:
            process.terminate()
        self._thread.join(_END_WAIT_S)

    def _pass_on(self) -> None:
        while (request := self._requests.get()) is not None:
            if self._process is None:
                try:
                    self._process = self._started()
                except OSError as error:
                    found = f"the process that makes bases can't be started: {error.strerror or error}"
                    self._answers.put(
                        Made(failure=(_STEP, found, "look at the limits of memory and processes"))
                    )
                    return
            process = self._process
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(msgspec.json.encode(request) + b"\n")
                process.stdin.flush()
                line = process.stdout.readline()
            except OSError:
                line = b""
            if request.manifest is None:
                self._collecting = False
            if line:
                self._answers.put(msgspec.json.decode(line, type=Made))
                continue
            found = f"the process that makes bases ended with code {process.wait()}"
            self._answers.put(Made(failure=(_STEP, found, "was it killed for lack of memory? start again")))
            break
        if self._process is not None:
            self._process.terminate()
            self._process.communicate()

    def _started(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-m", "segue.checkpoints.keeping", *self._arguments]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the one that started it, which ends it
        )


def main(arguments: list[str]) -> int:
    """Answer requests until nobody is there to ask."""
    folder, generation, bytes_per_s = arguments
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with contextlib.suppress(OSError):
        os.nice(_LOW_PRIORITY)
    work = Work(Path(folder), int(generation), int(bytes_per_s))
    for line in sys.stdin.buffer:
        try:
            answer = work.answer(msgspec.json.decode(line, type=Request))
        except CheckpointError as error:
            answer = Made(failure=(error.step, error.found, error.hint))
        except Exception as error:
            answer = Made(failure=(_STEP, f"unexpected error: {type(error).__name__}: {error}", ""))
        try:
            sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
            sys.stdout.buffer.flush()
        except OSError:
            break
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
