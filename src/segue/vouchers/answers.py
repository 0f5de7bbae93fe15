"""What the ledger gives back: answers, and changes with their keys in a compacted topic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segue_kernels.ledger import CHANGE_CAMPAIGN, CHANGE_KIND

Words = npt.NDArray[np.int64]
_KIND_BYTES = 1
_CODE_BYTES = 8
_HASH_BYTES = 16


@dataclass(frozen=True, slots=True)
class Answered:
    """Answers in the order of the requests, int64[n, ANSWER_WORDS], and what they changed."""

    answers: Words
    changes: Words


@dataclass(frozen=True, slots=True)
class Passed:
    """A reason for each, int64[n], and what changed."""

    reasons: Words
    changes: Words


def change_keys(changes: Words) -> list[bytes]:
    """The keys of changes in a compacted topic: its kind, and its code or its campaign's hash."""
    kinds = changes[:, CHANGE_KIND].tolist()
    data = np.ascontiguousarray(changes[:, CHANGE_KIND + 1 : CHANGE_KIND + 3]).tobytes()
    keys = []
    for place, kind in enumerate(kinds):
        size = _HASH_BYTES if kind == CHANGE_CAMPAIGN else _CODE_BYTES
        at = place * _HASH_BYTES
        keys.append(kind.to_bytes(_KIND_BYTES, "little") + data[at : at + size])
    return keys
