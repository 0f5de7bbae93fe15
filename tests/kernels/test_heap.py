"""Where a record's strings stand, against the strings themselves."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segue_kernels import record
from segue_kernels.heap import put_string, string_length, string_start, strings_length
from segue_kernels.jit import Array, kernel
from tests.kernels.drivers import quick


@kernel
def _found(heaps: Array, string: int) -> tuple[int, int, int]:
    return string_start(heaps[0], string), string_length(heaps[0], string), strings_length(heaps[0])


@kernel
def _put(text: Array, heaps: Array, string: int, data: Array, to: int) -> int:
    return put_string(text, heaps[0], string, data, to)


@quick(150)
@given(
    st.binary(max_size=40),
    st.lists(st.binary(max_size=255), min_size=record.STRINGS, max_size=record.STRINGS),
    st.integers(0, 5),
)
def test_strings_follow_one_another(before: bytes, strings: list[bytes], to: int) -> None:
    text = np.frombuffer(before + b"".join(strings), np.uint8)
    heaps = np.array([len(before) << 32 | int.from_bytes(bytes(map(len, strings)), "little")])
    for number, string in enumerate(strings):
        start, length, of_all = _found(heaps, number)
        assert text[start : start + length].tobytes() == string
        assert of_all == sum(map(len, strings))
        data = np.full(to + len(string) + 3, 7, np.uint8)
        assert _put(text, heaps, number, data, to) == to + len(string)
        assert data.tobytes() == b"\7" * to + string + b"\7" * 3
