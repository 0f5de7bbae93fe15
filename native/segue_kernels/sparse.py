"""Words without their zeros, and rows of words put where they belong: how checkpoints write and read customers.

A group is 63 words: a mask (bit i: word i is not zero), then the words that are not zero. The last group may be
shorter; one word 0 ends it all. Rows of customers are more than half zeros, and this is as fast as copying them.
"""

from segue_kernels.jit import Array, kernel

GROUP = 63  # a mask is never negative


@kernel
def pack_words(words: Array, packed: Array) -> int:
    """Pack int64 words; how many words of `packed` they take.

    packed must have room for len(words) + groups + 1.
    """
    at = 0
    length = len(words)
    first = 0
    while first < length:
        end = min(first + GROUP, length)
        mask_at = at
        at += 1
        mask = 0
        for i in range(first, end):
            word = words[i]
            packed[at] = word
            there = int(word != 0)
            mask |= there << (i - first)
            at += there
        packed[mask_at] = mask
        first = end
    packed[at] = 0
    return at + 1


@kernel
def unpack_words(packed: Array, words: Array) -> int:
    """Fill `words` from what pack_words made; how many words of `packed` it took, -1 if they do not fit."""
    room = len(packed)
    length = len(words)
    at = 0
    first = 0
    while first < length:
        end = min(first + GROUP, length)
        if at >= room:
            return -1
        mask = packed[at]
        at += 1
        if at + GROUP < room:
            for i in range(first, end):
                there = mask & 1
                words[i] = packed[at] & -there
                at += there
                mask >>= 1
        else:
            for i in range(first, end):
                words[i] = 0
                if mask & 1:
                    if at >= room:
                        return -1
                    words[i] = packed[at]
                    at += 1
                mask >>= 1
        if mask != 0 and end - first < GROUP:
            return -1
        first = end
    if at >= room or packed[at] != 0:
        return -1
    return at + 1


@kernel
def place_rows(words: Array, starts: Array, target: Array, placed: Array) -> None:
    """Copy row i, words[starts[i] : starts[i + 1]], to `placed` from target[i] on; a row with target -1 is left out."""
    for i in range(len(target)):
        to = target[i]
        if to >= 0:
            base = starts[i]
            for j in range(starts[i + 1] - base):
                placed[to + j] = words[base + j]
