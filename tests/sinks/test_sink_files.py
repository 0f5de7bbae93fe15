"""The folder of outputs: what was written is there, and what could not be is an error with a hint."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.errors import SinkError
from segue.sinks.files import (
    BatchesOutput,
    LinesOutput,
    open_output,
    output_path,
    prepare_folder,
    read_changes,
    read_decisions,
    read_joins,
)
from segue.sinks.interface import Sink

NAMES = ("email", "sms", "dead_letters", "late", "decisions")


def batch(first: int, rows: int) -> pa.RecordBatch:
    return pa.record_batch(
        {"decision": [f"d{i}" for i in range(first, first + rows)], "slot": list(range(first, first + rows))}
    )


def logged(path: Path) -> list[int]:
    return [slot for part in read_decisions(path) for slot in part.column("slot").to_pylist()]


def refused(act: Callable[[], object]) -> str:
    with pytest.raises(SinkError) as caught:
        act()
    assert caught.value.hint
    return str(caught.value)


# --- what is written ---


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.booleans(), st.booleans()), max_size=20))
def test_lines_in_order_each_with_its_newline(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, bool, bool]]
) -> None:
    path = tmp_path_factory.mktemp("out") / "email.jsonl"
    output = LinesOutput("email", path)
    expected = b""
    for i, (size, newline, flush) in enumerate(steps):
        line = b"%d" % i + b"x" * size
        output.write([line + b"\n" if newline else line, b""])
        expected += line + b"\n"
        if flush:
            output.flush()
            assert path.read_bytes() == expected
    output.close()
    output.close()
    assert path.read_bytes() == expected


def test_lines_are_written_in_large_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = os.write

    def counted(fd: int, data: memoryview) -> int:
        sizes.append(len(data))
        return real(fd, data)

    monkeypatch.setattr(os, "write", counted)
    output = LinesOutput("email", tmp_path / "email.jsonl")
    for _ in range(30):
        output.write([b"x" * 99_999] * 3)
    output.close()
    assert len(sizes) == 9
    assert sum(sizes) == 9_000_000


def test_a_write_that_is_cut_short_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:7]))
    output = LinesOutput("email", tmp_path / "email.jsonl")
    output.write([b"a line of some length", b"another"])
    output.close()
    assert (tmp_path / "email.jsonl").read_bytes() == b"a line of some length\nanother\n"


def test_the_decision_log_is_an_arrow_stream(tmp_path: Path) -> None:
    output = open_output(tmp_path, "decisions")
    assert output.name == "decisions"
    for first in range(0, 200_000, 4_000):
        output.write([batch(first, 1_000), batch(first + 1_000, 3_000)])
    output.close()
    with pa.OSFile(str(tmp_path / "decisions.arrows")) as file, pa.ipc.open_stream(file) as reader:
        sizes = [part.num_rows for part in reader]
    assert logged(tmp_path / "decisions.arrows") == list(range(200_000))
    assert min(sizes[:-1]) >= 8_192
    output = open_output(tmp_path, "joins")
    output.write([batch(0, 150_000)])  # as it comes, but in parts
    output.close()
    with pa.OSFile(str(tmp_path / "joins.arrows")) as file, pa.ipc.open_stream(file) as reader:
        assert [part.num_rows for part in reader] == [65_536, 65_536, 18_928]
    assert (tmp_path / "decisions.arrows").stat().st_size < 3_000_000


def test_a_torn_decision_log_has_all_it_was_given_before(tmp_path: Path) -> None:
    path = tmp_path / "decisions.arrows"
    output = open_output(tmp_path, "decisions")
    output.flush()  # nothing yet
    output.write([batch(0, 100)])
    output.flush()
    assert logged(path) == list(range(100))  # readable while it grows
    flushed = path.stat().st_size
    output.write([batch(100, 100)])
    output.close()
    whole = path.read_bytes()
    for cut in range(flushed, len(whole) + 1, 37):
        path.write_bytes(whole[:cut])
        assert logged(path) in (list(range(100)), list(range(200)))
    path.write_bytes(whole[: flushed - 1])
    assert logged(path) == []


def test_logs_without_decisions(tmp_path: Path) -> None:
    open_output(tmp_path, "decisions").close()
    assert logged(tmp_path / "decisions.arrows") == []
    other = BatchesOutput("decisions", tmp_path / "with_schema.arrows")
    other.write([batch(0, 0)])
    other.close()
    with pa.OSFile(str(tmp_path / "with_schema.arrows")) as file, pa.ipc.open_stream(file) as reader:
        assert reader.read_all().num_rows == 0


def test_items_of_the_wrong_kind(tmp_path: Path) -> None:
    assert "holds lines" in refused(lambda: open_output(tmp_path, "email").write([batch(0, 1)]))
    log = open_output(tmp_path, "decisions")
    assert "holds batches" in refused(lambda: log.write([b"{}"]))
    log.write([batch(0, 1)])
    assert "other columns" in refused(lambda: log.write([pa.record_batch({"x": [1]})]))
    log.close()
    assert "was closed" in refused(lambda: log.write([batch(0, 1)]))


# --- the folder ---


def test_a_folder_is_made(tmp_path: Path) -> None:
    folder = prepare_folder(tmp_path / "a" / "b", NAMES)
    assert list(folder.iterdir()) == []


def test_existing_outputs_are_refused_or_replaced(tmp_path: Path) -> None:
    (tmp_path / "sms.jsonl").write_bytes(b"old\n")
    (tmp_path / "decisions.arrows").write_bytes(b"old")
    (tmp_path / "mine.jsonl").write_bytes(b"mine\n")
    text = refused(lambda: prepare_folder(tmp_path, NAMES))
    assert 'sms.jsonl" and 1 more outputs exist already' in text
    assert (tmp_path / "sms.jsonl").read_bytes() == b"old\n"
    prepare_folder(tmp_path, NAMES, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.jsonl"]


def test_an_output_has_one_writer(tmp_path: Path) -> None:
    first = open_output(tmp_path, "email")
    assert "exists already" in refused(lambda: open_output(tmp_path, "email"))
    first.close()


def test_paths_that_are_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert f'"{tmp_path}/file" is not a folder' in refused(lambda: prepare_folder(tmp_path / "file", NAMES))
    assert f'"{tmp_path}/file" is not a folder' in refused(
        lambda: prepare_folder(tmp_path / "file" / "b", NAMES)
    )
    (tmp_path / "sms.jsonl").mkdir()
    assert "is a folder" in refused(lambda: prepare_folder(tmp_path, NAMES, overwrite=True))
    assert "vanished" in refused(lambda: open_output(tmp_path / "gone", "email"))


@pytest.mark.parametrize("name", ["../email", "", "a/b", "E Mail", ".hidden", "x" * 65])
def test_names_that_could_leave_the_folder(tmp_path: Path, name: str) -> None:
    assert "can't be the name" in refused(lambda: open_output(tmp_path, name))


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:  # root may write everywhere: let the system call refuse

        def refuse(self: Path, *args: object, **kwargs: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))

        monkeypatch.setattr(Path, "touch", refuse)
    else:
        tmp_path.chmod(0o500)
    assert "Permission denied" in refused(lambda: prepare_folder(tmp_path, NAMES))


# --- a full disk ---


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("kind", [LinesOutput, BatchesOutput])
@pytest.mark.parametrize("when", ["write", "flush", "close"])
def test_a_full_device(kind: type[LinesOutput | BatchesOutput], when: str) -> None:
    output: Sink = kind("email", "/dev/full", replace=True)
    rows = 70_000 if when == "write" else 10
    item = batch(0, rows) if kind is BatchesOutput else b"x" * (rows * 20)
    act = {"write": lambda: output.write([item]), "flush": output.flush, "close": output.close}[when]
    if when != "write":
        output.write([item])
    text = refused(act)
    assert "No space left" in text
    assert "free some space" in text
    if when != "close":  # what follows a gap is refused too
        assert "No space left" in refused(lambda: output.write([item]))
        assert "No space left" in refused(output.close)
    output.close()  # let go of already


@contextmanager
def files_of_10_kb() -> Iterator[None]:
    """Every file ends at 10,000 bytes, as on a disk that is full from there on: that into which this run's own output
    goes, too, so that no test may end meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_cut_by_a_full_disk_ends_with_a_complete_line(tmp_path: Path) -> None:
    output = LinesOutput("email", tmp_path / "email.jsonl")
    output.write([b"%03d" % i + b"x" * 95 for i in range(90)])
    output.flush()
    output.write([b"%03d" % i + b"x" * 95 for i in range(90, 200)])
    with files_of_10_kb():
        text = refused(output.flush)
        refused(output.close)
    assert "greatest size" in text
    lines = (tmp_path / "email.jsonl").read_bytes().split(b"\n")
    assert lines.pop() == b""
    assert [int(line[:3]) for line in lines] == list(range(101))


