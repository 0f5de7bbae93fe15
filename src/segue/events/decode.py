"""Bytes become records; nothing in the bytes can raise: what can't be used is a dead letter with its reason.

Two roads lead to the same records. The scanner kernel reads the common shape of JSON line; it leaves every line
it is not certain of to msgspec (slow.py). Whether the scanner runs changes the speed and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from segue.events.batch import Bytes, DeadLetter, Decoded, Late, Origin, Words, dead_letter, empty_words
from segue.events.hashing import key_words
from segue.events.lines import run_scanner, split_lines
from segue.events.money import currency_code
from segue.events.refusal import Refusal
from segue.events.rows import Terms
from segue.events.slow import SlowRows, read_message
from segue.errors import SettingsError
from segue_kernels.record import FLAG_IS_LINE, PACK
from segue_kernels.stamp import LATE_WORDS, stamp_rows

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["DeadLetter", "Decoded", "Decoder", "Late", "Origin"]


class Decoder:
    """Decodes messages for one deployment.

    secret      16 bytes, the key of all hashes
    currency    ISO 4217 code of events that give none
    arrival_ms  start of the run: events further ahead of it than limits.FUTURE_MS_MAX are dead letters
    lateness_ms how far behind its partition's clock an event may be
    scanner     False reads every line by msgspec
    """

    def __init__(
        self, secret: bytes, currency: str, arrival_ms: int, lateness_ms: int, *, scanner: bool = True
    ) -> None:
        try:
            currency_code(currency)
        except Refusal as refusal:
            raise SettingsError("read the settings", str(refusal)) from None
        self.k0, self.k1 = key_words(secret)
        self.terms = Terms(currency, arrival_ms)
        self.lateness_ms = lateness_ms
        self.scanner = scanner

    def json_lines(
        self, payload: Bytes, start: int, rows_max: int, origin: Origin
    ) -> tuple[Decoded, int]:
        """Decode payload[start:] (complete lines; the last newline may be missing) up to about rows_max records.

        Returns the Decoded and where to go on; that is the payload's length when all is read. An event's lines
        are never split, so a batch may have a few more records than rows_max.
        """
        read = run_scanner if self.scanner else split_lines
        scanned = read(payload, start, max(rows_max, 1), origin.line, self.terms, self.k0, self.k1)
        records, spans, where = scanned.records, scanned.spans, scanned.where
        text = payload
        dead: list[DeadLetter] = []
        if len(scanned.slow):
            rows = SlowRows()
            counts = []
            places: list[tuple[int, int]] = []
            for first, end, _, line in scanned.slow.tolist():
                raw = payload[first:end].tobytes()
                before = len(rows.words)
                for result, part in read_message(raw, self.terms):
                    if isinstance(result, Refusal):
                        dead.append(
                            dead_letter(origin.file, line, origin.offset + first, str(result), part)
                        )
                        continue
                    for row in result:
                        rows.add(row, raw, first)
                        places.append((first, line))
                counts.append(len(rows.words) - before)
            slow = rows.finish(payload, start, scanned.next_start, self.k0, self.k1)
            text = slow.text
            if slow.shift:
                spans = np.where(spans & 0xFF != 0, spans - (slow.shift << 8), 0)
            places_array = np.array(places, dtype=np.int64).reshape(-1, 2)
            order = _merge_order(records.shape[0], scanned.slow[:, 2], np.array(counts, dtype=np.int64))
            records = _merge(records, slow.records, order, scanned.slow[:, 2])
            spans = _merge(spans, slow.spans, order, scanned.slow[:, 2])
            where = _merge(where, places_array, order, scanned.slow[:, 2])
        decoded = Decoded(
            records,
            spans,
            text,
            where,
            dead,
            count_events(records),
            scanned.lines,
            origin,
            raw_at=lambda place: _line_at(payload, place),
        )
        return decoded, scanned.next_start

    def table(self, batch: pa.RecordBatch, origin: Origin) -> Decoded:
        """Decode the rows of a Parquet or Arrow batch; a bad row is a dead letter, its bytes the row as JSON."""
        from segue.events.table import decode_table

        return decode_table(batch, origin, self.terms, self.k0, self.k1)

    def stamp(self, decoded: Decoded, clock_ms: int, partition: int, row0: int) -> int:
        """Set CLOCK and SEQUENCE in place and move late events from the records to `late`; the new clock, ms.

        Event k of the batch (late ones included) has row number row0 + k; the next batch's row0 is
        row0 + decoded.events.
        """
        late = empty_words(decoded.events, LATE_WORDS)
        kept, late_count, clock = stamp_rows(
            decoded.records,
            decoded.spans,
            decoded.where,
            late,
            clock_ms,
            self.lateness_ms,
            partition,
            row0,
        )
        origin = decoded.origin
        for time_ms, delay_ms, place, line in late[:late_count].tolist():
            offset = origin.offset + place
            raw = decoded.raw_at(place)
            decoded.late.append(Late(origin.file, line, offset, raw, delay_ms, time_ms))
        if late_count:
            decoded.records = decoded.records[:kept]
            decoded.spans = decoded.spans[:kept]
            decoded.where = decoded.where[:kept]
        return int(clock)


def count_events(records: Words) -> int:
    """The number of header records."""
    return int(np.count_nonzero((records[:, PACK] & (FLAG_IS_LINE << 8)) == 0))


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


def _merge_order(rows: int, positions: Words, counts: Words) -> Words | None:
    """Indices into scanned rows followed by slow rows; None when each slow line fills just its own row."""
    if np.all(counts == 1):
        return None
    sizes = np.ones(rows, dtype=np.int64)
    sizes[positions] = counts
    sources = np.arange(rows, dtype=np.int64)
    sources[positions] = rows + np.cumsum(counts) - counts
    starts = np.cumsum(sizes) - sizes
    total = int(sizes.sum())
    return np.repeat(sources - starts, sizes) + np.arange(total, dtype=np.int64)


def _merge(scanned: Words, slow: Words, order: Words | None, positions: Words) -> Words:
    if order is None:
        scanned[positions] = slow
        return scanned
    merged: Words = np.concatenate([scanned, slow])[order]
    return merged
