"""Files, folders and pipes: what is refused at opening, what is read, what breaks, and resuming anywhere."""

from __future__ import annotations

import gzip
import os
import pickle
import random
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from segue.errors import SourceError
from segue.limits import PARTITIONS_MAX
from segue.sources.files import FilePartition, FilePosition, FileSource, file_source
from segue.sources.formats import Compression, Form, Format, detect
from segue.sources.interface import BrokenChunk, Chunk, LineChunk, QuietChunk, TableChunk

LINES = [b'{"id":"%d","text":"%s"}' % (i, b"x" * (i % 50)) for i in range(500)]
TEXT = b"\n".join(LINES) + b"\n"
NOISE = random.Random(7)
NOISY_TEXT = b"".join(b'{"id":"%d"}\n' % NOISE.getrandbits(200) for _ in range(20_000))
TABLE = pa.table({"id": [str(i) for i in range(500)], "price": list(range(500))})


def write(path: Path, data: bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path)


def stream_bytes(table: pa.Table, rows: int = 100) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)
    return bytes(sink.getvalue())


def file_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=100)
    return bytes(sink.getvalue())


def parquet_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=120)
    return bytes(sink.getvalue())


WRITERS: dict[str, Callable[[], bytes]] = {
    "a.jsonl": lambda: TEXT,
    "a.json": lambda: TEXT[:-1],
    "a.jsonl.gz": lambda: gzip.compress(TEXT[:5_000]) + gzip.compress(TEXT[5_000:]) + b"\0" * 100,
    "a.txt.zst": lambda: zstandard.compress(TEXT[:5_000]) + zstandard.compress(TEXT[5_000:]),
    "a.parquet": lambda: parquet_bytes(TABLE),
    "a.arrow": lambda: file_bytes(TABLE),
    "a.arrows": lambda: stream_bytes(TABLE),
}
IS_TABLE = {"a.parquet", "a.arrow", "a.arrows"}


def chunks(partition: FilePartition, rows_max: int = 64, bytes_max: int = 1 << 20) -> list[Chunk]:
    found: list[Chunk] = []
    while (chunk := partition.read(rows_max, bytes_max)) is not None:
        if not isinstance(chunk, QuietChunk):
            found.append(chunk)
    partition.close()
    return found


def read(*inputs: str, rows_max: int = 64) -> list[Chunk]:
    source = file_source(inputs)
    return [chunk for name in source.partitions for chunk in chunks(source.open(name), rows_max)]


def text_of(found: list[Chunk]) -> bytes:
    return b"".join(chunk.payload.tobytes() for chunk in found if isinstance(chunk, LineChunk))


def rows_of(found: list[Chunk]) -> list[str]:
    return [v for c in found if isinstance(c, TableChunk) for v in c.batch.column("id").to_pylist()]


def broken_of(found: list[Chunk]) -> list[BrokenChunk]:
    return [chunk for chunk in found if isinstance(chunk, BrokenChunk)]


def of_file(found: list[Chunk], name: str) -> list[Chunk]:
    return [c for c in found if not isinstance(c, QuietChunk) and c.file.endswith(name)]


def refused(*inputs: str, **options: bool) -> str:
    with pytest.raises(SourceError) as caught:
        file_source(inputs, **options)
    assert caught.value.hint
    return str(caught.value)


# --- what is read ---


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("disguise", [False, True])
def test_each_format_by_its_bytes_or_name(tmp_path: Path, name: str, disguise: bool) -> None:
    path = write(tmp_path / ("part-00000" if disguise else name), WRITERS[name]())
    found = read(path)
    if name in IS_TABLE:
        assert rows_of(found) == [str(i) for i in range(500)]
        sizes = [c.batch.num_rows for c in found if isinstance(c, TableChunk)]
        assert [c.first_row for c in found if isinstance(c, TableChunk)] == [
            1 + 64 * i for i in range(len(sizes))
        ]
    else:
        assert text_of(found).rstrip() == TEXT.rstrip()
        sizes = [c.rows_hint for c in found if isinstance(c, LineChunk)]
    assert sizes == [64] * 7 + [52]
    assert not broken_of(found)