def test_a_log_cut_by_a_full_disk_ends_with_a_whole_batch(tmp_path: Path) -> None:
    output = BatchesOutput("decisions", tmp_path / "decisions.arrows")
    output.write([batch(0, 300)])
    output.flush()
    with files_of_10_kb():
        refused(lambda: output.write([batch(300, 60_000)]))
        refused(output.close)
    assert logged(tmp_path / "decisions.arrows") == list(range(300))


@pytest.mark.parametrize("call", ["fsync", "close"])
def test_a_failure_at_the_very_end_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    output = LinesOutput("email", tmp_path / "email.jsonl")
    output.write([b"{}"])
    real = getattr(os, call)

    def fail(fd: int) -> None:
        if call == "close":
            real(fd)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    text = refused(output.close)
    monkeypatch.undo()
    assert "No space left" in text


@pytest.mark.parametrize(("name", "read"), [("changes", read_changes), ("joins", read_joins)])
def test_changes_and_joins_are_tables(
    tmp_path: Path, name: str, read: Callable[[Path], list[dict[str, object]]]
) -> None:
    assert read(tmp_path) == []
    output = open_output(tmp_path, name)
    output.write([batch(0, 2), batch(2, 1)])
    output.close()
    assert output_path(tmp_path, name).suffix == ".arrows"
    assert [row["slot"] for row in read(tmp_path)] == [0, 1, 2]
