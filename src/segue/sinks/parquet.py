"""The decision log of a run that has ended, as Parquet.

Law: `decisions.parquet` (and `decisions-2.parquet` …, as of the streams) has the rows, columns and metadata of the
stream it is made of, and is there whole or not at all. While a run goes on, and after a crash or a stop, the log is the
stream: from that the run goes on. So a run with a state folder keeps the stream beside it: a later run goes on in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from segue.outputs import DECISIONS
from segue.sinks.files import further_files, output_files, output_path, read_decisions

SUFFIX = ".parquet"


def parquet_files(folder: str | os.PathLike[str]) -> list[Path]:
    """The files of the log that are there, in the order of their streams."""
    first = output_path(folder, DECISIONS).with_suffix(SUFFIX)
    others = sorted(further_files(first), key=lambda path: int(path.stem.rpartition("-")[2]))
    return [path for path in (first, *others) if path.exists()]


def to_parquet(folder: str | os.PathLike[str], keep_streams: bool) -> None:
    """Write every stream of the log as Parquet, batch by batch; the streams go, unless they are kept. Raises OSError:
    the streams are as they were."""
    for stream in output_files(folder, DECISIONS):
        target = stream.with_suffix(SUFFIX)
        unfinished = target.with_name(target.name + ".unfinished")
        with (
            pa.OSFile(str(stream)) as file,
            pa.ipc.open_stream(file) as reader,
            open(unfinished, "wb") as written,
        ):
            with pq.ParquetWriter(written, reader.schema, compression="zstd") as writer:
                for batch in reader:
                    writer.write_batch(batch)
            written.flush()
            os.fsync(written.fileno())
        os.replace(unfinished, target)
        if not keep_streams:
            stream.unlink()


def read_log(path: Path) -> Iterator[pa.RecordBatch]:
    """The batches of a file of the log, stream or Parquet."""
    if path.suffix != SUFFIX:
        yield from read_decisions(path)
        return
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches()
