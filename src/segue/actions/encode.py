"""Decisions become messages: a JSON line an action, a column batch for the decision log.

Lines are made per action (a few in a hundred events), nothing per event; the log is built from columns alone.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from functools import cache
from itertools import repeat
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from segue.actions.changes import (
    CHANGES_SCHEMA,
    JOINS_SCHEMA,
    KINDS,
    changes_batch,
    joins_batch,
    table_names,
)
from segue.actions.joined import JoinedDecisions, join
from segue.actions.ledger import LEDGER_SCHEMA, ledger_batch
from segue.actions.lines import line_template
from segue.actions.log import LogTable, log_names, log_schema, log_table
from segue.actions.messages import DeadLetterMessage, LateMessage, Withdrawn
from segue.actions.withdrawn import withdrawn_line, withdrawn_messages
from segue.decide.decisions import Decisions
from segue.events.batch import DeadLetter, Late
from segue.outputs import CHANGES, DECISIONS, JOINS, LEDGER
from segue.policy.compiled import PERCENT_UNITS, CompiledPolicies
from segue.reference.zones import zone_names
from segue_kernels.plan import OFFER_ITEMS_MAX
from segue_kernels.record import FLAG_KIND
from segue_kernels.shard import (
    ACTION_DISCOUNT,
    ACTION_ITEMS,
    ACTION_ITEMS_COUNT,
    ACTION_LOG,
    ACTION_OFFER,
    ACTION_RECORD,
    ACTION_SEGMENTS,
    ACTION_STAGE,
    ACTION_STEP,
    LOG_ZONE,
)
from segue_kernels.texts import (
    TEXT_ACTION,
    TEXT_BYTES_MAX,
    TEXT_CATEGORY,
    TEXT_CUSTOMER,
    TEXT_DECISION,
    TEXT_EXPIRES,
    TEXT_MESSAGE,
    TEXT_PRODUCT,
    TEXT_ROOM,
    TEXT_TIME,
    TEXT_VOUCHER_ENDS,
    TEXTS,
    write_action_texts,
)

Words = npt.NDArray[np.int64]
Output = tuple[str, bytes | pa.RecordBatch]

_NULL = b"null"
_NUMBERS = [0, 1, 4]  # of JoinedDecisions.numbers: propensity, context weight, score

_json = msgspec.json.Encoder()
_KINDS = [kind.encode() for kind in KINDS]


def rfc3339(times_ms: Words) -> list[bytes]:
    """UTC times with milliseconds."""
    text = np.datetime_as_string(times_ms.astype("M8[ms]"), unit="ms", timezone="UTC")
    stamps: list[bytes] = text.astype("S24").tolist()
    return stamps


class ActionLines(NamedTuple):
    """Actions as messages, one entry an action in each list: its line (newline included), and what of it a header
    or a key may say."""

    channels: list[str]
    lines: list[bytes]
    action_ids: list[bytes]
    customers: list[bytes]
    times: list[bytes]


class ActionEncoder:
    """Turns decisions of one policy set into messages; without a log, all but the rows of the decision log."""

    def __init__(self, policies: CompiledPolicies, log: bool = True) -> None:
        self._policies = policies
        self._logs = log
        self._schema = log_schema(policies)
        self._log_names = log_names(policies)
        self._table_names = table_names(policies)
        offers = policies.offer_infos
        self._channels = [offer.channel for offer in offers]
        self._templates = [line_template(policies, number) for number in range(len(offers))]
        journeys = [policies.journey_infos[offer.journey] for offer in offers]
        self._lives_ms = np.array([journey.expires_after_ms for journey in journeys], np.int64)
        vouchers = [offer.voucher for offer in offers]
        self._segments = _SegmentLists(policies.segment_ids)
        self._stages = [_json.encode(stage) for stage in policies.stage_ids]
        self._lists_items = bool(policies.offers[:, OFFER_ITEMS_MAX].any())
        self._percents = [v is not None and v.is_percent for v in vouchers]
        self._voucher_lives_ms = np.array([v.valid_for_ms if v else 0 for v in vouchers], np.int64)

    @property
    def outputs(self) -> list[str]:
        """The channels that any offer uses, sorted, and the logs that these policies can fill."""
        policies = self._policies
        changes = [CHANGES] if policies.segment_ids or policies.stage_ids else []
        joins = [JOINS] if policies.join_ids else []
        decisions = [DECISIONS] if self._logs else []
        ledger = [LEDGER] if policies.campaign_infos else []
        return [*sorted(set(self._channels)), *decisions, *changes, *joins, *ledger]

    @property
    def schemas(self) -> dict[str, pa.Schema]:
        """The columns of the outputs that are tables."""
        schemas = {DECISIONS: self._schema, CHANGES: CHANGES_SCHEMA, JOINS: JOINS_SCHEMA}
        return {**schemas, LEDGER: LEDGER_SCHEMA}

    def encode(self, decided: list[Decisions]) -> list[Output]:
        """(output, payload): actions, and behind them what was taken back, by channel as JSON lines; decision
        log, changes and joins as record batches.

        Takes the decisions of many shards at once: a call for a thousand events takes half a millisecond,
        most of it whatever is in them.
        """
        if not decided:
            return []
        joined = join(decided)
        by_channel: dict[str, list[bytes]] = {}
        if len(joined.actions):
            actions = self.action_lines(joined)
            for channel, line in zip(actions.channels, actions.lines, strict=True):
                by_channel.setdefault(channel, []).append(line)
        for withdrawn in self.withdrawn(joined):
            by_channel.setdefault(withdrawn.channel, []).append(withdrawn_line(withdrawn))
        outputs: list[Output] = [(channel, b"".join(lines)) for channel, lines in by_channel.items()]
        if self._logs and len(joined.log):
            outputs.append((DECISIONS, self.log_batch(log_table(joined))))
        changes = [grants.changes for _, grants in joined.grants if len(grants.changes)]
        if changes:
            outputs.append((LEDGER, ledger_batch(np.concatenate(changes))))
        return [*outputs, *self.changes(joined)]

    def log_batch(self, log: LogTable) -> pa.RecordBatch:
        """The decision log as Arrow has it."""
        return log.batch(self._log_names, self._schema)

    def changes(self, joined: JoinedDecisions) -> list[tuple[str, pa.RecordBatch]]:
        """Changes and joins, as far as there are any; their rows are those of `joined`."""
        outputs = []
        if len(joined.changes):
            outputs.append((CHANGES, changes_batch(joined, self._table_names)))
        if len(joined.credits):
            outputs.append((JOINS, joins_batch(joined, self._table_names)))
        return outputs

    def withdrawn(self, joined: JoinedDecisions) -> list[Withdrawn]:
        """What was taken back, in its order."""
        return withdrawn_messages(joined, self._policies) if len(joined.withdrawn) else []

    def action_lines(self, joined: JoinedDecisions) -> ActionLines:
        """All actions, in their order."""
        rows = joined.actions
        offers = rows[:, ACTION_OFFER].tolist()
        kinds = (joined.pack[rows[:, ACTION_RECORD]] >> 8) & FLAG_KIND
        texts, customers = self._texts(joined)
        codes = self._codes(joined, texts[TEXT_VOUCHER_ENDS])
        times = texts[TEXT_TIME]
        zones = _zone_texts()
        dynamic = zip(
            texts[TEXT_ACTION],
            texts[TEXT_DECISION],
            texts[TEXT_CUSTOMER],
            [_KINDS[kind] for kind in kinds.tolist()],
            [zones[zone] for zone in joined.log[rows[:, ACTION_LOG], LOG_ZONE].tolist()],
            self._segment_lists(rows),
            self._stage_names(rows),
            [b"%d" % step for step in rows[:, ACTION_STEP].tolist()],
            texts[TEXT_PRODUCT],
            texts[TEXT_CATEGORY],
            self._item_lists(joined),
            *_json_numbers(joined.numbers[:, _NUMBERS]),
            codes,
            self._discounts(rows, offers),
            texts[TEXT_VOUCHER_ENDS],
            times,
            times,
            texts[TEXT_EXPIRES],
            texts[TEXT_MESSAGE],
            strict=True,
        )  # in the order of DYNAMIC
        lines = [self._templates[offer] % values for offer, values in zip(offers, dynamic, strict=True)]
        channels = [self._channels[offer] for offer in offers]
        return ActionLines(channels, lines, texts[TEXT_ACTION], customers, times)

    def _texts(self, joined: JoinedDecisions) -> tuple[list[list[bytes]], list[bytes]]:
        """Lists of the texts of all actions, by TEXT_..., and their customers, which are no JSON."""
        count = len(joined.actions)
        data = np.empty(count * TEXT_BYTES_MAX + TEXT_ROOM, np.uint8)
        ends = np.empty(count * TEXTS, np.int64)
        plain = write_action_texts(
            joined.actions,
            joined.log,
            joined.heap,
            joined.text,
            self._voucher_lives_ms,
            self._lives_ms,
            data,
            ends,
        )
        stops = ends.tolist()
        whole = data[: stops[-1]].tobytes()
        pieces = [whole[start:end] for start, end in zip([0, *stops], stops, strict=False)]
        texts = [pieces[text::TEXTS] for text in range(TEXTS)]
        customers = [b"" if text == _NULL else text[1:-1] for text in texts[TEXT_CUSTOMER]]
        if not plain:
            for text in (TEXT_CUSTOMER, TEXT_PRODUCT, TEXT_CATEGORY, TEXT_MESSAGE):
                texts[text] = [
                    each if each == _NULL else _json.encode(each[1:-1].decode()) for each in texts[text]
                ]
        return texts, customers

    def _codes(self, joined: JoinedDecisions, ends: list[bytes]) -> Iterable[bytes]:
        """The voucher codes that were granted; when these end is as the ledger has it."""
        if not joined.grants:
            return repeat(b"", len(joined.actions))
        codes = [_NULL] * len(joined.actions)
        for first, grants in joined.grants:
            stamps = rfc3339(grants.expires_ms)
            for row, code, end in zip(grants.actions.tolist(), grants.codes, stamps, strict=True):
                codes[first + row] = _json.encode(code)
                ends[first + row] = end
        return codes

    def _discounts(self, rows: Words, offers: list[int]) -> Iterable[bytes]:
        """What was computed: percent, or minor units."""
        if not len(self._policies.discounts):
            return repeat(b"", len(rows))
        percents = self._percents
        return [
            orjson.dumps(units / PERCENT_UNITS) if percents[offer] else b"%d" % units
            for offer, units in zip(offers, rows[:, ACTION_DISCOUNT].tolist(), strict=True)
        ]

    def _segment_lists(self, rows: Words) -> Iterable[bytes]:
        if not self._policies.segment_ids:
            return repeat(b"", len(rows))
        lists = self._segments
        return [lists[mask] for mask in rows[:, ACTION_SEGMENTS].tolist()]

    def _stage_names(self, rows: Words) -> Iterable[bytes]:
        if not self._stages:
            return repeat(b"", len(rows))
        stages = self._stages
        return [stages[stage] for stage in rows[:, ACTION_STAGE].tolist()]

    def _item_lists(self, joined: JoinedDecisions) -> Iterable[bytes]:
        rows = joined.actions
        if not self._lists_items:
            return repeat(b"", len(rows))
        starts = (joined.items >> 8).tolist()
        ends = ((joined.items >> 8) + (joined.items & 0xFF)).tolist()
        text = joined.item_text.tobytes()
        return [
            _json.encode([text[starts[i] : ends[i]].decode() for i in range(first, first + count)])
            for first, count in rows[:, [ACTION_ITEMS, ACTION_ITEMS_COUNT]].tolist()
        ]


@cache
def _zone_texts() -> tuple[bytes, ...]:
    """Time zones by their numbers."""
    return (_NULL, *map(_json.encode, zone_names()))


class _SegmentLists(dict[int, bytes]):
    """The JSON list of a set of segments, by its bits; made once for each set that occurs."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self._names = names

    def __missing__(self, mask: int) -> bytes:
        names = [name for bit, name in enumerate(self._names) if mask >> bit & 1]
        return self.setdefault(mask, _json.encode(names))


