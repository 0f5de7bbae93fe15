"""The decision log as Parquet: the same rows and names, whole or not there, and the stream kept where a run goes on."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from segue.errors import SinkError
from segue.sinks.files import BatchesOutput, output_files, prepare_folder, read_decisions
from segue.sinks.parquet import parquet_files, read_log, to_parquet

NAMES = pa.array(["a", "b"])


def batch(policies: str, rows: int) -> pa.RecordBatch:
    columns = {
        "winner": pa.DictionaryArray.from_arrays(
            pa.array([None if i % 3 else i % 2 for i in range(rows)], pa.int32()), NAMES
        ),
        "reasons": pa.array([bytes([i % 17]) for i in range(rows)], pa.binary()),
        "scores": pa.array([[i / 3, -0.0] if i % 2 else None for i in range(rows)], pa.list_(pa.float64())),
        "time": pa.array(range(rows), pa.timestamp("ms", tz="UTC")),
    }
    made = pa.RecordBatch.from_pydict(columns)
    return made.replace_schema_metadata({"segue.offers": f"of {policies}"})


def write_log(folder: Path, sizes: list[list[int]]) -> None:
    """A stream for each list, of batches of so many rows."""
    position = None
    for number, rows in enumerate(sizes):
        output = BatchesOutput("decisions", folder / "decisions.arrows", position=position)
        output.write([batch(str(number), each) for each in rows])
        position = output.position()
        output.close()


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("sizes", [[[1_000]], [[70_000, 70_000]], [[3, 4], [5]]])
def test_rows_and_names_are_those_of_the_streams(tmp_path: Path, sizes: list[list[int]], keeps: bool) -> None:
    write_log(tmp_path, sizes)
    streams = output_files(tmp_path, "decisions")
    expected = [pa.Table.from_batches(read_decisions(path)) for path in streams]
    assert len(expected) == len(sizes)
    to_parquet(tmp_path, keeps)
    found = [pa.Table.from_batches(read_log(path)) for path in parquet_files(tmp_path)]
    for one, other in zip(found, expected, strict=True):
        assert one.schema.metadata == other.schema.metadata
        assert one.column_names == other.column_names
        assert one.schema.field("winner").type == other.schema.field("winner").type
        assert one.to_pylist() == other.to_pylist()
    assert output_files(tmp_path, "decisions") == (streams if keeps else [])
    assert not list(tmp_path.glob("*.unfinished"))
    to_parquet(tmp_path, keeps)  # a later run that goes on writes it anew
    assert [pa.Table.from_batches(read_log(path)) for path in parquet_files(tmp_path)] == found


def test_what_fails_leaves_the_stream(tmp_path: Path) -> None:
    write_log(tmp_path, [[10]])
    (tmp_path / "decisions.parquet.unfinished").mkdir()
    with pytest.raises(OSError, match="unfinished"):
        to_parquet(tmp_path, False)
    assert parquet_files(tmp_path) == []
    assert sum(each.num_rows for each in read_decisions(tmp_path / "decisions.arrows")) == 10


def test_an_earlier_log_is_not_overwritten(tmp_path: Path) -> None:
    write_log(tmp_path, [[10], [3]])
    to_parquet(tmp_path, False)
    with pytest.raises(SinkError, match=r"decisions\.parquet.* and 1 more outputs exist already"):
        prepare_folder(tmp_path, ["decisions"])
    assert len(parquet_files(tmp_path)) == 2
    prepare_folder(tmp_path, ["decisions"], overwrite=True)
    assert parquet_files(tmp_path) == []
