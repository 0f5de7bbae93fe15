"""What every sink does: take items in order, and fail loudly rather than lose one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

import msgspec
import pyarrow as pa

Item: TypeAlias = bytes | pa.RecordBatch


class Sink(Protocol):
    """One ordered output with one writer. Each method raises SinkError if anything could not be written."""

    @property
    def name(self) -> str:
        """The channel or log that is written here."""

    def write(self, items: Sequence[Item]) -> None:
        """Take items in order; they may wait in a buffer."""

    def flush(self) -> None:
        """Hand everything taken so far to the operating system or the broker."""

    def position(self) -> msgspec.Struct:
        """Flush and make durable; the output opened again with it goes on right here."""

    def close(self) -> None:
        """Flush, make durable, let go. May be called again."""
