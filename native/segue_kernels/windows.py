"""Window entries, updated in place: the smallest state that answers every question of a stream exactly.

An entry lies at word `at` of a flat int64 array (a row or a pool block). Time 0 means none. A late time is put
where it belongs; equal times keep all of their occurrences. What the k largest cannot show, no question of
this stream asks (policy plan). The order of adding and of joining does not matter: an entry is a function of
all that was added (but for TUMBLE_DISTINCT, whose keys stand as they came, and for what a bound cut, which is
counted).

    COUNT            k times, descending
    SUM              k times, descending, then their k values: the k largest by (time, value)
    TUMBLE_COUNT     [start of the window, n]
    TUMBLE_SUM       [start of the window, sum]
    DISTINCT         k times, descending, then their k keys: the k keys seen last (equal times: smallest key first)
    TUMBLE_DISTINCT  [start of the window, n, k keys]
    DECAY            [epoch of the newest event + 1, integer sums of DECAY_EPOCHS epochs, newest first]
    FIRST            [time, value]: the smallest of both
    SESSIONS         [end already closed, k pairs start, end: newest first]: maximal runs with gaps of at most `gap`
    LEFT             k times, their k low and their k high id words: the k largest (time, low, high)
"""

from __future__ import annotations

import math

from segue_kernels.jit import Array, inline, outline
from segue_kernels.plan import (
    COUNT,
    DECAY,
    DECAY_EPOCHS,
    DISTINCT,
    FIRST,
    LEFT,
    SESSIONS,
    STREAM_FLAG_SEQUENCE,
    STREAM_FLAGS,
    STREAM_K,
    STREAM_KIND,
    STREAM_WIDTH_MS,
    STREAM_WINDOW_MS,
    SUM,
    TUMBLE_COUNT,
    TUMBLE_DISTINCT,
    TUMBLE_SUM,
)
from segue_kernels.row import (
    COUNT_JOIN_BOUND_MET,
    COUNT_SEQUENCE_BOUND_MET,
    COUNT_SESSION_BOUND_MET,
    COUNT_SUM_BOUND_MET,
)
from segue_kernels.shard import Shard

SESSION_REACH_MS = 300_000  # a session cut while an event this late could still touch it is counted


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
def pushed_out(words: Array, at: int, k: int, time: int) -> int:
    """COUNT: the time that adding `time` to it will cost; 0 if there is room."""
    last: int = words[at + k - 1]
    return min(last, time)


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
    """DISTINCT: keep the k keys with the latest last time; of equal times the smaller key stands first."""
    i = 0
    while i < k and not (words[at + k + i] == key and words[at + i] != 0):
        i += 1
    if i == k:
        i = k - 1
        if time < words[at + i] or (time == words[at + i] and key > words[at + k + i]):
            return
    elif time <= words[at + i]:
        return
    while i > 0 and (words[at + i - 1] < time or (words[at + i - 1] == time and words[at + k + i - 1] > key)):
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
def decayed_weight(value: int, scale: int, half_life: int, time: int) -> int:
    """What an event adds to the sum of its epoch: heavier the later in it (policy/ir.py, Decayed)."""
    return math.floor(float(value * scale) * math.exp2((time % half_life) / half_life) + 0.5)


@inline
def add_decayed(words: Array, at: int, epoch: int, weight: int) -> None:
    """DECAY: add to the sum of an epoch (counted from 1) unless it is older than the sums kept."""
    newest = words[at]
    if epoch > newest:
        shift = min(epoch - newest, DECAY_EPOCHS)
        for j in range(DECAY_EPOCHS - 1, shift - 1, -1):
            words[at + 1 + j] = words[at + 1 + j - shift]
        for j in range(shift):
            words[at + 1 + j] = 0
        words[at] = epoch
        newest = epoch
    if newest - epoch < DECAY_EPOCHS:
        words[at + 1 + newest - epoch] += weight


@inline
def add_first(words: Array, at: int, time: int, value: int) -> None:
    """FIRST: keep the smallest (time, value)."""
    if words[at] == 0 or time < words[at] or (time == words[at] and value < words[at + 1]):
        words[at] = time
        words[at + 1] = value


@outline
def join_session(words: Array, at: int, k: int, gap: int, start: int, end: int) -> int:
    """SESSIONS: the union with one more run of events; the end of the session that the bound cut, or 0."""
    first = 0
    while first < k and words[at + 1 + 2 * first] > end + gap:
        first += 1
    behind = first
    while behind < k and words[at + 2 + 2 * behind] != 0 and words[at + 2 + 2 * behind] + gap >= start:
        start = min(start, words[at + 1 + 2 * behind])
        end = max(end, words[at + 2 + 2 * behind])
        behind += 1
    touched = behind - first
    if touched == 0:
        if first == k:
            return end
        cut: int = words[at + 2 * k]
        for w in range(at + 2 * k, at + 2 + 2 * first, -1):
            words[w] = words[w - 2]
    else:
        cut = 0
        closer = 2 * (touched - 1)
        if closer > 0:
            for w in range(at + 1 + 2 * behind, at + 1 + 2 * k):
                words[w - closer] = words[w]
            for w in range(at + 1 + 2 * k - closer, at + 1 + 2 * k):
                words[w] = 0
    words[at + 1 + 2 * first] = start
    words[at + 2 + 2 * first] = end
    return cut


