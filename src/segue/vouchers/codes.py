"""Voucher codes as texts: printed, read, and guessed at when they were mistyped (segue_kernels.codes has the law)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from segue.limits import TYPED_CODE_BYTES_MAX
from segue_kernels.codes import (
    CODE_BYTES,
    CODE_MASK,
    NEIGHBOURS_MAX,
    SYMBOLS,
    neighbours,
    read_codes,
    write_codes,
)

Words = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


def joined(texts: Sequence[str | bytes]) -> tuple[Bytes, Words]:
    """Texts one after the other in UTF-8, uint8, and where each begins and the last ends, int64[n + 1]."""
    parts = [text.encode("utf-8", "replace") if isinstance(text, str) else text for text in texts]
    offsets = np.zeros(len(parts) + 1, np.int64)
    np.cumsum([len(part) for part in parts], out=offsets[1:])
    return np.frombuffer(b"".join(parts), np.uint8), offsets


def printed(codes: Words) -> list[str]:
    """Codes as they are printed: K7QM-0XWT-93BVD. codes int64[n], from 0 to 2**60 - 1."""
    if len(codes) and not (int(codes.min()) >= 0 and int(codes.max()) <= CODE_MASK):
        raise ValueError("a code has 60 bits")
    out = np.empty((len(codes), CODE_BYTES), np.uint8)
    write_codes(codes, out)
    data = out.tobytes().decode("ascii")
    return [data[at : at + CODE_BYTES] for at in range(0, len(data), CODE_BYTES)]


def read(texts: Sequence[str | bytes]) -> Words:
    """The code of each text, int64[n]: MISTYPED where the check character or the length is wrong, else NOT_A_CODE."""
    text, offsets = joined(texts)
    out = np.empty(len(texts), np.int64)
    read_codes(text, offsets, TYPED_CODE_BYTES_MAX, np.empty(SYMBOLS + 2, np.int64), out)
    return out


def near(typed: str | bytes) -> Words:
    """Codes one mistake away from what was typed whose check character fits, whoever may have them; int64."""
    text, offsets = joined([typed])
    out = np.empty(NEIGHBOURS_MAX, np.int64)
    symbols, tried = np.empty(SYMBOLS + 2, np.int64), np.empty(SYMBOLS + 2, np.int64)
    found = neighbours(text, 0, int(offsets[1]), TYPED_CODE_BYTES_MAX, symbols, tried, out)
    return out[:found]
