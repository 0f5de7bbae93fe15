"""The ids that Segue makes: of decisions, of actions, of what a timer triggers. What is decided again has them again.

An id is the keyed hash of five words that say what it is of: 128 bits, as two int64 words (low, high). Names of
journeys and slots stand there as their hashes (Plan.journey_hash, Plan.slot_hash).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from segue_kernels.jit import Array, inline
from segue_kernels.record import CUSTOMER_HI, CUSTOMER_LO, MESSAGE_HI, MESSAGE_LO
from segue_kernels.shard import SET_KEY0, SET_KEY1
from segue_kernels.siphash import siphash128_words

whole = cast("Callable[[Any], int]", np.int64)


@inline
def _id_of(w0: int, w1: int, w2: int, w3: int, w4: int, settings: Array) -> tuple[int, int]:
    key0, key1 = np.uint64(settings[SET_KEY0]), np.uint64(settings[SET_KEY1])
    low, high = siphash128_words(w0, w1, w2, w3, w4, key0, key1)
    return whole(low), whole(high)


@inline
def decision_id(records: Array, header: int, slot_hash: int, settings: Array) -> tuple[int, int]:
    """Of the decision for a slot that the event of records[header] triggers: its customer, its id, the slot."""
    return _id_of(
        records[header, CUSTOMER_LO],
        records[header, CUSTOMER_HI],
        records[header, MESSAGE_LO],
        records[header, MESSAGE_HI],
        slot_hash,
        settings,
    )


@inline
def action_id(
    decision_lo: int, decision_hi: int, journey_hash: int, step: int, settings: Array
) -> tuple[int, int]:
    """Of the action that a decision leads to: the decision, the journey that won, the step of its waits from 1 on."""
    return _id_of(decision_lo, decision_hi, journey_hash, step, 0, settings)


@inline
def trigger_id(
    journey_hash: int, key: int, time: int, step: int, message: int, settings: Array
) -> tuple[int, int]:
    """Of what a timer triggers, in place of an event's id. Of a check all words but `time` are 0.

    time     ms: of what armed a wait, of a session's end, of a check
    message  low word of the id of the event that armed a wait: a late one may arm it at the time of one whose wait is
             over. Else 0
    """
    return _id_of(journey_hash, key, time, step, message, settings)
