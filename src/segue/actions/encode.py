"""Decisions become messages: a JSON line an action, a column batch for the decision log.

Lines are made per action (a few in a hundred events), nothing per event; the log is built from columns alone.
"""

from __future__ import annotations

import base64
import re

import msgspec
import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from segue.actions.joined import JoinedDecisions, join
from segue.actions.lines import line_template
from segue.actions.log import log_batch, log_schema
from segue.actions.messages import DeadLetterMessage, LateMessage
from segue.decide.engine import Decisions
from segue.events.batch import DeadLetter, Late
from segue.policy.compiled import CompiledPolicies
from segue_kernels.plan import OFFER_F_LEVER, OFFER_F_VALUE
from segue_kernels.record import (
    FLAG_KIND,
    STRING_CATEGORY,
    STRING_CUSTOMER,
    STRING_MESSAGE,
    STRING_PRODUCT,
)
from segue_kernels.shard import (
    ACTION_HI,
    ACTION_ITEM,
    ACTION_LO,
    ACTION_LOG,
    ACTION_OFFER,
    ACTION_RECORD,
    LOG_DECISION_HI,
    LOG_DECISION_LO,
    LOG_NOW,
)

Words = npt.NDArray[np.int64]
Output = tuple[str, bytes | pa.RecordBatch]

KINDS = (b"user", b"loyalty", b"anonymous")
DECISIONS = "decisions"
DEAD_LETTERS = "dead_letters"
LATE = "late"
_NEEDS_ESCAPE = re.compile(rb'[\x00-\x1f"\\\\]')

_json = msgspec.json.Encoder()


def hex_ids(high: Words, low: Words) -> list[bytes]:
    """128-bit ids as 32 hexadecimal digits."""
    text = np.stack([high, low], axis=1).astype(">i8").tobytes().hex().encode()
    return [text[i : i + 32] for i in range(0, len(text), 32)]


def rfc3339(times_ms: Words) -> list[bytes]:
    """UTC times with milliseconds."""
    text = np.datetime_as_string(times_ms.astype("M8[ms]"), unit="ms", timezone="UTC")
    stamps: list[bytes] = text.astype("S24").tolist()
    return stamps


class ActionEncoder:
    """Turns decisions of one policy set into messages."""

    def __init__(self, policies: CompiledPolicies) -> None:
        self._policies = policies
        self._schema = log_schema(policies)
        offers = policies.offer_infos
        self._channels = [offer.channel for offer in offers]
        self._templates = [
            line_template(policies, offer, *policies.offers_f[i, [OFFER_F_VALUE, OFFER_F_LEVER]].tolist())
            for i, offer in enumerate(offers)
        ]
        journeys = [policies.journey_infos[offer.journey] for offer in offers]
        self._lives_ms = np.array([journey.expires_after_ms for journey in journeys], np.int64)
        vouchers = [offer.voucher for offer in offers]
        self._voucher_lives_ms = np.array([v.valid_for_ms if v else 0 for v in vouchers], np.int64)

    @property
    def channels(self) -> list[str]:
        """The channels that any offer uses, sorted."""
        return sorted(set(self._channels))

    @property
    def schema(self) -> pa.Schema:
        """The decision log's columns."""
        return self._schema

    def encode(self, decided: list[Decisions]) -> list[Output]:
        """(output, payload): actions by channel as JSON lines, the decision log as a record batch.

        Takes the decisions of many shards at once: a call for a thousand events takes half a millisecond,
        most of it whatever is in them.
        """
        if not decided:
            return []
        joined = join(decided)
        outputs: list[Output] = []
        if len(joined.actions):
            offers = joined.actions[:, ACTION_OFFER].tolist()
            by_channel: dict[str, list[bytes]] = {}
            for offer, line in zip(offers, self._lines(joined, offers), strict=True):
                by_channel.setdefault(self._channels[offer], []).append(line)
            outputs += [(channel, b"".join(lines)) for channel, lines in by_channel.items()]
        outputs.append((DECISIONS, log_batch(joined, self._policies, self._schema)))
        return outputs

    def _lines(self, joined: JoinedDecisions, offers: list[int]) -> list[bytes]:
        rows = joined.actions
        log = joined.log[rows[:, ACTION_LOG]]
        text = joined.text.tobytes()
        header = joined.heap[rows[:, ACTION_RECORD]]
        item = joined.heap[rows[:, ACTION_ITEM]]
        kinds = (joined.pack[rows[:, ACTION_RECORD]] >> 8) & FLAG_KIND
        now = log[:, LOG_NOW]
        times = rfc3339(now)
        dynamic = zip(
            hex_ids(rows[:, ACTION_HI], rows[:, ACTION_LO]),
            hex_ids(log[:, LOG_DECISION_HI], log[:, LOG_DECISION_LO]),
            _json_strings(text, header, STRING_CUSTOMER),
            [KINDS[kind] for kind in kinds.tolist()],
            _json_strings(text, item, STRING_PRODUCT),
            _json_strings(text, item, STRING_CATEGORY),
            *_json_numbers(joined.numbers[:, [0, 1, 4]]),
            rfc3339(now + self._voucher_lives_ms[offers]),
            times,
            times,
            rfc3339(now + self._lives_ms[offers]),
            _json_strings(text, header, STRING_MESSAGE),
            strict=True,
        )  # in the order of DYNAMIC
        return [self._templates[offer] % values for offer, values in zip(offers, dynamic, strict=True)]


def _json_numbers(numbers: npt.NDArray[np.float64]) -> list[list[bytes]]:
    """Each column's numbers as JSON, the shortest form that reads back the same."""
    columns = np.ascontiguousarray(numbers.T)
    text = orjson.dumps(columns, option=orjson.OPT_SERIALIZE_NUMPY)
    return [column.split(b",") for column in text[2:-2].split(b"],[")]


def _json_strings(text: bytes, heaps: Words, string: int) -> list[bytes]:
    """One string of each record as JSON; null where it is absent."""
    start = heaps >> 32
    for before in range(string):
        start = start + ((heaps >> (8 * before)) & 0xFF)
    end = start + ((heaps >> (8 * string)) & 0xFF)
    texts = [text[a:b] for a, b in zip(start.tolist(), end.tolist(), strict=True)]
    if _NEEDS_ESCAPE.search(b"".join(texts)):
        return [_json.encode(each.decode()) if each else b"null" for each in texts]
    return [b'"%b"' % each if each else b"null" for each in texts]


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
