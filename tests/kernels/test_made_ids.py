"""The ids that Segue makes, against the plain hash of the words they are of."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segue_kernels import record, shard
from segue_kernels.jit import Array, kernel
from segue_kernels.made_ids import action_id, decision_id, trigger_id
from tests.kernels.drivers import quick
from tests.reference.hashing import words_hash

WORD = st.integers(-(2**63), 2**63 - 1)
SECRET = st.binary(min_size=16, max_size=16)
SET_WORDS = max(value for name, value in vars(shard).items() if name.startswith("SET_")) + 1


@kernel
def _decision(records: Array, header: int, words: Array, settings: Array) -> tuple[int, int]:
    return decision_id(records, header, words[0], settings)


@kernel
def _action(words: Array, settings: Array) -> tuple[int, int]:
    return action_id(words[0], words[1], words[2], words[3], settings)


@kernel
def _trigger(words: Array, settings: Array) -> tuple[int, int]:
    return trigger_id(words[0], words[1], words[2], words[3], words[4], settings)


def settings_with(secret: bytes) -> Array:
    words = np.zeros(SET_WORDS, np.int64)
    words[[shard.SET_KEY0, shard.SET_KEY1]] = np.frombuffer(secret, np.int64)
    return words


def of_words(words: list[int], secret: bytes) -> tuple[int, int]:
    """As two int64 words."""
    low, high = np.array(words_hash(words, secret), np.uint64).view(np.int64).tolist()
    return low, high


@quick(100)
@given(st.lists(WORD, min_size=5, max_size=5), st.integers(0, 2), SECRET)
def test_ids_are_hashes_of_what_they_are_of(words: list[int], header: int, secret: bytes) -> None:
    records = np.arange(3 * record.RECORD_WORDS, dtype=np.int64).reshape(3, -1)
    customer, message = [record.CUSTOMER_LO, record.CUSTOMER_HI], [record.MESSAGE_LO, record.MESSAGE_HI]
    records[header, customer + message] = words[1:]
    given_, settings = np.array(words, np.int64), settings_with(secret)
    assert _decision(records, header, given_, settings) == of_words([*words[1:], words[0]], secret)
    assert _action(given_, settings) == of_words([*words[:4], 0], secret)
    assert _trigger(given_, settings) == of_words(words, secret)