@inline
def session_cut(end: int, gap: int, now: int) -> int:
    """1 if a session that was cut (its end; 0: none) could still have been touched, else 0."""
    return 1 if end != 0 and end + gap >= now - SESSION_REACH_MS else 0


@inline
def add_to_session(words: Array, at: int, k: int, gap: int, time: int, now: int) -> int:
    """SESSIONS: an event joins the sessions no further from it than `gap`, or begins one. Returns what the bound cut.

    Nearly always it goes on with the newest one.
    """
    end = words[at + 2]
    if words[at + 1] <= time <= end + gap and end != 0:
        if time > end:
            words[at + 2] = time
        return 0
    return session_cut(join_session(words, at, k, gap, time, time), gap, now)


@inline
def add_left(words: Array, at: int, k: int, time: int, low: int, high: int) -> int:
    """LEFT: keep the k largest (time, low, high); the time of the one that was cut, or 0."""
    i = at + k - 1
    cut: int = words[i]
    if cut > time or (
        cut == time and (words[i + k] > low or (words[i + k] == low and words[i + 2 * k] >= high))
    ):
        return time
    while i > at and (
        words[i - 1] < time
        or (
            words[i - 1] == time
            and (words[i - 1 + k] < low or (words[i - 1 + k] == low and words[i - 1 + 2 * k] < high))
        )
    ):
        words[i] = words[i - 1]
        words[i + k] = words[i - 1 + k]
        words[i + 2 * k] = words[i - 1 + 2 * k]
        i -= 1
    words[i] = time
    words[i + k] = low
    words[i + 2 * k] = high
    return cut


@inline
def find_left(words: Array, at: int, k: int, after: int, time: int) -> int:
    """LEFT: which of its entries is the greatest with after < its time <= time; -1 if there is none."""
    i = 0
    while i < k and words[at + i] > time:
        i += 1
    return i if i < k and words[at + i] > after else -1


@inline
def remove_left(words: Array, at: int, k: int, which: int) -> None:
    """LEFT: take an entry out."""
    for column in range(3):
        first = at + column * k
        for i in range(which, k - 1):
            words[first + i] = words[first + i + 1]
        words[first + k - 1] = 0


@inline
def join_entry(
    words: Array, at: int, other: Array, other_at: int, kind: int, k: int, window: int, now: int
) -> int:
    """Add another entry of the same stream to this one; the order of joining does not matter.

    `window` is the width of the tumbling kinds and the gap of SESSIONS. Returns how many entries that could still
    matter the bound of a SUM, SESSIONS or LEFT cut.
    """
    cut = 0
    after = now - window if window > 0 else 0
    if kind == COUNT:
        for i in range(k):
            if other[other_at + i] != 0:
                add_time(words, at, k, other[other_at + i])
    elif kind == SUM:
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
    elif kind == TUMBLE_DISTINCT:
        for i in range(other[other_at + 1]):
            tumble_key(words, at, k, window, other[other_at], other[other_at + 2 + i])
    elif kind == DECAY:
        for j in range(DECAY_EPOCHS):
            if other[other_at] - j > 0:
                add_decayed(words, at, other[other_at] - j, other[other_at + 1 + j])
    elif kind == FIRST:
        if other[other_at] != 0:
            add_first(words, at, other[other_at], other[other_at + 1])
    elif kind == SESSIONS:
        words[at] = max(words[at], other[other_at])
        for i in range(k):
            start = other[other_at + 1 + 2 * i]
            if start != 0:
                lost = join_session(words, at, k, window, start, other[other_at + 2 + 2 * i])
                cut += session_cut(lost, window, now)
    else:
        for i in range(k):
            time = other[other_at + i]
            if time != 0:
                lost = add_left(words, at, k, time, other[other_at + k + i], other[other_at + 2 * k + i])
                cut += 1 if lost > after else 0
    return cut


@outline
def join_stream(shard: Shard, streams: Array, s: int, at: int, other: Array, other_at: int, now: int) -> None:
    """join_entry for an entry of stream s in the rows, with the bounds it meets counted where they belong."""
    kind = streams[s, STREAM_KIND]
    k = streams[s, STREAM_K]
    window = streams[s, STREAM_WINDOW_MS]
    if kind == COUNT and streams[s, STREAM_FLAGS] & STREAM_FLAG_SEQUENCE != 0:
        after = now - window if window > 0 else 0
        for i in range(k):
            time = other[other_at + i]
            if time != 0:
                if pushed_out(shard.rows, at, k, time) > after:
                    shard.meta[COUNT_SEQUENCE_BOUND_MET] += 1
                add_time(shard.rows, at, k, time)
        return
    if kind == SESSIONS:
        window = streams[s, STREAM_WIDTH_MS]
    cut = join_entry(shard.rows, at, other, other_at, kind, k, window, now)
    if kind == SUM:
        shard.meta[COUNT_SUM_BOUND_MET] += cut
    elif kind == SESSIONS:
        shard.meta[COUNT_SESSION_BOUND_MET] += cut
    elif kind == LEFT:
        shard.meta[COUNT_JOIN_BOUND_MET] += cut
