"""A slab of blocks for what a row cannot hold in place: id rings, spilled keys, long names.

A block has 8, 16, 24, 32, 48, 64, 96 ... words (powers of two of at least 8 words, and from 16 on what lies halfway
between two of them) and is aligned to 8; a freed block goes to the list of its size and is zeroed when taken again.
Block 0 is never given out, so 0 means none. The array is reserved address space: taking a block never copies.
"""

from __future__ import annotations

from segue_kernels.jit import Array, inline
from segue_kernels.row import POOL_BUMP, POOL_FREE, POOL_WORDS_USED

BLOCK_WORDS_MIN = 8
CLASSES = 18  # of sizes
BLOCK_WORDS_MAX = BLOCK_WORDS_MIN << (CLASSES // 2)


@inline
def size_class(words: int) -> tuple[int, int]:
    """(class, words) of the smallest block with at least `words` words."""
    if words <= BLOCK_WORDS_MIN:
        return 0, BLOCK_WORDS_MIN
    size = 2 * BLOCK_WORDS_MIN
    which = 1
    while size < words:
        size <<= 1
        which += 2
    between = size - (size >> 2)
    if words <= between and which > 1:
        return which - 1, between
    return which, size


@inline
def take_block(pool: Array, meta: Array, words: int) -> int:
    """A zeroed block of at least `words` words: its offset in the pool."""
    which, size = size_class(words)
    head = meta[POOL_FREE + which]
    meta[POOL_WORDS_USED] += size
    if head != 0:
        meta[POOL_FREE + which] = pool[head]
        for i in range(size):
            pool[head + i] = 0
        return head
    at = meta[POOL_BUMP]
    meta[POOL_BUMP] = at + size
    return at


@inline
def wipe(pool: Array, start: int, end: int) -> None:
    """Overwrite words that must not stay in memory; word 0 of a freed block is the list's."""
    for w in range(start, end):
        pool[w] = 0


@inline
def free_block(pool: Array, meta: Array, at: int, words: int) -> None:
    """Give a block of `words` words back."""
    which, size = size_class(words)
    pool[at] = meta[POOL_FREE + which]
    meta[POOL_FREE + which] = at
    meta[POOL_WORDS_USED] -= size
