"""Plain twins of the kernels' window operations: each says what an entry must hold, given all that was added.

Nothing here is updated in place and nothing is clever: a twin sorts the complete list and cuts it.
An entry is a list of ints with the layout of segue_kernels.windows; time 0 means none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from segue_kernels.plan import DECAY_EPOCHS


def _filled(words: Sequence[int], length: int) -> list[int]:
    return list(words) + [0] * (length - len(words))


def count_entry(times: Iterable[int], k: int) -> list[int]:
    """COUNT: the k largest times, descending; equal times keep all of their occurrences."""
    return _filled(sorted(times, reverse=True)[:k], k)


def sum_entry(added: Iterable[tuple[int, int]], k: int) -> list[int]:
    """SUM: the k largest (time, value), descending: first the times, then the values."""
    kept = sorted(added, reverse=True)[:k]
    return _filled([time for time, _ in kept], k) + _filled([value for _, value in kept], k)


def sum_cuts(added: Sequence[tuple[int, int]], k: int, after: Sequence[int]) -> int:
    """How many additions cut an entry later than the `after` of that moment (one number for each addition).

    An addition to a full entry cuts exactly one: the smallest of the k it held and the one that came.
    """
    cuts = 0
    for n, limit in enumerate(after, start=1):
        held = sorted(added[: n - 1], reverse=True)[:k]
        cuts += int(len(held) == k and min([*held, added[n - 1]])[0] > limit)
    return cuts


def tumble_count_entry(times: Sequence[int], width: int) -> list[int]:
    """TUMBLE_COUNT: start of the newest window that was added to, and how many times lie in it."""
    return tumble_sum_entry([(time, 1) for time in times], width)


def tumble_sum_entry(added: Sequence[tuple[int, int]], width: int) -> list[int]:
    """TUMBLE_SUM: start of the newest window that was added to, and the sum of its values."""
    if not added:
        return [0, 0]
    start = max(time // width for time, _ in added) * width
    return [start, sum(value for time, value in added if time // width * width == start)]


def last_times(added: Iterable[tuple[int, int]]) -> dict[int, int]:
    """The latest time of each key, from all (time, key) added."""
    latest: dict[int, int] = {}
    for time, key in added:
        latest[key] = max(time, latest.get(key, 0))
    return latest


def distinct_entry(added: Iterable[tuple[int, int]], k: int) -> list[int]:
    """DISTINCT: the k keys seen last, by descending last time; of equal times the greater key stands first."""
    kept = sorted(((time, key) for key, time in last_times(added).items()), reverse=True)[:k]
    return _filled([time for time, _ in kept], k) + _filled([key for _, key in kept], k)


def tumble_distinct_entry(added: Sequence[tuple[int, int]], k: int, width: int) -> list[int]:
    """TUMBLE_DISTINCT: start of the newest window, number of keys, its first k keys in order of arrival."""
    if not added:
        return _filled([], 2 + k)
    start = max(time // width for time, _ in added) * width
    keys: list[int] = []
    for time, key in added:
        if time // width * width == start and key not in keys:
            keys.append(key)
    return _filled([start, len(keys[:k]), *keys[:k]], 2 + k)


def decay_entry(added: Sequence[tuple[int, int]], half_life: int, scale: int) -> list[int]:
    """DECAY of (time, value): newest epoch + 1, then the integer sums of the epochs that count, newest first."""
    if not added:
        return [0] * (1 + DECAY_EPOCHS)
    sums: dict[int, int] = {}
    for time, value in added:
        weight = math.floor(value * scale * math.exp2((time % half_life) / half_life) + 0.5)
        sums[time // half_life] = sums.get(time // half_life, 0) + weight
    newest = max(sums)
    return [newest + 1, *(sums.get(newest - age, 0) for age in range(DECAY_EPOCHS))]


def first_entry(added: Iterable[tuple[int, int]]) -> list[int]:
    """FIRST: the smallest (time, value)."""
    return list(min(added, default=(0, 0)))


def sessions(times: Iterable[int], gap: int) -> list[tuple[int, int]]:
    """All maximal runs with gaps of at most `gap`, (start, end), newest first."""
    runs: list[tuple[int, int]] = []
    for time in sorted(times):
        if runs and time - runs[-1][1] <= gap:
            runs[-1] = (runs[-1][0], time)
        else:
            runs.append((time, time))
    return runs[::-1]


def sessions_entry(times: Iterable[int], k: int, gap: int, closed: int = 0) -> list[int]:
    """SESSIONS: the end already closed, then the newest k sessions."""
    newest = sessions(times, gap)[:k]
    return [closed, *_filled([moment for session in newest for moment in session], 2 * k)]


def left_entry(added: Iterable[tuple[int, int, int]], k: int) -> list[int]:
    """LEFT of (time, low, high): the k largest; first the times, then the low words, then the high ones."""
    kept = sorted(added, reverse=True)[:k]
    return [word for column in range(3) for word in _filled([entry[column] for entry in kept], k)]


def keyed_entries(
    added: Iterable[tuple[int, int, int]], entry: Callable[[list[tuple[int, int]]], list[int]]
) -> dict[int, list[int]]:
    """A keyed stream, slots and spill together: for each key of (key, time, value) the entry of it alone.

    `entry` makes one key's entry from its (time, value) pairs, in order of arrival.
    """
    by_key: dict[int, list[tuple[int, int]]] = {}
    for key, time, value in added:
        by_key.setdefault(key, []).append((time, value))
    return {key: entry(pairs) for key, pairs in by_key.items()}


def count_in_window(times: Iterable[int], now: int, window: int) -> int:
    """Times in (now - window, now]; window 0: ever."""
    return sum(1 for time in times if time <= now and (window == 0 or time > now - window))


def recent_ids(arrivals: Iterable[tuple[int, int]], ids_max: int, age_max: int) -> tuple[list[bool], int]:
    """For each (message id, arrival clock) in order: is it a duplicate; and how many live ids fell out.

    A duplicate is an id among the last ids_max accepted ones whose arrival lies later than clock - age_max.
    """
    accepted: list[tuple[int, int]] = []
    duplicates: list[bool] = []
    overflow = 0
    for message, clock in arrivals:
        known = [m for m, c in accepted[-ids_max:] if c > clock - age_max]
        duplicates.append(message in known)
        if message not in known:
            if len(accepted) >= ids_max and accepted[-ids_max][1] > clock - age_max:
                overflow += 1
            accepted.append((message, clock))
    return duplicates, overflow
