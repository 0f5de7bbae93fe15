"""The chunks of a data set are its lines, wherever they are cut and wherever reading begins again."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.datasets.source import DatasetPartition, DatasetPosition, dataset_source
from segue.errors import SettingsError

_BLOCKS = st.lists(
    st.lists(st.binary(max_size=8).map(lambda b: b.replace(b"\n", b" ")), min_size=1, max_size=5), max_size=5
)


@settings(max_examples=100, deadline=None)
@given(blocks=_BLOCKS, rows=st.integers(1, 6), size=st.integers(1, 40), stop=st.integers(0, 8))
def test_chunks_are_the_lines(blocks, rows, size, stop):
    data = [b"".join(line + b"\n" for line in block) for block in blocks]
    whole = b"".join(data)
    partition = DatasetPartition("d", iter(data), DatasetPosition())
    got = b""
    number = 1
    while (chunk := partition.read(rows, size)) is not None:
        assert chunk.offset == len(got)
        assert chunk.first_line == number
        assert 1 <= chunk.rows_hint <= rows
        assert len(chunk.payload) <= size or chunk.rows_hint == 1
        got += chunk.payload.tobytes()
        number += chunk.rows_hint
        if stop == 0:
            partition = DatasetPartition("d", iter(data), partition.position())
        stop -= 1
    assert got == whole


def test_unknown_names_are_refused():
    with pytest.raises(SettingsError, match="completejourney"):
        dataset_source("completejourny")