@pytest.mark.parametrize("name", WRITERS)
def test_an_interrupted_reading_goes_on_at_any_chunk(tmp_path: Path, name: str) -> None:
    write(tmp_path / "in" / name, WRITERS[name]())
    write(tmp_path / "in" / "b.jsonl", b'{"id":"last"}\n')
    source = file_source([tmp_path / "in"])
    whole = chunks(source.open(source.partitions[0]), 90)
    for stop in range(len(whole) + 1):
        partition = source.open(source.partitions[0])
        for _ in range(stop):
            partition.read(90, 1 << 20)
        stored = msgspec.json.decode(msgspec.json.encode(partition.position()), type=FilePosition)
        partition.close()
        rest = chunks(source.open(source.partitions[0], stored), 90)
        assert [str(chunk) for chunk in rest] == [str(chunk) for chunk in whole[stop:]]


def test_a_folder_is_one_partition_in_name_order(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a/z.jsonl", "a/b/c.jsonl", "c.json", ".hidden.jsonl", ".git/x.json"):
        write(tmp_path / name, b'{"f":"%s"}\n' % name.encode())
    write(tmp_path / "README.md", b"# events")
    write(tmp_path / "_SUCCESS", b"")
    source = file_source([str(tmp_path) + "/"])
    assert source.partitions == (str(tmp_path),)
    assert source.skipped == (str(tmp_path / "README.md"), str(tmp_path / "_SUCCESS"))
    found = chunks(source.open(str(tmp_path)))
    order = ["a/b/c.jsonl", "a/z.jsonl", "b.jsonl", "c.json"]
    assert [chunk.file for chunk in found if isinstance(chunk, LineChunk)] == [
        str(tmp_path / n) for n in order
    ]
    interleaved = file_source([tmp_path], interleave=True)
    assert interleaved.partitions == tuple(str(tmp_path / n) for n in order)


def test_a_folder_that_links_to_itself_ends(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", b"{}\n")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert text_of(read(str(tmp_path))) == b"{}\n"


def test_a_source_can_be_sent_to_workers(tmp_path: Path) -> None:
    source = file_source([write(tmp_path / "a.jsonl", TEXT)])
    copy = pickle.loads(pickle.dumps(source))
    assert isinstance(copy, FileSource)
    assert copy == source


def test_a_batch_ends_at_its_bytes(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.parquet"):
        source = file_source([write(tmp_path / name, WRITERS[name]())])
        found = chunks(source.open(source.partitions[0]), 1 << 16, 1_000)
        assert len(found) > 5
        for chunk in found:
            assert isinstance(chunk, LineChunk | TableChunk)
            size = chunk.payload.nbytes if isinstance(chunk, LineChunk) else chunk.batch.nbytes
            assert size <= 1_100


def test_empty_files_are_empty(tmp_path: Path) -> None:
    assert read(write(tmp_path / "a.jsonl", b"")) == []
    assert read(write(tmp_path / "b.jsonl.gz", gzip.compress(b"", mtime=0))) == []
    assert read(write(tmp_path / "c.arrows", stream_bytes(TABLE.slice(0, 0)))) == []


# --- what is refused before anything runs ---


def test_missing_paths(tmp_path: Path) -> None:
    write(tmp_path / "events.jsonl", TEXT)
    assert 'did you mean "events.jsonl"?' in refused(str(tmp_path / "event.jsonl"))
    assert "does not exist either" in refused(str(tmp_path / "no" / "event.jsonl"))
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "gone")
    assert "link to a file that does not exist" in refused(str(tmp_path / "link.jsonl"))
    assert "link to a file that does not exist" in refused(str(tmp_path))
    assert "no input" in refused()


def test_folders_with_nothing_to_read(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "is empty" in refused(str(tmp_path / "empty"))
    write(tmp_path / "notes" / "README.md", b"# x")
    assert "README.md" in refused(str(tmp_path / "notes"))


@pytest.mark.parametrize(
    ("name", "head", "what"),
    [
        ("a.zip", b"PK\x03\x04", "a zip archive"),
        ("a.jsonl.xz", b"\xfd7zXZ\x00", "xz"),
        ("a.jsonl", "{}".encode("utf-16"), "UTF-16"),
        ("a.csv", b"id,time\n", "no format that is read"),
        ("a.parquet.gz", gzip.compress(b"PAR1", mtime=0), "no format that is read"),
        ("a.tar.gz", gzip.compress(b"name\0\0", mtime=0), "no format that is read"),
    ],
)
def test_unknown_formats(tmp_path: Path, name: str, head: bytes, what: str) -> None:
    text = refused(write(tmp_path / name, head))
    assert what in text
    assert "JSON Lines" in text


def test_inputs_given_twice(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", TEXT)
    assert "given twice" in refused(path, str(tmp_path / "x" / ".." / "a.jsonl"))
    assert "given twice" in refused(path, str(tmp_path))
    (tmp_path / "b.jsonl").symlink_to(path)
    assert "given twice" in refused(path, str(tmp_path / "b.jsonl"))


def test_too_many_side_by_side(tmp_path: Path) -> None:
    for i in range(PARTITIONS_MAX + 1):
        write(tmp_path / f"{i:04}.jsonl", b"")
    assert len(file_source([tmp_path]).partitions) == 1
    assert f"{PARTITIONS_MAX} are possible" in refused(str(tmp_path), interleave=True)


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.jsonl", TEXT)
    if os.geteuid() == 0:  # root may read everything: let the system call refuse
        import builtins

        opened = builtins.open

        def refuse(file: object, *args: object, **kwargs: object) -> object:
            if file == path:
                raise PermissionError(13, "Permission denied", path)
            return opened(file, *args, **kwargs)  # type: ignore[call-overload]

        monkeypatch.setattr(builtins, "open", refuse)
    else:
        os.chmod(path, 0)
    assert "no permission" in refused(path)
    assert "chmod u+r" in refused(str(tmp_path))


def test_a_folder_or_nothing_as_standard_input(tmp_path: Path) -> None:
    kept = os.dup(0)
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        os.dup2(folder, 0)
        assert "standard input is a folder" in refused("-")
        os.close(0)
        assert "standard input is closed" in refused("-")
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(folder)


def test_an_unknown_partition(tmp_path: Path) -> None:
    source = file_source([write(tmp_path / "a.jsonl", TEXT)])
    with pytest.raises(SourceError, match="did you mean"):
        source.open(str(tmp_path / "b.jsonl"))


# --- what breaks while it is read ---


@pytest.mark.parametrize("wrap", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.9, 0.999])
def test_cut_off_compression(tmp_path: Path, wrap: Callable[[bytes], bytes], share: float) -> None:
    data = wrap(NOISY_TEXT)
    suffix = ".gz" if wrap is gzip.compress else ".zst"
    write(tmp_path / f"a.jsonl{suffix}", data[: int(len(data) * share)])
    write(tmp_path / "b.jsonl", b'{"id":"next"}\n')
    found = read(str(tmp_path), rows_max=1_000)
    got = text_of(found)
    assert got.endswith(b'{"id":"next"}\n')
    got = got[: -len(b'{"id":"next"}\n')]
    if share == 0.0:
        assert got == b""
        return
    (broken,) = broken_of(found)
    assert "cut off" in broken.reason
    assert broken.offset == len(got)
    assert broken.row == got.count(b"\n") + 1
    assert NOISY_TEXT.startswith(got + broken.raw)
    assert len(got) >= (share - 0.45) * len(NOISY_TEXT)  # a zstd block is all or nothing


def test_damaged_compression(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(NOISY_TEXT))
    checksum = bytes(data[:-8]) + b"\0" * 8
    write(tmp_path / "a.jsonl.gz", checksum)
    write(tmp_path / "b.jsonl.gz", gzip.compress(TEXT) + b"and more")
    frame = bytearray(zstandard.compress(NOISY_TEXT))
    frame[len(frame) // 2 : len(frame) // 2 + 8] = b"\xff" * 8
    write(tmp_path / "c.jsonl.zst", bytes(frame))
    write(tmp_path / "d.jsonl.gz", b"not gzip at all")
    found = read(str(tmp_path), rows_max=1_000)
    reasons = {Path(b.file).name: b.reason for b in broken_of(found)}
    assert "gzip is damaged" in reasons["a.jsonl.gz"]
    assert "not gzip" in reasons["b.jsonl.gz"]
    assert "zstd" in reasons["c.jsonl.zst"]
    assert "gzip is damaged" in reasons["d.jsonl.gz"]
    assert text_of(of_file(found, "a.jsonl.gz")) == NOISY_TEXT
    assert text_of(of_file(found, "b.jsonl.gz")) == TEXT


@pytest.mark.parametrize("name", sorted(IS_TABLE))
def test_half_a_table(tmp_path: Path, name: str) -> None:
    data = WRITERS[name]()
    write(tmp_path / name, data[: len(data) // 2])
    write(tmp_path / "b.jsonl", TEXT)
    found = read(str(tmp_path))
    (broken,) = broken_of(found)
    assert broken.file.endswith(name)
    assert "can't be read" in broken.reason
    assert text_of(found) == TEXT
    if name == "a.arrows":
        assert broken.row == len(rows_of(found)) + 1 == 201
    else:
        assert not rows_of(found)


def test_tables_that_are_none(tmp_path: Path) -> None:
    for name in ("a.parquet", "a.arrow", "a.arrows"):
        write(tmp_path / name, b"PAR0 what is this")
    write(tmp_path / "b.parquet", b"")
    assert len(broken_of(read(str(tmp_path)))) == 4


def test_arrow_with_offsets_out_of_bounds_is_not_looked_into(tmp_path: Path) -> None:
    data = bytearray(stream_bytes(pa.table({"id": ["abc", "def"]})))
    at = bytes(data).rfind(b"\x03\0\0\0\x06\0\0\0")
    data[at : at + 4] = b"\xff\xff\xff\x7f"
    (broken,) = read(write(tmp_path / "a.arrows", bytes(data)))
    assert isinstance(broken, BrokenChunk)


def rewrite(path: str, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.truncate(0)
        file.write(data)


def grow(path: str) -> None:
    with open(path, "ab") as file:
        file.write(b"{}\n")


CHANGES: dict[str, tuple[Callable[[str], None], str]] = {
    "vanishes": (os.unlink, "vanished while"),
    "shrinks": (lambda path: os.truncate(path, 100), "was cut while"),
    "grows": (grow, "grew while"),
    "is rewritten": (lambda path: rewrite(path, TEXT.replace(b"x", b"y")), "changed while"),
}


@pytest.mark.parametrize("how", CHANGES)
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.arrows"])
def test_a_file_that_changes_while_it_is_read(tmp_path: Path, how: str, name: str) -> None:
    large = gzip.compress(NOISY_TEXT)  # too large to be read before it changes
    path = write(tmp_path / "in" / name, large if name.endswith(".gz") else WRITERS[name]())
    write(tmp_path / "in" / "b.jsonl", b'{"id":"next"}\n')
    os.utime(path, (1, 1))
    partition = file_source([tmp_path / "in"]).open(str(tmp_path / "in"))
    first = partition.read(10, 1 << 20)
    assert first is not None
    CHANGES[how][0](path)
    found = chunks(partition)
    assert len(broken_of(found)) == 1
    assert broken_of(found)[0].file == path
    if name == "a.jsonl":
        assert CHANGES[how][1] in broken_of(found)[0].reason
    assert text_of(found).endswith(b'{"id":"next"}\n')


def test_a_file_that_vanished_before_its_turn(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl", "c.parquet"):
        write(tmp_path / name, WRITERS[name.replace("b", "a").replace("c", "a")]())
    partition = file_source([tmp_path]).open(str(tmp_path))
    (tmp_path / "b.jsonl").unlink()
    (tmp_path / "c.parquet").unlink()
    found = chunks(partition)
    assert [b.reason for b in broken_of(found)] == ["vanished before it was read"] * 2
    assert text_of(found) == TEXT


# --- resuming on other files ---


def test_resuming_on_other_files_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "b.jsonl", TEXT)
    write(tmp_path / "c.jsonl.gz", gzip.compress(TEXT))
    source = file_source([tmp_path])
    partition = source.open(str(tmp_path))
    partition.read(10, 1 << 20)
    position = partition.position()
    while partition.position().index == 0 or not partition.position().line:
        partition.read(100, 1 << 20)
    later = partition.position()
    partition.close()

    with open(tmp_path / "b.jsonl", "ab") as file:
        file.write(b'{"id":"more"}\n')
    grown = chunks(file_source([tmp_path]).open(str(tmp_path), position))
    assert b'{"id":"more"}\n' in text_of(grown)  # plain text may grow between runs
    os.truncate(tmp_path / "b.jsonl", 50)
    with pytest.raises(SourceError, match="now it has 50"):
        file_source([tmp_path]).open(str(tmp_path), position)
    write(tmp_path / "c.jsonl.gz", gzip.compress(TEXT + TEXT))
    with pytest.raises(SourceError, match="now it has"):
        file_source([tmp_path]).open(str(tmp_path), later)
    write(tmp_path / "a.jsonl", TEXT)
    with pytest.raises(SourceError, match="other files than when it was read"):
        file_source([tmp_path]).open(str(tmp_path), position)


# --- pipes ---


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.txt.zst", "a.arrows"])
def test_a_named_pipe(tmp_path: Path, name: str) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    assert stat.S_ISFIFO(path.stat().st_mode)
    writer = threading.Thread(target=path.write_bytes, args=(WRITERS[name](),))
    writer.start()
    found = read(str(path))
    writer.join()
    if name == "a.arrows":
        assert rows_of(found) == [str(i) for i in range(500)]
    else:
        assert text_of(found) == TEXT
    assert not broken_of(found)


def test_a_slow_pipe_is_quiet_and_its_lines_do_not_wait(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    source = file_source([path])
    keeper = os.open(path, os.O_RDWR)
    partition = source.open(str(path))
    assert isinstance(partition.read(10, 1 << 20), QuietChunk)
    os.write(keeper, b'{"id":"1"}\n{"id":"2"')
    chunk = partition.read(10, 1 << 20)
    assert isinstance(chunk, LineChunk)
    assert chunk.payload.tobytes() == b'{"id":"1"}\n'
    assert isinstance(partition.read(10, 1 << 20), QuietChunk)
    os.write(keeper, b"}\n")
    os.close(keeper)
    (rest,) = chunks(partition)
    assert isinstance(rest, LineChunk)
    assert rest.payload.tobytes() == b'{"id":"2"}\n'
    with pytest.raises(SourceError, match="what it gave is gone"):
        source.open(str(path), FilePosition(0, str(path), 0, 11, 1))


def test_parquet_through_a_pipe_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(parquet_bytes(TABLE.slice(0, 5)),))
    writer.start()
    partition = file_source([path]).open(str(path))
    with pytest.raises(SourceError, match="save it to a file"):
        chunks(partition)
    partition.close()
    writer.join()


def test_standard_input(tmp_path: Path) -> None:
    code = (
        "from segue.sources.files import file_source\n"
        "p = file_source(['-']).open('-'); n = 0\n"
        "while (c := p.read(100, 1 << 20)) is not None: n += getattr(c, 'rows_hint', 0)\n"
        "print(n)"
    )
    for data in (TEXT, gzip.compress(TEXT)):
        done = subprocess.run(
            [sys.executable, "-c", code],
            input=data,
            capture_output=True,
            check=True,
            env={"PYTHONPATH": ":".join(sys.path), "HOME": os.environ.get("HOME", "/tmp")},
        )
        assert done.stdout.strip() == b"500"


# --- formats ---


@pytest.mark.parametrize(
    ("head", "name", "format"),
    [
        (b'  {"a":1}', "x", Format(Form.LINES)),
        (b'\xef\xbb\xbf{"a":1}', "x", Format(Form.LINES)),
        (b"{}", "x.jsonl.gz", Format(Form.LINES)),
        (b"", "x.NDJSON", Format(Form.LINES)),
        (b"", "x.jsonl.zstd", Format(Form.LINES, Compression.ZSTD)),
        (b"PAR1", "x.jsonl", Format(Form.PARQUET)),
        (b"", "x.feather", Format(Form.ARROW_FILE)),
        (b"\x50\x2a\x4d\x18\x00\x00\x00\x00", "x.jsonl.zst", Format(Form.LINES, Compression.ZSTD)),
        (b"", "x.parquet.gz", None),
        (b"", "x", None),
        (b"id,name", "x.csv", None),
    ],
)
def test_detect(head: bytes, name: str, format: Format | None) -> None:
    assert detect(head, name) == format
