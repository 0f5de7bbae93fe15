"""Columnar inputs (Parquet, Arrow IPC) as batches of a wanted size."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from segue.limits import BATCH_ROWS_DEFAULT
from segue.sources.formats import Form
from segue.sources.interface import BrokenChunk, TableChunk
from segue.sources.streams import BlockingFile, PipeBytes, StreamBroken, change


class TableReader:
    """Chunks of a columnar file: each row that can be read is delivered once, in order.

    A TableChunk has exactly `rows_max` rows unless the file ends or breaks, or `bytes_max` is met (a larger
    row travels alone). What can't be read becomes one BrokenChunk, and the file ends there. Rows of an Arrow
    file are checked in full before anybody looks inside: its offsets are not to be trusted.

    row: rows before the next chunk; given at the start it says how many to pass over.
    """

    def __init__(self, input: str | PipeBytes, form: Form, file: str, row: int = 0) -> None:
        self._input = input
        self._form = form
        self._file = file
        self.row = row
        self._batches = self._open()
        if isinstance(input, str):
            self._opened = os.stat(input)
        self._ready: pa.RecordBatch | None = None
        self._ended = False
        self._broken = ""

    def _open(self) -> Iterator[pa.RecordBatch]:
        """Batches from row `row` on, opened when the first is asked for."""
        skip = self.row
        for batch in self._stored(skip):
            if isinstance(batch, int):  # rows the file could pass over without reading them
                skip -= batch
            elif skip >= batch.num_rows:
                skip -= batch.num_rows
            else:
                yield batch.slice(skip) if skip else batch
                skip = 0

    def _stored(self, skip: int) -> Iterator[pa.RecordBatch | int]:
        if self._form is Form.PARQUET:
            with pq.ParquetFile(self._input) as parquet:
                first = 0
                while first < parquet.num_row_groups:
                    rows = parquet.metadata.row_group(first).num_rows
                    if rows > skip:
                        break
                    skip -= rows
                    first += 1
                    yield rows
                groups = list(range(first, parquet.num_row_groups))
                if groups:
                    yield from parquet.iter_batches(batch_size=BATCH_ROWS_DEFAULT, row_groups=groups)
        elif self._form is Form.ARROW_FILE:
            with pa.OSFile(self._input) as file, pa.ipc.open_file(file) as reader:
                for i in range(reader.num_record_batches):
                    yield _checked(reader.get_batch(i))
        elif isinstance(self._input, PipeBytes):
            with pa.ipc.open_stream(BlockingFile(self._input)) as reader:
                yield from map(_checked, reader)
        else:
            with pa.OSFile(self._input) as file, pa.ipc.open_stream(file) as reader:
                yield from map(_checked, reader)

    def _next(self) -> pa.RecordBatch | None:
        """The next stored batch that has rows, or None with the reason noted if there is no further one."""
        if self._ready is not None:
            batch, self._ready = self._ready, None
            return batch
        if self._ended:
            return None
        try:
            for batch in self._batches:
                if batch.num_rows:
                    return batch
            if isinstance(self._input, str):
                self._broken = change(self._opened, os.stat(self._input))
        except FileNotFoundError:
            self._broken = "vanished while it was read"
        except StreamBroken as broken:
            self._broken = str(broken)
        except (pa.ArrowException, OSError, ValueError) as error:
            text = str(error).splitlines()[0] if str(error) else type(error).__name__
            self._broken = f"{self._form.value} can't be read: {text}"
        self._ended = True
        return None

    @property
    def finished(self) -> bool:
        """Whether nothing is left: the next read would say so."""
        return self._ended and not self._broken and self._ready is None

    def read(self, rows_max: int, bytes_max: int) -> TableChunk | BrokenChunk | None:
        """The next chunk, or None when everything was delivered."""
        parts: list[pa.RecordBatch] = []
        rows_left, bytes_left = max(rows_max, 1), max(bytes_max, 1)
        while rows_left > 0 and bytes_left > 0:
            batch = self._next()
            if batch is None:
                break
            row_bytes = max(1, batch.nbytes // batch.num_rows)
            rows = min(batch.num_rows, rows_left, bytes_left // row_bytes)
            if rows == 0 and parts:
                self._ready = batch
                break
            rows = max(rows, 1)
            parts.append(batch.slice(0, rows))
            if rows < batch.num_rows:
                self._ready = batch.slice(rows)
            rows_left -= rows
            bytes_left -= rows * row_bytes
        if parts:
            whole = parts[0] if len(parts) == 1 else pa.concat_batches(parts)
            first_row = self.row + 1
            self.row += whole.num_rows
            return TableChunk(whole, self._file, first_row)
        if self._broken:
            broken = BrokenChunk(self._file, 0, self.row + 1, self._broken, b"")
            self._broken = ""
            return broken
        return None

    def close(self) -> None:
        self._batches = iter(())
        if isinstance(self._input, PipeBytes):
            self._input.close()


def _checked(batch: pa.RecordBatch) -> pa.RecordBatch:
    batch.validate(full=True)
    return batch
