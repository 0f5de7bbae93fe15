"""Decisions of many shards as one table: what is encoded is encoded once, not shard by shard."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segue.decide.decisions import Decisions, Grants
from segue_kernels.record import HEAP, PACK, TIME
from segue_kernels.shard import (
    ACTION_ITEM,
    ACTION_ITEMS,
    ACTION_LOG,
    ACTION_RECORD,
    CHANGE_RECORD,
    CREDIT_ITEM,
    CREDIT_RECORD,
    LOG_FIRED,
    LOG_REASONS,
    LOG_RECORD,
    LOG_SAMPLE,
    WITHDRAWN_RECORD,
)

Words = npt.NDArray[np.int64]


@dataclass(slots=True)
class JoinedDecisions:
    """Decisions (decide/engine.py), one after the other: indices and offsets count in the joined tables.

    heap, pack  those words of all records; `heap` points into the joined text
    """

    heap: Words
    pack: Words
    text: npt.NDArray[np.uint8]
    log: Words
    reasons: npt.NDArray[np.uint8]
    fired: npt.NDArray[np.uint16]
    actions: Words
    numbers: npt.NDArray[np.float64]
    sample: npt.NDArray[np.float64]
    changes: Words
    credits: Words
    credit_times: Words  # of the right events
    items: Words
    item_text: npt.NDArray[np.uint8]
    withdrawn: Words
    grants: list[tuple[int, Grants]]  # the first of the actions that they count from, and what was granted


def join(decided: list[Decisions]) -> JoinedDecisions:
    """One table of all, in their order; the originals stay as they are."""
    if len(decided) == 1:
        return _alone(decided[0])
    heaps = [decisions.records[:, HEAP] for decisions in decided]
    logs = [decisions.log.copy() for decisions in decided]
    actions = [decisions.actions.copy() for decisions in decided]
    changes = [decisions.changes.copy() for decisions in decided]
    credits = [decisions.credits.copy() for decisions in decided]
    items = [decisions.items for decisions in decided]
    withdrawn = [decisions.withdrawn.copy() for decisions in decided]
    credit_times = [d.records[d.credits[:, CREDIT_RECORD], TIME] for d in decided]
    grants: list[tuple[int, Grants]] = []
    action_row = 0
    record = text = reason = fired = log_row = sample = item = item_text = 0
    for i, decisions in enumerate(decided):
        log, action = logs[i], actions[i]
        heaps[i] = heaps[i] + (text << 32)
        log[:, LOG_RECORD] += record
        log[:, LOG_REASONS] += reason
        log[:, LOG_FIRED] += fired
        if sample and len(decisions.sample):
            log[log[:, LOG_SAMPLE] >= 0, LOG_SAMPLE] += sample
        action[:, ACTION_LOG] += log_row
        action[:, ACTION_RECORD] += record
        action[:, ACTION_ITEM] += record
        action[:, ACTION_ITEMS] += item
        changes[i][:, CHANGE_RECORD] += record
        credits[i][:, [CREDIT_RECORD, CREDIT_ITEM]] += record
        withdrawn[i][:, WITHDRAWN_RECORD] += record
        items[i] = items[i] + (item_text << 8)
        if decisions.grants is not None:
            grants.append((action_row, decisions.grants))
        action_row += len(action)
        record += len(decisions.records)
        text += len(decisions.text)
        reason += len(decisions.reasons)
        fired += len(decisions.fired)
        log_row += len(log)
        sample += len(decisions.sample)
        item += len(decisions.items)
        item_text += len(decisions.item_text)
    return JoinedDecisions(
        np.concatenate(heaps),
        np.concatenate([decisions.records[:, PACK] for decisions in decided]),
        np.concatenate([decisions.text for decisions in decided]),
        np.concatenate(logs),
        np.concatenate([decisions.reasons for decisions in decided]),
        np.concatenate([decisions.fired for decisions in decided]),
        np.concatenate(actions),
        np.concatenate([decisions.numbers for decisions in decided]),
        np.concatenate([decisions.sample for decisions in decided]),
        np.concatenate(changes),
        np.concatenate(credits),
        np.concatenate(credit_times),
        np.concatenate(items),
        np.concatenate([decisions.item_text for decisions in decided]),
        np.concatenate(withdrawn),
        grants,
    )


def _alone(decisions: Decisions) -> JoinedDecisions:
    return JoinedDecisions(
        np.ascontiguousarray(decisions.records[:, HEAP]),
        decisions.records[:, PACK],
        decisions.text,
        decisions.log,
        decisions.reasons,
        decisions.fired,
        decisions.actions,
        decisions.numbers,
        decisions.sample,
        decisions.changes,
        decisions.credits,
        decisions.records[decisions.credits[:, CREDIT_RECORD], TIME],
        decisions.items,
        decisions.item_text,
        decisions.withdrawn,
        [] if decisions.grants is None else [(0, decisions.grants)],
    )
