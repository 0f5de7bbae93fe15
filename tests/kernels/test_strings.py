"""Columns of strings and ids as Arrow and hexadecimal have them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segue_kernels.memory import STRIDE
from segue_kernels.strings import gather_strings, write_hex
from tests.kernels.drivers import quick

WORD = st.integers(-(2**63), 2**63 - 1)


@quick(150)
@given(st.lists(st.binary(max_size=255), max_size=20), st.binary(max_size=40), st.data())
def test_strings_are_gathered_in_their_order(parts: list[bytes], before: bytes, data: st.DataObject) -> None:
    whole = before + b"".join(parts) + bytes(STRIDE)
    ends = np.cumsum([len(before), *map(len, parts)])
    order = data.draw(st.permutations(range(len(parts))))
    start = np.array([ends[n] for n in order], np.int64)
    length = np.array([len(parts[n]) for n in order], np.int64)
    offsets = np.zeros(len(parts) + 1, np.int32)
    offsets[0] = data.draw(st.integers(0, 9))
    at = int(offsets[0])
    data_out = np.zeros(at + sum(map(len, parts)) + STRIDE, np.uint8)
    gather_strings(np.frombuffer(whole, np.uint8), start, length, offsets, data_out)
    assert offsets.tolist() == np.cumsum([at, *length.tolist()]).tolist()
    assert data_out[at : offsets[-1]].tobytes() == b"".join(parts[n] for n in order)
    assert not data_out[:at].any()


@quick(100)
@given(st.lists(st.tuples(WORD, WORD), max_size=20))
def test_ids_are_lower_case_hexadecimal(ids: list[tuple[int, int]]) -> None:
    high = np.array([high for high, _ in ids], np.int64)
    low = np.array([low for _, low in ids], np.int64)
    digits = np.zeros(32 * len(ids), np.uint8)
    write_hex(high, low, digits)
    expected = "".join(f"{((h % 2**64) << 64) | (w % 2**64):032x}" for h, w in ids)
    assert digits.tobytes().decode() == expected
