"""Parts of state as plain dicts, and what is needed to save and load them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from segue.checkpoints.folder import Deployment, StateFolder, deployment_of, open_folder
from segue.state.delta import ShardDelta

SECRET = b"sixteen bytes..."
Rows = dict[int, list[int]]


def deployment(**changed: object) -> Deployment:
    values = {"shards": 4, "lanes": 2, "secret": SECRET, "partitions": ("a", "b"), **changed}
    return deployment_of(**values)  # type: ignore[arg-type]


def opened(path: Path) -> StateFolder:
    return open_folder(path, deployment())


def delta(rows: Mapping[int, Iterable[int]], rest: bytes = b"rest") -> ShardDelta:
    """Rows by number; an empty one was given up."""
    numbers = sorted(rows)
    words = [list(rows[number]) for number in numbers]
    starts = np.cumsum([0, *map(len, words)]).astype(np.int64)
    flat = np.array([word for row in words for word in row], np.int64)
    return ShardDelta(np.array(numbers, np.int64), starts, flat, rest)


def rows_of(part: ShardDelta) -> Rows:
    bounds = part.starts.tolist()
    return {row: part.words[bounds[i] : bounds[i + 1]].tolist() for i, row in enumerate(part.rows.tolist())}


def changed(kept: Rows, by: Mapping[int, Iterable[int]]) -> Rows:
    """The rows after a delta."""
    after = {**kept, **{row: list(words) for row, words in by.items()}}
    return {row: words for row, words in after.items() if words}


def some_rows(chance: random.Random, count: int = 20, end: int = 200) -> Rows:
    rows: Rows = {}
    for _ in range(chance.randrange(count + 1)):
        words = [
            chance.choice((0, chance.randrange(-(2**63), 2**63))) for _ in range(chance.randrange(1, 30))
        ]
        rows[chance.randrange(end)] = [] if chance.random() < 0.2 else words
    return rows