def _json_numbers(numbers: npt.NDArray[np.float64]) -> list[list[bytes]]:
    """Each column's numbers as JSON, the shortest form that reads back the same."""
    columns = np.ascontiguousarray(numbers.T)
    text = orjson.dumps(columns, option=orjson.OPT_SERIALIZE_NUMPY)
    return [column.split(b",") for column in text[2:-2].split(b"],[")]


def encode_dead(letters: list[DeadLetter]) -> bytes:
    """Dead letters as JSON lines."""
    return _json.encode_lines(
        [
            DeadLetterMessage(
                file=letter.file,
                line=letter.line,
                offset=letter.offset,
                reason=letter.reason,
                raw=_as_text(letter.raw),
                raw_base64=_as_base64(letter.raw),
            )
            for letter in letters
        ]
    )


def encode_late(events: list[Late]) -> bytes:
    """Late events as JSON lines."""
    times = rfc3339(np.array([event.event_time_ms for event in events], np.int64))
    return _json.encode_lines(
        [
            LateMessage(
                file=event.file,
                line=event.line,
                offset=event.offset,
                event_time=time.decode(),
                delay_ms=event.delay_ms,
                raw=_as_text(event.raw),
                raw_base64=_as_base64(event.raw),
            )
            for event, time in zip(events, times, strict=True)
        ]
    )


def _as_text(raw: bytes) -> str | None:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


def _as_base64(raw: bytes) -> str | None:
    return base64.b64encode(raw).decode() if _as_text(raw) is None else None
