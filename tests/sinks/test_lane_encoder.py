"""Decisions as messages of lanes: nothing lost or doubled on the way to its lane, and receipts that say what it was."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from segue import limits
from segue.actions.encode import ActionEncoder
from segue.decide.decisions import Decisions
from segue.events.batch import DeadLetter, Late
from segue.kafka.receipts import (
    IDS,
    RECEIPTS,
    change_ids,
    offer_hash,
    offer_words,
    pack_receipts,
    row_id,
    unpack_ids,
    unpack_receipts,
)
from segue.kafka.settings import KafkaSettings
from segue.policy.compiled import CompiledPolicies
from segue.sinks.kafka.encode import LaneEncoder
from segue.sinks.kafka.message import LaneMessage, header
from segue.sinks.kafka.tables import rows_of_stream
from segue_kernels import receipt, record, shard
from tests.actions.test_actions_encode import NOW, policies, told

__all__ = ["policies"]  # the fixture

SETTINGS = KafkaSettings(brokers="127.0.0.1:1", name="shop", prefix="shop.", lanes=3)


def decided(policies: CompiledPolicies, part: int, sequence: int, count: int) -> Decisions:
    """A run of a part: log rows of which every second one won, a change and a credit."""
    made = told(
        [{shard.ACTION_OFFER: i % 2, shard.ACTION_LO: part * 1000 + i} for i in range(count)],
        changes=[(i % 2, NOW + i) for i in range(count)],
        credits=1,
    )
    made.records[:, [record.CUSTOMER_LO, record.CUSTOMER_HI, record.PRODUCT, record.CATEGORY]] = [
        part,
        7,
        8,
        9,
    ]
    made.log[:, shard.LOG_DECISION_LO] = part * 1000 + np.arange(count)
    made.log[:, shard.LOG_DECISION_HI] = sequence
    actions = made.actions[::2].copy()
    made.log[:, shard.LOG_HELD] = -1
    made.log[::2, shard.LOG_WINNER] = actions[:, shard.ACTION_OFFER]
    spans = np.array([(part, sequence, count, len(actions), count, 1, 0)], np.int64)
    return replace(made, actions=actions, numbers=made.numbers[::2], spans=spans)


def receipts(message: LaneMessage) -> Any:
    data = header(message.headers, RECEIPTS)
    assert data is not None
    return unpack_receipts(data)


def rows(message: LaneMessage) -> list[dict[str, Any]]:
    with pa.ipc.open_stream(message.value) as reader:
        found: list[dict[str, Any]] = reader.read_all().to_pylist()
    return found


def of_topic(items: list[tuple[int, list[LaneMessage]]], name: str) -> list[tuple[int, LaneMessage]]:
    return [
        (lane, message) for lane, messages in items for message in messages if message.topic == "shop." + name
    ]


def test_every_row_goes_to_the_lane_of_its_part_once(policies: CompiledPolicies) -> None:
    parts = [4, 0, receipt.ANONYMOUS_PART + 1, 3, 4, 2, receipt.ANONYMOUS_PART + 5]
    runs = [decided(policies, part, 10 + i, 4) for i, part in enumerate(parts)]
    items = LaneEncoder(policies, SETTINGS).encode(runs)
    lanes = [lane for lane, _ in items]
    assert sorted(lanes) == [0, 1, 2]  # each once: one item, one transaction
    logged = []
    for lane, message in of_topic(items, "decisions"):
        words = receipts(message)
        told_rows = rows(message)
        assert len(words) == len(told_rows)
        for word, row in zip(words.tolist(), told_rows, strict=True):
            part = word[receipt.RECEIPT_PART]
            assert (part % receipt.ANONYMOUS_PART) % 3 == lane
            assert (
                row["decision_id"]
                == f"{word[receipt.RECEIPT_DECISION_HI]:016x}{word[receipt.RECEIPT_DECISION_LO]:016x}"
            )
            assert word[receipt.RECEIPT_FLAGS] == receipt.RECEIPT_IS_LOGGED
            assert (word[receipt.RECEIPT_OFFER] != 0) == (row["winner"] is not None)
            logged.append((part, word[receipt.RECEIPT_SEQUENCE], word[receipt.RECEIPT_DECISION_LO]))
    assert sorted(logged) == sorted(
        (part, 10 + i, part * 1000 + k) for i, part in enumerate(parts) for k in range(4)
    )
    for name, count in (("changes", 4), ("joins", 1)):
        found = of_topic(items, name)
        assert sum(len(rows(message)) for _, message in found) == count * len(parts)
        for _, message in found:
            ids = header(message.headers, IDS)
            assert ids is not None
            assert len(unpack_ids(ids)) == len(rows(message))


def test_an_action_says_in_its_headers_what_its_line_says(policies: CompiledPolicies) -> None:
    runs = [decided(policies, 4, 11, 4), decided(policies, 2, 12, 3)]
    items = LaneEncoder(policies, SETTINGS).encode(runs)
    lines = {
        line
        for name, payload in ActionEncoder(policies).encode(runs)
        if isinstance(payload, bytes)
        for line in payload.splitlines()
    }
    actions = of_topic(items, "web") + of_topic(items, "email")
    assert {message.value for _, message in actions} == lines
    assert len(actions) == len(lines) == 4
    for lane, message in actions:
        [word] = receipts(message).tolist()
        action = msgspec.json.decode(message.value)
        headers = dict(message.headers)
        assert lane == word[receipt.RECEIPT_PART] % 3
        assert message.key == action["customer_id"].encode() == headers["ce_subject"]
        assert message.topic == "shop." + action["channel"]
        assert headers["ce_id"].decode() == action["action_id"]
        assert headers["ce_time"].decode() == action["time"]
        assert headers["ce_source"] == b"segue/shop"
        assert headers["ce_specversion"] == b"1.0"
        assert headers["content-type"] == b"application/json"
        assert word[receipt.RECEIPT_OFFER] == offer_hash(action["journey"], action["offer"])
        assert word[receipt.RECEIPT_FLAGS] == receipt.RECEIPT_IS_SENT
        assert word[receipt.RECEIPT_CUSTOMER_KIND] == record.KIND_LOYALTY
        assert word[receipt.RECEIPT_CUSTOMER_LO : receipt.RECEIPT_CUSTOMER_HI + 1] == [word[0], 7]
        assert word[receipt.RECEIPT_PRODUCT : receipt.RECEIPT_CATEGORY + 1] == [8, 9]
        assert word[receipt.RECEIPT_TIME] == NOW


def test_what_is_taken_back_says_whose_decision_it_was_of(policies: CompiledPolicies) -> None:
    row = (0, 0, 1, 7, 8, 5, 6, shard.WHY_CONSENT, NOW + 1)
    runs = []
    for part, counts in ((4, (1, 2)), (2, (2, 2))):
        made = told([], withdrawn=[row] * counts[1])
        made.records[:, [record.CUSTOMER_LO, record.CUSTOMER_HI]] = part, 7
        spans = np.array([(part, 30 + n, 0, 0, 0, 0, end) for n, end in enumerate(counts)], np.int64)
        runs.append(replace(made, spans=spans))
    items = LaneEncoder(policies, SETTINGS).encode(runs)
    found = of_topic(items, policies.offer_infos[0].channel)
    words = [receipts(message).tolist() for _, message in found]
    assert all(len(each) == 1 for each in words)
    assert [(word[receipt.RECEIPT_PART], word[receipt.RECEIPT_SEQUENCE]) for [word] in words] == [
        *((4, 30), (4, 31)),
        *((2, 30), (2, 30)),
    ]
    for (lane, message), [word] in zip(found, words, strict=True):
        headers = dict(message.headers)
        assert lane == word[receipt.RECEIPT_PART] % 3
        assert word[receipt.RECEIPT_FLAGS] == receipt.RECEIPT_IS_WITHDRAWN
        assert word[receipt.RECEIPT_DECISION_LO : receipt.RECEIPT_DECISION_HI + 1] == [5, 6]
        assert (word[receipt.RECEIPT_OFFER], word[receipt.RECEIPT_TIME]) == (0, NOW + 1)
        assert word[receipt.RECEIPT_CUSTOMER_KIND] == record.KIND_LOYALTY
        told_in = msgspec.json.decode(message.value)
        assert headers["ce_id"].decode() == told_in["action_id"] + "-withdrawn"
        assert headers["ce_type"] == b"segue.withdrawn"
        assert headers["ce_time"].decode() == told_in["time"]
        assert message.key == headers["ce_subject"] == told_in["customer_id"].encode()


def test_a_large_log_is_cut_into_messages_within_bounds(policies: CompiledPolicies) -> None:
    items = LaneEncoder(policies, SETTINGS).encode([decided(policies, 0, 1, 5_000)])
    messages = [message for _, message in of_topic(items, "decisions")]
    assert len(messages) > 1
    for message in messages:
        size = len(message.value) + sum(len(name) + len(value) for name, value in message.headers)
        assert size < 1.05 * limits.MESSAGE_BYTES_TARGET
    found = [row["decision_id"] for message in messages for row in rows(message)]
    assert found == [f"{1:016x}{k:016x}" for k in range(5_000)]
    words = np.concatenate([receipts(message) for message in messages])
    assert words[:, receipt.RECEIPT_DECISION_LO].tolist() == list(range(5_000))


def test_without_a_log_its_topic_has_the_same_receipts_and_no_rows(policies: CompiledPolicies) -> None:
    runs = [decided(policies, 0, 1, 5_000), decided(policies, 1, 2, 3)]
    logged, silent = (LaneEncoder(policies, SETTINGS, log).encode(runs) for log in (True, False))
    told: list[list[list[int]]] = []
    for items in (logged, silent):
        found = of_topic(items, "decisions")
        told.append([[lane, *word] for lane, message in found for word in receipts(message).tolist()])
    assert told[0] == told[1]
    for _, message in of_topic(silent, "decisions"):
        assert rows(message) == []
        size = len(message.value) + sum(len(name) + len(value) for name, value in message.headers)
        assert size < 1.05 * limits.MESSAGE_BYTES_TARGET
    for name in ("web", "email", "changes", "joins"):
        assert of_topic(logged, name) == of_topic(silent, name)
    assert LaneEncoder(policies, SETTINGS, False).topics == LaneEncoder(policies, SETTINGS).topics


def test_ids_are_those_of_the_rows_however_they_are_gathered(policies: CompiledPolicies) -> None:
    first, second = decided(policies, 0, 1, 3), decided(policies, 5, 1, 3)
    together = change_ids([first, second], policies).tolist()
    assert together == change_ids([first], policies).tolist() + change_ids([second], policies).tolist()
    assert len({tuple(each) for each in together}) == 6
    assert together[:3] == change_ids([replace(first, spans=first.spans + 9)], policies).tolist()


def test_what_was_refused_is_a_message_each(policies: CompiledPolicies) -> None:
    encoder = LaneEncoder(policies, SETTINGS)
    dead = [DeadLetter("t/0", 1, 7, "no JSON", b"x\n\xff", partition=4, row=k) for k in range(2)]
    late = [Late("t/1", 1, 8, b"{}", 5, NOW, partition=0, row=3)]
    items = encoder.refused(dead, late)
    found = [(lane, dict(message.headers)[IDS]) for lane, message in of_topic(items, "dead_letters")]
    assert found == [(1, row_id(4, 0)), (1, row_id(4, 1))]
    [(lane, message)] = of_topic(items, "late")
    assert (lane, dict(message.headers)[IDS]) == (0, row_id(0, 3))
    assert msgspec.json.decode(message.value)["delay_ms"] == 5
    assert encoder.refused([], []) == []


def test_topics_are_all_that_can_be_sent_to(policies: CompiledPolicies) -> None:
    names = ["email", "web", "decisions", "changes", "joins", "dead_letters", "late", "heartbeat"]
    assert LaneEncoder(policies, SETTINGS).topics == ["shop." + name for name in names]


def test_rows_can_be_taken_out_of_a_message(policies: CompiledPolicies) -> None:
    [(_, message)] = of_topic(LaneEncoder(policies, SETTINGS).encode([decided(policies, 0, 1, 4)]), "changes")
    left = message._replace(value=rows_of_stream(message.value, [False, True, True, False]))
    assert rows(left) == rows(message)[1:3]


def test_receipts_read_back_as_they_were() -> None:
    words = np.arange(2 * receipt.RECEIPT_WORDS).reshape(2, -1) - 5
    assert unpack_receipts(pack_receipts(words)).tolist() == words.tolist()
    with pytest.raises(ValueError, match="130 bytes are no whole number of receipts"):
        unpack_receipts(bytes(130))
    with pytest.raises(ValueError, match="17 bytes are no whole number of ids"):
        unpack_ids(bytes(17))


def test_offers_of_two_journeys_differ(policies: CompiledPolicies) -> None:
    assert offer_hash("a", "bc") != offer_hash("ab", "c")
    assert offer_words(policies)[:, 0].tolist() == [offer_hash("now", "plain"), offer_hash("later", "listed")]
