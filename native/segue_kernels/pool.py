"""A slab of blocks for what a row cannot hold in place: id rings, spilled keys, long names.

A block is a power of two of words, 8 at least, and aligned to its first eight; a freed block goes to the list of
its size and is zeroed when taken again. Block 0 is never given out, so 0 means none. The array is reserved address
space: taking a block never copies.
"""

from __future__ import annotations

from segue_kernels.jit import Array, inline
from segue_kernels.row import POOL_BUMP, POOL_FREE, POOL_WORDS_USED

CLASS_WORDS_MIN = 8
CLASSES = 10


@inline
def size_class(words: int) -> int:
    """The class of the smallest block with at least `words` words."""
    size = CLASS_WORDS_MIN
    which = 0
    while size < words:
        size <<= 1
        which += 1
    return which


@inline
def take_block(pool: Array, meta: Array, words: int) -> int:
    """A zeroed block of at least `words` words: its offset in the pool."""
    which = size_class(words)
    size = CLASS_WORDS_MIN << which
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
def free_block(pool: Array, meta: Array, at: int, words: int) -> None:
    """Give a block of `words` words back."""
    which = size_class(words)
    pool[at] = meta[POOL_FREE + which]
    meta[POOL_FREE + which] = at
    meta[POOL_WORDS_USED] -= CLASS_WORDS_MIN << which
