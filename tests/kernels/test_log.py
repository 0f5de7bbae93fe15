"""The decision log's columns and receipts, against the same built row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from segue.actions.joined import JoinedDecisions, join
from segue.actions.log import LOG_FIELDS, LogNames, log_table, names
from segue.decide.decisions import Decisions
from segue.kafka.receipts import receipts_of
from segue_kernels import receipt, record, shard
from tests.kernels.drivers import quick

WORD = st.integers(-(2**63), 2**63 - 1)
NAMES = ["a", "b", "c"]
OFFERS = np.array([[5, 1], [-6, 16], [7, 3]], np.int64)
STRINGS = st.sampled_from(["", "x", "Zoë", "a" * 255, "sku-1"])


@st.composite
def decisions(draw: st.DrawFn) -> Decisions:
    """Records, log rows of them, some with an action, in spans."""
    texts: list[bytes] = []
    records = np.array(
        draw(st.lists(st.lists(WORD, min_size=16, max_size=16), min_size=1, max_size=4)), np.int64
    )
    at = 0
    for row in records:
        strings = [draw(STRINGS).encode() for _ in range(4)]
        row[record.HEAP] = at << 32 | sum(len(text) << (8 * k) for k, text in enumerate(strings))
        texts += strings
        at += sum(map(len, strings))
    count = draw(st.integers(0, 20))
    log = np.zeros((count, shard.LOG_WORDS), np.int64)
    reasons = fired = sampled = 0
    numbers = st.integers(0, 3)
    for row in log:
        row[shard.LOG_RECORD] = draw(st.integers(0, len(records) - 1))
        row[shard.LOG_SLOT] = draw(st.integers(0, 2))
        row[shard.LOG_WINNER] = draw(st.integers(-1, 2))
        row[[shard.LOG_DECISION_LO, shard.LOG_DECISION_HI]] = draw(WORD), draw(WORD)
        row[shard.LOG_NOW] = draw(st.integers(0, 2**42))
        row[shard.LOG_ZONE] = draw(st.integers(0, 1_023))
        row[shard.LOG_HELD] = draw(st.integers(-1, 2)) if row[shard.LOG_WINNER] < 0 else -1
        row[[shard.LOG_CANDIDATES, shard.LOG_REASONS]] = draw(numbers), reasons
        row[[shard.LOG_FIRED_COUNT, shard.LOG_FIRED]] = draw(numbers), fired
        row[shard.LOG_SAMPLE] = sampled if draw(st.booleans()) else -1
        reasons += row[shard.LOG_CANDIDATES]
        fired += row[shard.LOG_FIRED_COUNT]
        sampled += row[shard.LOG_CANDIDATES] if row[shard.LOG_SAMPLE] >= 0 else 0
    of = sorted(draw(st.sets(st.integers(0, count - 1)))) if count else []
    actions = np.zeros((len(of), shard.ACTION_WORDS), np.int64)
    actions[:, shard.ACTION_LOG] = of
    actions[:, shard.ACTION_ITEM] = [draw(st.integers(0, len(records) - 1)) for _ in of]
    ends = [*sorted(draw(st.lists(st.integers(0, count), max_size=3))), count]
    spans = np.array([(9 + k, draw(WORD), end, 0, 0, 0, 0) for k, end in enumerate(ends)], np.int64)

    def some(size: int, kind: Any) -> npt.NDArray[Any]:
        return np.arange(7, 7 + size).astype(kind)

    return Decisions(
        records=records,
        text=np.frombuffer(b"".join(texts), np.uint8).copy(),
        log=log,
        reasons=some(reasons, np.uint8),
        fired=some(fired, np.uint16) * 300,
        actions=actions,
        numbers=np.zeros((len(of), 5)),
        sample=some(shard.SAMPLE_WORDS * sampled, np.float64).reshape(-1, shard.SAMPLE_WORDS) / 3,
        changes=np.zeros((0, shard.CHANGE_WORDS), np.int64),
        credits=np.zeros((0, shard.CREDIT_WORDS), np.int64),
        items=np.zeros(0, np.int64),
        item_text=np.zeros(0, np.uint8),
        withdrawn=np.zeros((0, shard.WITHDRAWN_WORDS), np.int64),
        spans=spans,
    )


def string(decided: Decisions, row: int, number: int) -> str:
    heap = int(decided.records[row, record.HEAP])
    start = (heap >> 32) + sum(heap >> (8 * k) & 0xFF for k in range(number))
    return bytes(decided.text[start : start + (heap >> (8 * number) & 0xFF)]).decode()


def plain_rows(decided: Decisions) -> list[dict[str, Any]]:
    found = []
    for row in decided.log.tolist():
        candidates, sample = row[shard.LOG_CANDIDATES], row[shard.LOG_SAMPLE]
        fired = slice(row[shard.LOG_FIRED], row[shard.LOG_FIRED] + row[shard.LOG_FIRED_COUNT])
        numbers = decided.sample[sample : sample + candidates].tolist() if sample >= 0 else None
        high, low = row[shard.LOG_DECISION_HI] % 2**64, row[shard.LOG_DECISION_LO] % 2**64
        found.append(
            {
                "decision_id": f"{high:016x}{low:016x}",
                "customer_id": string(decided, row[shard.LOG_RECORD], record.STRING_CUSTOMER),
                "time": row[shard.LOG_NOW],
                "causation_id": string(decided, row[shard.LOG_RECORD], record.STRING_MESSAGE) or None,
                "channel": NAMES[row[shard.LOG_SLOT]],
                "placement": NAMES[row[shard.LOG_SLOT]].upper(),
                "winner": NAMES[row[shard.LOG_WINNER]] if row[shard.LOG_WINNER] >= 0 else None,
                "journeys": decided.fired[fired].tolist(),
                "reasons": bytes(decided.reasons[row[shard.LOG_REASONS] :][:candidates]),
                "propensities": None if numbers is None else [one for one, _, _ in numbers],
                "contexts": None if numbers is None else [context for _, context, _ in numbers],
                "scores": None if numbers is None else [score for _, _, score in numbers],
            }
        )
    return found


def told(joined: JoinedDecisions) -> list[dict[str, Any]]:
    known = LogNames(names(NAMES), names([name.upper() for name in NAMES]), names(NAMES))
    schema = pa.schema(LOG_FIELDS)
    batch = log_table(joined).batch(known, schema)
    batch.validate(full=True)
    time = schema.get_field_index("time")
    times = batch.column(time).cast(pa.int64())
    rows: list[dict[str, Any]] = batch.set_column(time, "time", times).to_pylist()
    return rows


@quick(100)
@given(st.lists(decisions(), min_size=1, max_size=3))
def test_rows_are_those_of_the_decisions(decided: list[Decisions]) -> None:
    assert told(join(decided)) == [row for each in decided for row in plain_rows(each)]


@quick(100)
@given(st.lists(decisions(), min_size=1, max_size=3))
def test_receipts_say_who_was_decided_on_and_what_was_sent(decided: list[Decisions]) -> None:
    rows, sent = [], []
    for each in decided:
        first = len(rows)
        start = 0
        for span in each.spans.tolist():
            for row in each.log[start : span[shard.SPAN_LOG_END]].tolist():
                head = each.records[row[shard.LOG_RECORD]].tolist()
                words = [0] * receipt.RECEIPT_WORDS
                words[receipt.RECEIPT_PART] = span[shard.SPAN_PART]
                words[receipt.RECEIPT_SEQUENCE] = span[shard.SPAN_SEQUENCE]
                words[receipt.RECEIPT_CUSTOMER_LO] = head[record.CUSTOMER_LO]
                words[receipt.RECEIPT_CUSTOMER_HI] = head[record.CUSTOMER_HI]
                words[receipt.RECEIPT_CUSTOMER_KIND] = head[record.PACK] >> 8 & record.FLAG_KIND
                words[receipt.RECEIPT_DECISION_LO] = row[shard.LOG_DECISION_LO]
                words[receipt.RECEIPT_DECISION_HI] = row[shard.LOG_DECISION_HI]
                words[receipt.RECEIPT_TIME] = row[shard.LOG_NOW]
                words[receipt.RECEIPT_ZONE] = row[shard.LOG_ZONE]
                words[receipt.RECEIPT_FLAGS] = receipt.RECEIPT_IS_LOGGED
                if row[shard.LOG_WINNER] >= 0:
                    words[receipt.RECEIPT_OFFER] = int(OFFERS[row[shard.LOG_WINNER], 0])
                    words[receipt.RECEIPT_CONTACT] = int(OFFERS[row[shard.LOG_WINNER], 1])
                elif row[shard.LOG_HELD] >= 0:
                    words[receipt.RECEIPT_OFFER] = int(OFFERS[row[shard.LOG_HELD], 0])
                    words[receipt.RECEIPT_FLAGS] |= receipt.RECEIPT_IS_HELD
                rows.append(words)
            start = span[shard.SPAN_LOG_END]
        for action in each.actions.tolist():
            words = rows[first + action[shard.ACTION_LOG]]
            item = each.records[action[shard.ACTION_ITEM]].tolist()
            words[receipt.RECEIPT_PRODUCT] = item[record.PRODUCT]
            words[receipt.RECEIPT_CATEGORY] = item[record.CATEGORY]
            sent.append([*words])
            sent[-1][receipt.RECEIPT_FLAGS] = receipt.RECEIPT_IS_SENT
    of_log, of_actions = receipts_of(decided, OFFERS)
    assert of_log.tolist() == rows
    assert of_actions.tolist() == sent
