"""Decisions of many parts become messages of lanes, and what was refused becomes messages too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from segue import limits
from segue.actions.encode import ActionEncoder, encode_dead, encode_late
from segue.actions.joined import JoinedDecisions, join
from segue.actions.log import LogTable, log_table
from segue.actions.withdrawn import withdrawn_line
from segue.decide.decisions import Decisions, Grants
from segue.events.batch import DeadLetter, Late
from segue.kafka.receipts import (
    ID_BYTES,
    IDS,
    RECEIPTS,
    change_ids,
    credit_ids,
    offer_words,
    pack_ids,
    pack_receipts,
    receipts_of,
    row_id,
    withdrawn_receipts,
)
from segue.kafka.settings import KafkaSettings
from segue.outputs import BINARY, CHANGES, DEAD_LETTERS, DECISIONS, HEARTBEAT, JOINS, LATE, LEDGER
from segue.policy.compiled import CompiledPolicies
from segue.sinks.kafka.message import LaneItem, LaneMessage
from segue.sinks.kafka.tables import CONTENT_TYPE, NO_ROWS, LogMessages, TableMessages
from segue.vouchers.answers import change_keys
from segue_kernels.receipt import ANONYMOUS_PART, RECEIPT_WORDS
from segue_kernels.shard import (
    SPAN_ACTIONS_END,
    SPAN_CHANGES_END,
    SPAN_CREDITS_END,
    SPAN_LOG_END,
    SPAN_PART,
    SPAN_WITHDRAWN_END,
)

Words = npt.NDArray[np.int64]

ACTION_TYPE = b"segue.action"
WITHDRAWN_TYPE = b"segue.withdrawn"
WITHDRAWN_SUFFIX = b"-withdrawn"  # of the action id, in the id of what takes the action back
_JSON = ("content-type", b"application/json")
_BINARY = ("content-type", BINARY.encode())
_ARROW = ("content-type", CONTENT_TYPE)


class LaneEncoder:
    """Encodes for one deployment. What a list of decisions causes in a lane is one item: it becomes visible as one.

    Without a log its topic has the receipts all the same, and no rows: after a crash they say what was decided.
    """

    def __init__(self, policies: CompiledPolicies, settings: KafkaSettings, log: bool = True) -> None:
        self._policies = policies
        self._encoder = ActionEncoder(policies)
        self._offers = offer_words(policies)
        self._lanes = settings.lanes
        self._prefix = settings.prefix
        envelope = [
            _JSON,
            ("ce_specversion", b"1.0"),
            ("ce_source", b"segue/" + settings.name.encode()),
        ]
        self._common = [*envelope, ("ce_type", ACTION_TYPE)]
        self._common_withdrawn = [*envelope, ("ce_type", WITHDRAWN_TYPE)]
        self._log: LogMessages | None = None
        self._logs = log
        self._tables = {name: TableMessages() for name in (CHANGES, JOINS)}

    @property
    def topics(self) -> list[str]:
        """All topics that these policies can send to, the heartbeat's included."""
        return [self._prefix + name for name in (*self._encoder.outputs, DEAD_LETTERS, LATE, HEARTBEAT)]

    def encode(self, decided: list[Decisions]) -> list[LaneItem]:
        """An item for each lane that has anything, of decisions of any parts in their order.

        Takes all at once: most of the time of a call is the same whatever is in it.
        """
        if not decided:
            return []
        spans = [decisions.spans.tolist() for decisions in decided]
        lanes = [span[SPAN_PART] % ANONYMOUS_PART % self._lanes for each in spans for span in each]
        items: dict[int, list[LaneMessage]] = {lane: [] for lane in lanes}
        joined = join(decided)
        rows, actions = receipts_of(decided, self._offers)
        if len(joined.actions):
            self._add_actions(joined, actions, _spread(lanes, _counts(spans, SPAN_ACTIONS_END)), items)
        if len(joined.withdrawn):
            self._add_withdrawn(joined, decided, _spread(lanes, _counts(spans, SPAN_WITHDRAWN_END)), items)
        if len(joined.log):
            runs = _runs(lanes, _counts(spans, SPAN_LOG_END))
            if self._logs:
                self._add_log(log_table(joined), rows, runs, items)
            else:
                self._add_receipts(rows, runs, items)
        first = 0
        for each in decided:
            if each.grants is not None:
                self._add_ledger(each.grants, lanes[first : first + len(each.spans)], items)
            first += len(each.spans)
        for name, batch in self._encoder.changes(joined):
            if name == CHANGES:
                counts, ids = _counts(spans, SPAN_CHANGES_END), change_ids(decided, self._policies)
            else:
                counts, ids = _counts(spans, SPAN_CREDITS_END), credit_ids(decided, self._policies)
            topic = self._prefix + name
            for lane, start, end in _runs(lanes, counts):
                for first, last, stream in self._tables[name].cut(batch, start, end, ID_BYTES):
                    headers = [(IDS, pack_ids(ids[first:last])), _ARROW]
                    items[lane].append(LaneMessage(topic, None, stream, headers))
        return [(lane, messages) for lane, messages in items.items() if messages]

    def refused(self, dead: list[DeadLetter], late: list[Late]) -> list[LaneItem]:
        """Dead letters and late events, a message each; the lane follows from the input's partition."""
        items: dict[int, list[LaneMessage]] = {}
        both: tuple[tuple[str, Sequence[DeadLetter | Late], bytes], ...] = (
            (DEAD_LETTERS, dead, encode_dead(dead) if dead else b""),
            (LATE, late, encode_late(late) if late else b""),
        )
        for name, refused, lines in both:
            for one, line in zip(
                refused, lines.split(b"\n"), strict=False
            ):  # an empty one is behind the last
                headers = [(IDS, row_id(one.partition, one.row)), _JSON]
                message = LaneMessage(self._prefix + name, None, line, headers)
                items.setdefault(one.partition % self._lanes, []).append(message)
        return list(items.items())

    def _add_log(
        self,
        log: LogTable,
        receipts: Words,
        runs: list[tuple[int, int, int]],
        items: dict[int, list[LaneMessage]],
    ) -> None:
        if self._log is None:
            self._log = LogMessages(self._encoder.log_batch(log))
        topic = self._prefix + DECISIONS
        packed = pack_receipts(receipts)
        width = 8 * RECEIPT_WORDS
        for run, first, end, stream in self._log.cut(log, [run[1:] for run in runs], width):
            headers = [(RECEIPTS, packed[first * width : end * width]), _ARROW]
            items[runs[run][0]].append(LaneMessage(topic, None, stream, headers))

    def _add_receipts(
        self, receipts: Words, runs: list[tuple[int, int, int]], items: dict[int, list[LaneMessage]]
    ) -> None:
        topic = self._prefix + DECISIONS
        packed = pack_receipts(receipts)
        width = 8 * RECEIPT_WORDS
        most = max(1, limits.MESSAGE_BYTES_TARGET // width)
        for lane, start, end in runs:
            for first in range(start, end, most):
                last = min(first + most, end)
                headers = [(RECEIPTS, packed[first * width : last * width]), _ARROW]
                items[lane].append(LaneMessage(topic, None, NO_ROWS, headers))

    def _add_ledger(self, grants: Grants, lanes: list[int], items: dict[int, list[LaneMessage]]) -> None:
        """What the ledger changed stands beside the actions that say so: both are there, or neither is."""
        topic = self._prefix + LEDGER
        values = grants.changes.astype("<i8", copy=False)
        for span, key, value in zip(grants.spans.tolist(), change_keys(grants.changes), values, strict=True):
            items[lanes[span]].append(LaneMessage(topic, key, value.tobytes(), [_BINARY]))

    def _add_actions(
        self, joined: JoinedDecisions, receipts: Words, lanes: list[int], items: dict[int, list[LaneMessage]]
    ) -> None:
        told = self._encoder.action_lines(joined)
        width = 8 * RECEIPT_WORDS
        packed = pack_receipts(receipts)
        for i, (lane, channel, line, action_id, customer, time) in enumerate(zip(lanes, *told, strict=True)):
            headers = [
                (RECEIPTS, packed[i * width : (i + 1) * width]),
                ("ce_id", action_id),
                ("ce_time", time),
                ("ce_subject", customer),
                *self._common,
            ]
            items[lane].append(LaneMessage(self._prefix + channel, customer, line[:-1], headers))

    def _add_withdrawn(
        self,
        joined: JoinedDecisions,
        decided: list[Decisions],
        lanes: list[int],
        items: dict[int, list[LaneMessage]],
    ) -> None:
        receipts = withdrawn_receipts(decided)
        for i, (lane, withdrawn) in enumerate(zip(lanes, self._encoder.withdrawn(joined), strict=True)):
            customer = withdrawn.customer_id.encode()
            headers = [
                (RECEIPTS, pack_receipts(receipts[i])),
                ("ce_id", withdrawn.action_id.encode() + WITHDRAWN_SUFFIX),
                ("ce_time", withdrawn.time.encode()),
                ("ce_subject", customer),
                *self._common_withdrawn,
            ]
            topic = self._prefix + withdrawn.channel
            items[lane].append(LaneMessage(topic, customer, withdrawn_line(withdrawn)[:-1], headers))


def _counts(spans: list[list[list[int]]], end: int) -> list[int]:
    """Rows of each span, one Decisions' spans behind the other's; `end` says of what."""
    counts = []
    for each in spans:
        before = 0
        for span in each:
            counts.append(span[end] - before)
            before = span[end]
    return counts


def _spread(lanes: list[int], counts: list[int]) -> list[int]:
    return [lane for lane, count in zip(lanes, counts, strict=True) for _ in range(count)]


def _runs(lanes: list[int], counts: list[int]) -> list[tuple[int, int, int]]:
    """(lane, first row, end) of each run of rows that go to the same lane, for spans of so many rows each."""
    runs: list[tuple[int, int, int]] = []
    row = 0
    for lane, count in zip(lanes, counts, strict=True):
        if count:
            first = row
            if runs and runs[-1][0] == lane:
                first = runs.pop()[1]
            runs.append((lane, first, row + count))
            row += count
    return runs
