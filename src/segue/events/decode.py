"""Bytes become records; nothing in the bytes can raise: what can't be used is a dead letter with its reason.

Two roads lead to the same records. The scanner kernel reads the common shape of JSON line; it leaves every line it
is not certain of to msgspec (slow.py). Whether the scanner runs changes the speed and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from segue.errors import SettingsError
from segue.events.batch import Bytes, DeadLetter, Decoded, Late, Origin, count_events, empty_words
from segue.events.hashing import key_words
from segue.events.lines import ScanRoom, run_scanner, split_lines
from segue.events.merge import Rows, merge
from segue.events.money import currency_code
from segue.events.names import NEVER_LATE_CODES
from segue.events.refusal import Refusal
from segue.events.rows import Terms
from segue.events.slow import SlowRows
from segue.events.updates import TopicRows, decode_topic_rows, table_fields
from segue_kernels.stamp import LATE_WORDS, stamp_rows

if TYPE_CHECKING:
    import pyarrow as pa

_NEVER_LATE = np.zeros(256, np.uint8)
_NEVER_LATE[list(NEVER_LATE_CODES)] = 1

__all__ = ["DeadLetter", "Decoded", "Decoder", "Late", "Origin"]


class Decoder:
    """Decodes messages for one deployment, in one thread at a time.

    secret      16 bytes, the key of all hashes
    currency    ISO 4217 code of events that give none
    arrival_ms  start of the run: events further ahead of it than limits.FUTURE_MS_MAX are dead letters
    lateness_ms how far behind its partition's clock an event may be
    fields      of tables, that policies look into (CompiledPolicies.lookup_fields): of rows that come along the way
    scanner     False reads every line by msgspec
    """

    def __init__(
        self,
        secret: bytes,
        currency: str,
        arrival_ms: int,
        lateness_ms: int,
        fields: Iterable[tuple[str, str, str]] = (),
        *,
        scanner: bool = True,
    ) -> None:
        try:
            currency_code(currency)
        except Refusal as refusal:
            raise SettingsError("read the settings", str(refusal)) from None
        self.k0, self.k1 = key_words(secret)
        self.terms = Terms(currency, arrival_ms, table_fields(fields))
        self.lateness_ms = lateness_ms
        self._room = ScanRoom(self.terms, self.k0, self.k1) if scanner else None

    def json_lines(
        self, payload: Bytes, start: int, rows_max: int, origin: Origin, padded: Bytes | None = None
    ) -> tuple[Decoded, int]:
        """Decode payload[start:] (complete lines; the last newline may be missing) up to about rows_max
        records.

        Returns the Decoded and where to go on; that is the payload's length when all is read. An event's
        lines
        are never split, so a batch may have a few more records than rows_max.
        padded: see run_scanner.
        """
        rows_max = max(rows_max, 1)
        if self._room is None:
            scanned = split_lines(payload, start, rows_max, origin.line)
        else:
            scanned = run_scanner(payload, start, rows_max, origin.line, self._room, padded)
        rows = Rows(scanned.records, scanned.spans, scanned.where, payload)
        dead: list[DeadLetter] = []
        if len(scanned.slow):
            slow = SlowRows(self.terms, origin, dead=dead)
            for first, end, _, line in scanned.slow.tolist():
                slow.read(payload[first:end].tobytes(), first, line, in_payload=True)
            rows = merge(rows, scanned.slow[:, 2], slow, start, scanned.next_start, self.k0, self.k1)
        decoded = Decoded(
            rows.records,
            rows.spans,
            rows.text,
            rows.where,
            dead,
            count_events(rows.records),
            scanned.lines,
            origin,
            raw_at=lambda place: _line_at(payload, place),
        )
        return decoded, scanned.next_start

    def table(self, batch: pa.RecordBatch, origin: Origin) -> Decoded:
        """Decode the rows of a Parquet or Arrow batch; a bad row is a dead letter, its bytes the row as
        JSON."""
        from segue.events.table import decode_table

        return decode_table(batch, origin, self.terms, self.k0, self.k1)

    def topic_rows(self, rows: TopicRows, origin: Origin) -> Decoded:
        """Decode messages of a table's topic; a bad one is a dead letter."""
        return decode_topic_rows(rows, origin, self.terms, self.k0, self.k1)

    def stamp(self, decoded: Decoded, clock_ms: int, partition: int, row0: int) -> int:
        """Set CLOCK and SEQUENCE in place and move late events from the records to `late`; the new clock, ms.

        Event k of the batch (late ones included) has row number row0 + k; the next batch's row0 is
        row0 + decoded.events.
        """
        late = empty_words(decoded.events, LATE_WORDS)
        kept, late_count, clock, decoded.unknown_zones = stamp_rows(
            decoded.records,
            decoded.spans,
            decoded.where,
            late,
            _NEVER_LATE,
            clock_ms,
            self.lateness_ms,
            partition,
            row0,
        )
        if late_count:
            origin = decoded.origin
            for time_ms, delay_ms, place, line in late[:late_count].tolist():
                raw = decoded.raw_at(place)
                line, offset = origin.place_of(line, place)
                decoded.late.append(Late(origin.file, line, offset, raw, delay_ms, time_ms))
            decoded.records = decoded.records[:kept]
            decoded.spans = decoded.spans[:kept]
            decoded.where = decoded.where[:kept]
        return int(clock)


def _line_at(payload: Bytes, start: int) -> bytes:
    """The line that starts at `start`, without its newline."""
    width = 4096
    while True:
        chunk = payload[start : start + width].tobytes()
        end = chunk.find(b"\n")
        if end >= 0:
            return chunk[:end]
        if start + width >= payload.shape[0]:
            return chunk
        width *= 4
