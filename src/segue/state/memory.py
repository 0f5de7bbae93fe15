"""Reserved memory: arrays whose pages exist only once they are touched, so that growing never copies."""

from __future__ import annotations

import contextlib
import mmap

import numpy as np
import numpy.typing as npt

from segue.errors import LimitError

_HUGE_PAGES_FROM_BYTES = 2 << 20


def reserve_words(words: int, what: str) -> npt.NDArray[np.int64]:
    """An int64 array of `words` zeros that takes address space now and memory page by page as it is written.

    `what` names it in the error raised when the system refuses (address space limits, strict overcommit).
    """
    size = max(words * 8, mmap.PAGESIZE)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
    try:
        area = mmap.mmap(-1, size, flags=flags)
    except (OSError, ValueError, OverflowError) as error:
        raise LimitError(
            "reserve memory",
            f"the system refused {size / 2**30:.1f} GiB of address space for {what} ({error})",
            "raise the limit (ulimit -v, vm.overcommit_memory) or lower customers_per_shard_max",
        ) from error
    if size >= _HUGE_PAGES_FROM_BYTES and hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without huge pages: the same memory in small ones
            area.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(area, np.int64, words)
