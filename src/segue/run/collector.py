"""Python's garbage collector during a run: it has nothing to find among what was made before."""

from __future__ import annotations

import gc


def leave_alone_what_is_here() -> None:
    """Collect now, and never look at today's objects again: a full collection over the compiler's took 39 ms."""
    gc.collect()
    gc.freeze()
