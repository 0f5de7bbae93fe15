"""How kernels are compiled: `nogil`, never `fastmath`, never `parallel`, cached per version of the sources.

No index in a kernel is negative: a[-1] would be what lies before the array, not its last element (_plain_index).

With NUMBA_DISABLE_JIT=1 every kernel is the plain Python function it looks like. Unsigned words wrap around
in both modes: NumPy's warning about it is off inside an interpreted kernel.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
from numba import types
from numba.core import config as numba_config

Array = npt.NDArray[Any]  # what kernels take: mostly int64; the docstring of each says which

Function = TypeVar("Function", bound=Callable[..., Any])

JIT_DISABLED = bool(numba_config.DISABLE_JIT)
_PACKAGE = __name__.partition(".")[0]


def _sources_digest() -> str:
    """A digest of all kernel sources and where they are: Numba's own cache does not see a helper changed in another
    file, and finds nothing of sources that were compiled in another folder."""
    digest = hashlib.sha256(
        f"{numba.__version__} {np.__version__} {sys.version} {Path(__file__).parent}".encode()
    )
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    digest.update(b"bounds checked" if numba_config.BOUNDSCHECK else b"")
    return digest.hexdigest()[:16]


def cache_folder() -> Path:
    """Where compiled kernels of exactly these sources are kept; SEGUE_CACHE_DIR moves it. Those of other versions
    are deleted one day (segue.run.unused)."""
    root = os.environ.get("SEGUE_CACHE_DIR")
    base = Path(root) if root else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "segue"
    return base / f"kernels-{_sources_digest()}"


def _use(folder: str) -> None:
    """Note that a folder is used: by its time, and by a lock that goes when this process does. Where that can't be
    noted nothing is."""
    with contextlib.suppress(OSError):
        os.makedirs(folder, exist_ok=True)
        found = os.open(folder, os.O_RDONLY)
        lock = fcntl.fcntl(found, fcntl.F_DUPFD_CLOEXEC, 3)  # 1 or 2, if closed, are where people write
        os.close(found)
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        os.utime(folder)


if not JIT_DISABLED and "NUMBA_CACHE_DIR" not in os.environ:
    numba_config.CACHE_DIR = str(cache_folder())
    _use(numba_config.CACHE_DIR)


_save_compiled: Any = None  # Numba's own, no public function either
if not JIT_DISABLED:
    from numba.core import caching

    _save_compiled = getattr(caching.IndexDataCacheFile, "save", None)

if _save_compiled is not None:

    def _save_alone(cache_file: Any, key: Any, data: Any) -> None:
        """Keep what was compiled, one process at a time: of two that compile one function for different types at the
        same time each would take the next free file, and the index would tell one the other's code."""
        # not found: the folder was just deleted as unused, and what was compiled is compiled again next time
        with contextlib.suppress(FileNotFoundError), open(f"{cache_file._index_path}.lock", "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _save_compiled(cache_file, key, data)

    caching.IndexDataCacheFile.save = _save_alone


_wrapping_index: Any = (
    None  # Numba's own; it is no public function, and where it is not found nothing is changed
)
if not JIT_DISABLED:
    from numba.np import arrayobj

    _wrapping_index = getattr(arrayobj, "fix_integer_index", None)

if _wrapping_index is not None:

    def _plain_index(context: Any, builder: Any, index_type: Any, index: Any, size: Any) -> Any:
        """An index as it is, in functions of this package; elsewhere one below 0 counts from the array's end.

        That would take a compare, a select and the array's length at every access, and loops would gather what lies
        side by side: the engine's run took 376 instead of 335 ns an event with it, find_or_add 46 instead of 30 (all
        shipped policies, the least of eight passes each). With NUMBA_BOUNDSCHECK=1 a negative index is an error.
        """
        if _PACKAGE not in builder.function.name:
            return _wrapping_index(context, builder, index_type, index, size)
        return context.cast(builder, index, index_type, types.intp)

    arrayobj.fix_integer_index = _plain_index


def _interpreted(function: Function) -> Function:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with np.errstate(over="ignore"):
            return function(*args, **kwargs)

    return cast(Function, call)


# Without reference counts: the caller's arrays outlive the call, and kernels make none. With every array
# of a group counted at every use the engine's run took 1,803 ns an event on the benchmark, without 402.
_OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy", "_nrt": False}
# Groups of arrays (shard.py). A body that takes them apart for Python is as large as many a helper: with one for each
# helper the engine's run took half as long again to compile.
_GROUPS = frozenset(("Shard", "Plan", "World", "Scratch", "Replay", "Out", "Ledger"))


def _helper_options(function: Callable[..., Any]) -> dict[str, Any]:
    """Options of a function that only kernels call: one that takes groups of arrays can't be called from Python."""
    if _GROUPS.isdisjoint(function.__annotations__.values()):
        return _OPTIONS
    return {**_OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def kernel(function: Function) -> Function:
    """Compile a function that other kernels or Python call with arrays. It may not make arrays (`allocating`)."""
    if JIT_DISABLED:
        return _interpreted(function)
    return cast(Function, numba.njit(**_OPTIONS)(function))


def allocating(function: Function) -> Function:
    """Compile a kernel that makes arrays; arrays it takes are counted, so not for what runs per event."""
    if JIT_DISABLED:
        return _interpreted(function)
    return cast(Function, numba.njit(**{**_OPTIONS, "_nrt": True})(function))


def outline(function: Function) -> Function:
    """Compile a helper that is called, not inlined: for cold paths, which would be compiled at every place of use."""
    if JIT_DISABLED:
        return function
    return cast(Function, numba.njit(**_helper_options(function))(function))


def inline(function: Function) -> Function:
    """Compile a small helper that only kernels call; LLVM always inlines it."""
    if JIT_DISABLED:
        return function
    return cast(Function, numba.njit(**_helper_options(function), forceinline=True)(function))
