"""The msgspec road: it takes every message, a line at a time, and is what the scanner's results must
equal."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from segue.events.batch import Bytes, DeadLetter, Origin, Words, dead_letter, read_only
from segue.events.doors import open_message
from segue.events.refusal import Refusal
from segue.events.rows import Row, Terms, rows_of
from segue.events.updates import RowEvent, rows_of_row
from segue_kernels import fill, record


@dataclass(slots=True)
class SlowRows:
    """Rows collected from messages, and the text behind their strings.

    A string that stands verbatim in its message is referred to there (`base` is the message's place in the
    payload); any other, an escaped one for example, goes to `extra`.
    """

    terms: Terms
    origin: Origin
    counts: list[int] = field(default_factory=list)  # rows of each message read
    dead: list[DeadLetter] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)  # of each row, as Decoded.where
    words: list[list[int]] = field(default_factory=list)
    references: list[list[int]] = field(default_factory=list)
    in_extra: list[list[bool]] = field(default_factory=list)
    extra: bytearray = field(default_factory=bytearray)

    def read(self, raw: bytes, place: int, line: int, in_payload: bool) -> None:
        """Read one message at a place; in_payload: its bytes stand there in the payload."""
        before = len(self.words)
        for result, part in read_message(raw, self.terms):
            if isinstance(result, Refusal):
                self.refuse(str(result), part, place, line)
                continue
            for row in result:
                self._add(row, raw, place if in_payload else -1)
                self.places.append((place, line))
        self.counts.append(len(self.words) - before)

    def refuse(self, reason: str, raw: bytes, place: int, line: int) -> None:
        """Note a dead letter."""
        line, offset = self.origin.place_of(line, place)
        self.dead.append(dead_letter(self.origin.file, line, offset, reason, raw))

    def _add(self, row: Row, raw: bytes, base: int) -> None:
        references = [0] * fill.REFERENCES
        in_extra = [False] * fill.REFERENCES
        for index, string in enumerate(row.strings):
            if not string:
                continue
            at = raw.find(string) if base >= 0 else -1
            if at < 0:
                references[index] = len(self.extra) << 8 | len(string)
                in_extra[index] = True
                self.extra += string
            else:
                references[index] = (base + at) << 8 | len(string)
        self.words.append(row.words)
        self.references.append(references)
        self.in_extra.append(in_extra)

    def finish(self, payload: Bytes, start: int, end: int, k0: np.uint64, k1: np.uint64) -> SlowBatch:
        """Records with hashes. The text is the payload, or payload[start:end] and the extra text behind
        it."""
        records = np.array(self.words, dtype=np.int64).reshape(-1, record.RECORD_WORDS)
        references = np.array(self.references, dtype=np.int64).reshape(-1, fill.REFERENCES)
        text = payload
        shift = 0
        if self.extra:
            text = np.concatenate([payload[start:end], np.frombuffer(bytes(self.extra), dtype=np.uint8)])
            shift = start
            in_extra = np.array(self.in_extra, dtype=bool).reshape(-1, fill.REFERENCES)
            moved = np.where(in_extra, (end - start) << 8, -(start << 8))
            references = np.where(references & 0xFF != 0, references + moved, 0)
        fill.fill_hashes(records, references, read_only(text), k0, k1)
        spans = np.ascontiguousarray(references[:, : record.STRINGS])
        where = np.array(self.places, dtype=np.int64).reshape(-1, 2)
        return SlowBatch(records, spans, where, text, shift)


@dataclass(frozen=True, slots=True)
class SlowBatch:
    """Finished slow rows; `text` begins `shift` bytes into the payload."""

    records: Words
    spans: Words
    where: Words
    text: Bytes
    shift: int


def read_message(raw: bytes, terms: Terms) -> list[tuple[list[Row] | Refusal, bytes]]:
    """The rows, or the refusal, of each event of a message, with the event's own bytes. Never raises."""
    results: list[tuple[list[Row] | Refusal, bytes]] = []
    for event, part in open_message(raw):
        if isinstance(event, Refusal):
            results.append((event, part))
            continue
        try:
            rows = rows_of_row(event, terms) if isinstance(event, RowEvent) else rows_of(event, terms)
            results.append((rows, part))
        except Refusal as refusal:
            results.append((refusal, part))
    return results
