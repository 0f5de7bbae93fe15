"""What kernels mean by an index."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from numba.core import config

from segue_kernels.jit import JIT_DISABLED, Array


def _word(words: Array, at: int) -> int:
    return int(words[at])


@pytest.mark.skipif(JIT_DISABLED or config.BOUNDSCHECK, reason="needs the compiler, and indices unchecked")
def test_only_other_packages_pay_for_indices_below_zero() -> None:
    words = np.arange(10)
    elsewhere = numba.njit(_word)
    assert elsewhere(words[5:], -1) == 9

    def kernel(words: Array, at: int) -> int:
        return int(words[at])

    kernel.__module__ = "segue_kernels.example"
    plain = numba.njit(boundscheck=False)(kernel)
    assert plain(words[5:], -1) == 4
    checked = numba.njit(boundscheck=True)(kernel)
    with pytest.raises(IndexError):
        checked(words[5:], -1)
