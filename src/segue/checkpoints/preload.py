"""Parts of the state read back before anybody asks: while the start waits for others, and while a part is restored."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from segue import limits
from segue.checkpoints.bases import load
from segue.checkpoints.manifest import Manifest
from segue.checkpoints.record import Room
from segue.state.delta import ShardDelta

_Loaded = tuple[ShardDelta, Room]


def _bytes(manifest: Manifest) -> int:
    return manifest.base_bytes + manifest.record_bytes


class Preload:
    """Reads the parts of these manifests in the background, in this order, PRELOAD_BYTES of their files ahead of who
    asks for them (one thread). What is asked for too early, or is not listed, is read there and then.
    """

    def __init__(self, folder: Path, manifests: Iterable[Manifest]) -> None:
        self._folder = folder
        self._pool = ThreadPoolExecutor(limits.PRELOAD_THREADS, thread_name_prefix="preload")
        self._later = deque(manifests)
        self._coming: dict[int, tuple[Manifest, Future[_Loaded]]] = {}
        self._ahead = 0  # bytes of what is coming
        self._rooms: list[Room] = []
        self._lent: Room | None = None
        self._begin_more()

    def take(self, manifest: Manifest) -> ShardDelta:
        """The part; it lives until the next one is taken. Raises CheckpointError."""
        if self._lent is not None:
            self._rooms.append(self._lent)
            self._lent = None
        begun, coming = self._coming.pop(manifest.part, (None, None))
        if begun is None or coming is None:
            self._later = deque(later for later in self._later if later.part != manifest.part)
            return load(self._folder, manifest)
        self._ahead -= _bytes(begun)
        self._begin_more()
        if begun != manifest or coming.cancel():
            return load(self._folder, manifest)
        delta, self._lent = coming.result()
        if not self._coming:
            self.close()
        return delta

    def _begin_more(self) -> None:
        while self._later and (not self._coming or self._ahead < limits.PRELOAD_BYTES):
            manifest = self._later.popleft()
            self._ahead += _bytes(manifest)
            self._coming[manifest.part] = manifest, self._pool.submit(self._load, manifest)

    def _load(self, manifest: Manifest) -> _Loaded:
        try:
            room = self._rooms.pop()
        except IndexError:
            room = Room()
        return load(self._folder, manifest, threads=False, room=room), room

    def close(self) -> None:
        """Let go of what nobody asked for."""
        self._later.clear()
        for _, coming in self._coming.values():
            coming.cancel()
        self._pool.shutdown(wait=True)
        self._coming.clear()
        self._rooms.clear()
