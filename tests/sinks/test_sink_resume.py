"""An output that goes on where a killed run was: what the position covers is there once, nothing else is."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.errors import SinkError
from segue.sinks.files import OutputPosition, open_output, output_path, prepare_folder
from segue.sinks.interface import Item

DICTIONARY = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema([pa.field("id", pa.int64()), pa.field("name", DICTIONARY)], metadata={"policies": "one"})


def line(number: int) -> bytes:
    return b'{"number": %d}\n' % number


def batch(number: int) -> pa.RecordBatch:
    """Rows whose names are another dictionary than those of most other batches."""
    names = [f"n{number % 3}", f"m{number}"]
    column = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0], pa.int32()), pa.array(names))
    return pa.record_batch([pa.array([number, number, -number]), column], schema=SCHEMA)


def item(name: str, number: int) -> Item:
    return batch(number) if name == "decisions" else line(number)


def read(folder: Path, name: str) -> object:
    path = output_path(folder, name)
    if name == "decisions":
        return pa.ipc.open_stream(path).read_all().to_pylist()
    return path.read_bytes()


@pytest.mark.parametrize("name", ["email", "decisions"])
@settings(deadline=None, max_examples=50)
@given(runs=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.booleans()), min_size=1, max_size=5))
def test_it_holds_what_an_undisturbed_run_wrote(name: str, runs: list[tuple[int, int, bool]]) -> None:
    """Each run writes so many items, then some that its last position does not cover, and is killed, or closes."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        number = 0
        position: OutputPosition | None = None
        for kept, lost, closes in runs:
            output = open_output(folder, name, position, replace=True)
            for _ in range(kept):
                output.write([item(name, number)])
                number += 1
            position = output.position()  # type: ignore[assignment]
            for extra in range(lost):
                output.write([item(name, 1_000 + extra)])
                output.flush()
            if closes:
                output.close()
        last = open_output(folder, name, position)
        last.write([item(name, number)])
        last.close()

        undisturbed = folder / "undisturbed"
        undisturbed.mkdir()
        expected = open_output(undisturbed, name)
        for each in range(number + 1):
            expected.write([item(name, each)])
        expected.close()
        assert read(folder, name) == read(undisturbed, name)


def test_it_ends_the_stream_even_when_nothing_follows(tmp_path: Path) -> None:
    first = open_output(tmp_path, "decisions")
    first.write([batch(1)])
    position = first.position()
    open_output(tmp_path, "decisions", position).close()
    whole = output_path(tmp_path, "decisions").read_bytes()
    assert pa.ipc.open_stream(whole).read_all().num_rows == 3
    assert whole.endswith(b"\xff\xff\xff\xff\0\0\0\0")


def test_a_file_that_lost_something_is_refused(tmp_path: Path) -> None:
    first = open_output(tmp_path, "email")
    first.write([line(1)])
    position = first.position()
    output_path(tmp_path, "email").write_bytes(b"")
    with pytest.raises(SinkError, match="has 0 bytes; the run to be continued had written 14"):
        open_output(tmp_path, "email", position)


def test_a_file_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="No such file"):
        open_output(tmp_path, "email", OutputPosition(0))


def other(number: int) -> pa.RecordBatch:
    """A batch of other policies."""
    return batch(number).replace_schema_metadata({"policies": "two"})


def test_a_log_of_other_policies_goes_on_in_a_file_of_its_own(tmp_path: Path) -> None:
    first = open_output(tmp_path, "decisions")
    first.write([batch(1)])
    begun = first.position()
    second = open_output(tmp_path, "decisions", begun)
    second.write([other(2)])
    position = second.position()
    assert position == OutputPosition(position.size, 2)
    second.write([other(3)])  # and is killed
    third = open_output(tmp_path, "decisions", position)
    third.write([other(4)])
    third.close()
    path = output_path(tmp_path, "decisions")
    assert pa.ipc.open_stream(path).read_all().to_pylist() == batch(1).to_pylist()
    further = pa.ipc.open_stream(path.with_name("decisions-2.arrows")).read_all()
    assert further.to_pylist() == [*other(2).to_pylist(), *other(4).to_pylist()]


def test_a_further_file_that_is_in_no_checkpoint_goes(tmp_path: Path) -> None:
    first = open_output(tmp_path, "decisions")
    first.write([batch(1)])
    begun = first.position()
    second = open_output(tmp_path, "decisions", begun)
    second.write([other(2)])
    second.flush()
    assert (tmp_path / "decisions-2.arrows").exists()
    third = open_output(tmp_path, "decisions", begun)
    third.write([batch(2)])
    third.close()
    assert not (tmp_path / "decisions-2.arrows").exists()
    assert pa.ipc.open_stream(output_path(tmp_path, "decisions")).read_all().num_rows == 6


def test_a_further_file_is_an_output_that_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "decisions-2.arrows").touch()
    with pytest.raises(SinkError, match="exist already"):
        prepare_folder(tmp_path, ["decisions"])
    prepare_folder(tmp_path, ["decisions"], overwrite=True)
    assert not list(tmp_path.iterdir())
