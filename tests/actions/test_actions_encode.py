"""What was decided, as messages: where the customer stands, which wait was over, what is listed, what changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from segue.actions.encode import ActionEncoder
from segue.actions.messages import Action, Withdrawn
from segue.decide.decisions import Decisions
from segue.outputs import CHANGES, DECISIONS, JOINS
from segue.policy.compiled import CompiledPolicies
from segue.policy.load import load_policies
from segue_kernels import plan, record, shard

POLICY = """
policy = "p"
version = 1
[[journeys]]
id = "now"
on = ["Product Viewed"]
when = "True"
[[journeys.offers]]
id = "plain"
channel = "web"
[[journeys]]
id = "later"
on = ["Product Added"]
when = "True"
[[journeys.offers]]
id = "listed"
channel = "email"
"""
NOW = 1_772_438_400_000
CUSTOMER, MESSAGE, PRODUCT, CATEGORY = b"ann", b"e1", "Sch\xfche".encode(), b"shoes"


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> CompiledPolicies:
    """Two offers: one at once, one of a waiting journey that lists products; two segments, two stages, a join."""
    path = tmp_path_factory.mktemp("policies") / "p.toml"
    path.write_text(POLICY)
    loaded = load_policies([path], secret=bytes(16), native=False)
    loaded.journeys[1, plan.JOURNEY_KIND] = plan.ON_WAIT
    loaded.offers[1, plan.OFFER_ITEMS_MAX] = 3
    return replace(
        loaded, segment_ids=("keen", "rich"), stage_ids=("new", "loyal"), join_ids=("view-to-order",)
    )


def told(
    actions: list[dict[int, int]],
    *,
    message: bytes = MESSAGE,
    items: list[bytes] | None = None,
    changes: list[tuple[int, int]] | None = None,
    credits: int = 0,
    withdrawn: list[tuple[int, ...]] | None = None,
) -> Decisions:
    """One record, and a log row and an action of it for each of `actions`."""
    strings = (CUSTOMER, message, PRODUCT, CATEGORY)
    records = np.zeros((1, record.RECORD_WORDS), np.int64)
    records[0, record.TIME] = NOW
    records[0, record.PACK] = record.KIND_LOYALTY << 8
    records[0, record.HEAP] = sum(len(text) << (8 * i) for i, text in enumerate(strings))
    log = np.zeros((len(actions), shard.LOG_WORDS), np.int64)
    log[:, shard.LOG_NOW] = NOW
    log[:, shard.LOG_SAMPLE] = log[:, shard.LOG_WINNER] = -1
    rows = np.zeros((len(actions), shard.ACTION_WORDS), np.int64)
    for i, action in enumerate(actions):
        rows[i, shard.ACTION_LOG] = i
        for column, value in action.items():
            rows[i, column] = value
    places, at = [], 0
    for item in items or []:
        places.append(at << 8 | len(item))
        at += len(item)
    return Decisions(
        records=records,
        text=np.frombuffer(b"".join(strings), np.uint8),
        log=log,
        reasons=np.zeros(0, np.uint8),
        fired=np.zeros(0, np.uint16),
        actions=rows,
        numbers=np.full((len(actions), 5), 0.5),
        sample=np.zeros((0, shard.SAMPLE_WORDS)),
        changes=np.array([(0, code, now, 0) for code, now in changes or []], np.int64).reshape(
            -1, shard.CHANGE_WORDS
        ),
        credits=np.array([(0, 0, 0, NOW - 5, 0xAB, 0)] * credits, np.int64).reshape(-1, shard.CREDIT_WORDS),
        items=np.array(places, np.int64),
        item_text=np.frombuffer(b"".join(items or []), np.uint8),
        withdrawn=np.array(withdrawn or [], np.int64).reshape(-1, shard.WITHDRAWN_WORDS),
        spans=np.array(
            [(0, 0, len(actions), len(actions), len(changes or []), credits, len(withdrawn or []))], np.int64
        ),
    )


def test_what_is_taken_back_stands_behind_the_actions_of_its_channel(policies: CompiledPolicies) -> None:
    row = (0, 0, 2, 7, 8, 5, 6, shard.WHY_GOAL, NOW + 1)
    mail = policies.offer_infos[0]
    outputs = ActionEncoder(policies).encode([told([{}]), told([], withdrawn=[row, row]), told([{}])])
    [payload] = [payload for name, payload in outputs if name == mail.channel]
    found = [msgspec.json.decode(line) for line in payload.splitlines()]
    assert [each["kind"] for each in found] == ["action"] * 2 + ["withdrawn"] * 2
    back = msgspec.convert(found[-1], Withdrawn)
    assert list(found[-1]) == list(Withdrawn.__struct_fields__)
    assert back.action_id == f"{8:016x}{7:016x}"
    assert back.decision_id == f"{6:016x}{5:016x}"
    assert (back.reason, back.step, back.offer, back.placement) == ("goal", 2, mail.id, mail.placement)
    assert (back.customer_id, back.causation_id) == (found[0]["customer_id"], found[0]["causation_id"])
    alone = ActionEncoder(policies).encode([told([], message=b"", withdrawn=[row])])
    assert msgspec.json.decode(alone[0][1])["causation_id"] is None


def lines(outputs: list[Any], channel: str) -> list[dict[str, Any]]:
    [payload] = [payload for name, payload in outputs if name == channel]
    found = [msgspec.json.decode(line) for line in payload.splitlines()]
    for each in found:
        msgspec.convert(each, Action)
        assert list(each) == list(Action.__struct_fields__)
    return found


def rows(outputs: list[Any], name: str) -> list[dict[str, Any]]:
    [batch] = [payload for output, payload in outputs if output == name]
    assert isinstance(batch, pa.RecordBatch)
    batch.validate(full=True)
    found: list[dict[str, Any]] = batch.to_pylist()
    return found


def test_where_the_customer_stands_and_what_is_listed(policies: CompiledPolicies) -> None:
    waited = {
        shard.ACTION_OFFER: 1,
        shard.ACTION_STEP: 3,
        shard.ACTION_SEGMENTS: 0b11,
        shard.ACTION_STAGE: 1,
        shard.ACTION_ITEMS: 1,
        shard.ACTION_ITEMS_COUNT: 2,
    }
    at_once = {shard.ACTION_SEGMENTS: 0b10}
    decided = [
        told([at_once], items=[b"elsewhere"]),
        told([waited], items=[b"skip", b"p1", PRODUCT]),
    ]
    outputs = ActionEncoder(policies).encode(decided)
    [web], [email] = lines(outputs, "web"), lines(outputs, "email")
    assert (web["segments"], web["stage"], web["step"], web["items"]) == (["rich"], "new", 1, [])
    assert (email["segments"], email["stage"], email["step"]) == (["keen", "rich"], "loyal", 3)
    assert email["items"] == ["p1", PRODUCT.decode()]
    assert email["causation_id"] == "e1"


def test_time_alone_has_no_cause(policies: CompiledPolicies) -> None:
    outputs = ActionEncoder(policies).encode([told([{}], message=b"", changes=[(0, NOW)])])
    assert lines(outputs, "web")[0]["causation_id"] is None
    assert rows(outputs, DECISIONS)[0]["causation_id"] is None
    assert rows(outputs, CHANGES)[0]["causation_id"] is None


def test_changes_and_joins(policies: CompiledPolicies) -> None:
    codes = [(0, NOW), (3, NOW + 1), (5, NOW + 2)]
    outputs = ActionEncoder(policies).encode([told([{}]), told([], changes=codes, credits=1)])
    found = rows(outputs, CHANGES)
    assert [(row["name"], row["change"]) for row in found] == [
        ("keen", "entered"),
        ("rich", "left"),
        ("loyal", "stage"),
    ]
    assert {(row["customer_id"], row["customer_kind"]) for row in found} == {("ann", "loyalty")}
    assert [row["time"].timestamp() * 1_000 for row in found] == [NOW, NOW + 1, NOW + 2]
    [join] = rows(outputs, JOINS)
    assert join["join"] == "view-to-order"
    assert join["left_id"] == "ab".rjust(32, "0")
    assert (join["time"] - join["left_time"]).total_seconds() == 0.005
    assert (join["product_id"], join["causation_id"]) == (PRODUCT.decode(), "e1")


def test_outputs_only_where_policies_can_fill_them(policies: CompiledPolicies) -> None:
    assert ActionEncoder(policies).outputs == ["email", "web", DECISIONS, CHANGES, JOINS]
    plain = replace(policies, segment_ids=(), stage_ids=(), join_ids=())
    encoder = ActionEncoder(plain)
    assert encoder.outputs == ["email", "web", DECISIONS]
    outputs = encoder.encode([told([{}])])
    [web] = lines(outputs, "web")
    assert (web["segments"], web["stage"]) == ([], None)
    changes_only = ActionEncoder(policies).encode([told([], changes=[(1, NOW)])])
    assert [name for name, _ in changes_only] == [CHANGES]
