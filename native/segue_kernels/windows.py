"""Window entries, updated in place: the smallest state that answers every question of a stream exactly.

An entry lies at word `at` of a flat int64 array (a row or a pool block). Time 0 means none. A late time is put
where it belongs; equal times keep all of their occurrences. What the k largest cannot show, no question of
this stream asks (policy plan).

    COUNT            k times, descending
    SUM              k times, descending, then their k values: the k largest by (time, value)
    TUMBLE_COUNT     [start of the window, n]
    TUMBLE_SUM       [start of the window, sum]
    DISTINCT         k times, descending, then their k keys: the k keys seen last
    TUMBLE_DISTINCT  [start of the window, n, k keys]
"""

from __future__ import annotations

from segue_kernels.jit import Array, inline
from segue_kernels.plan import COUNT, DISTINCT, SUM, TUMBLE_COUNT, TUMBLE_SUM


@inline
def add_time(words: Array, at: int, k: int, time: int) -> None:
    """COUNT: keep the k largest times, descending."""
    i = at + k - 1
    if time <= words[i]:
        return
    while i > at and words[i - 1] < time:
        words[i] = words[i - 1]
        i -= 1
    words[i] = time


@inline
def add_value(words: Array, at: int, k: int, time: int, value: int, after: int) -> int:
    """SUM: keep the k largest (time, value); 1 if that cut an entry later than `after`, else 0."""
    last = at + k - 1
    last_time = words[last]
    if last_time > time or (last_time == time and last_time != 0 and words[last + k] >= value):
        return 1 if time > after else 0
    cut = 1 if last_time > after and last_time != 0 else 0
    i = last
    while i > at and (words[i - 1] < time or (words[i - 1] == time and words[i - 1 + k] < value)):
        words[i] = words[i - 1]
        words[i + k] = words[i - 1 + k]
        i -= 1
    words[i] = time
    words[i + k] = value
    return cut


@inline
def tumble(words: Array, at: int, width: int, time: int, value: int) -> None:
    """TUMBLE_COUNT and TUMBLE_SUM: add to the window of `time` unless a newer one has begun."""
    start = time - time % width
    if start > words[at]:
        words[at] = start
        words[at + 1] = value
    elif start == words[at]:
        words[at + 1] += value


@inline
def add_key(words: Array, at: int, k: int, time: int, key: int) -> None:
    """DISTINCT: keep the k keys with the latest last time."""
    i = 0
    while i < k and not (words[at + k + i] == key and words[at + i] != 0):
        i += 1
    if i == k:
        i = k - 1
        if time <= words[at + i]:
            return
    elif time <= words[at + i]:
        return
    while i > 0 and words[at + i - 1] < time:
        words[at + i] = words[at + i - 1]
        words[at + k + i] = words[at + k + i - 1]
        i -= 1
    words[at + i] = time
    words[at + k + i] = key


@inline
def tumble_key(words: Array, at: int, k: int, width: int, time: int, key: int) -> None:
    """TUMBLE_DISTINCT: add a key to the set of its window unless a newer one has begun."""
    start = time - time % width
    if start < words[at]:
        return
    if start > words[at]:
        words[at] = start
        words[at + 1] = 0
    n = words[at + 1]
    for i in range(n):
        if words[at + 2 + i] == key:
            return
    if n < k:
        words[at + 2 + n] = key
        words[at + 1] = n + 1


@inline
def join_entry(
    words: Array, at: int, other: Array, other_at: int, kind: int, k: int, window: int, now: int
) -> int:
    """Add another entry of the same stream to this one; the order of joining does not matter.

    Returns how many entries inside the window the bound of a SUM cut.
    """
    cut = 0
    if kind == COUNT:
        for i in range(k):
            if other[other_at + i] != 0:
                add_time(words, at, k, other[other_at + i])
    elif kind == SUM:
        after = now - window if window > 0 else 0
        for i in range(k):
            if other[other_at + i] != 0:
                cut += add_value(words, at, k, other[other_at + i], other[other_at + k + i], after)
    elif kind == TUMBLE_COUNT or kind == TUMBLE_SUM:
        if other[other_at] > words[at]:
            words[at] = other[other_at]
            words[at + 1] = other[other_at + 1]
        elif other[other_at] == words[at] and other[other_at] != 0:
            words[at + 1] += other[other_at + 1]
    elif kind == DISTINCT:
        for i in range(k):
            if other[other_at + i] != 0:
                add_key(words, at, k, other[other_at + i], other[other_at + k + i])
    else:
        for i in range(other[other_at + 1]):
            tumble_key(words, at, k, window, other[other_at], other[other_at + 2 + i])
    return cut
