"""What changed in a shard since it was last asked: what a checkpoint writes, and what a shard is restored from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class ShardDelta:
    """Rows by number, each once, and all that is not a row.

    A base is a delta from nothing. Of several in order the newest words of each row count, and the newest `rest`.

    rows    int64[n], ascending
    starts  int64[n + 1]: row i is words[starts[i] : starts[i + 1]]; no words = the row was given up
    words   int64, self-contained (segue_kernels/saved.py)
    rest    the shard's small things, whole each time, as bytes
    """

    rows: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    words: npt.NDArray[np.int64]
    rest: bytes
