"""The scanner's tables, built from the msgspec types and the registry of names: nothing is written twice.

A key (or type) is found by one multiplication: `first eight bytes, length -> slot` without collisions.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import msgspec
import numpy as np
from numpy.typing import NDArray

from segue import limits
from segue.events import names
from segue.events.money import exponent_table, letters_code
from segue.events.rows import Terms
from segue.events.types import ALIASES, Message
from segue.reference.zones import zone_numbers
from segue_kernels import scan

_MASK = (1 << 64) - 1
_STEP = 0x9E3779B97F4A7C15
_KEY_BITS = 9
_TYPE_BITS = 11
_ZONE_BITS = 11  # some 600 names
_PURPOSE_SHIFT = 8  # in a CODE word (names.consent_word)
_ROLES = {
    names.IDENTIFY: scan.ROLE_IDENTIFY,
    names.ALIAS: scan.ROLE_ALIAS,
    names.UNSUBSCRIBED: scan.ROLE_UNSUBSCRIBED,
    names.CONSENT_CHANGED: scan.ROLE_CONSENT,
    **dict.fromkeys(names.REFERENCE_CODES, scan.ROLE_REFERENCE),
    **dict.fromkeys(names.ROW_CODES, scan.ROLE_LEFT),
}


@dataclass(frozen=True, slots=True)
class Tables:
    """keys uint64[512,4], types and zones uint64[2048,6], consents uint64[n,4], multipliers uint64[2], exponents
    int64[17577] (see scan.py)."""

    keys: NDArray[np.uint64]
    types: NDArray[np.uint64]
    zones: NDArray[np.uint64]
    consents: NDArray[np.uint64]
    multipliers: NDArray[np.uint64]
    exponents: NDArray[np.int64]


def field_numbers() -> dict[str, tuple[int, bool]]:
    """JSON key -> (the scanner's field, whether the key is an alias), of every key a Message knows."""
    canonical = {alias: name for name, aliases in ALIASES.items() for alias in aliases}
    numbers: dict[str, tuple[int, bool]] = {}
    for field in msgspec.structs.fields(Message):
        name = canonical.get(field.name, field.name)
        number = scan.FIELDS.index(name) if name in scan.FIELDS else scan.ELSEWHERE
        numbers[field.encode_name] = (number, field.name in canonical)
    return numbers


@cache
def tables() -> Tables:
    """The tables; the same in every process."""
    keys = {key.encode(): entry for key, entry in field_numbers().items()}
    # keys too long for the scanner are unknown to it: it leaves every key of their length
    keys = {key: entry for key, entry in keys.items() if len(key) <= scan.KEY_BYTES_MAX}
    key_multiplier = _perfect(keys, _key_mix, _KEY_BITS)
    key_table = np.zeros((1 << _KEY_BITS, scan.KEY_WORDS), dtype=np.uint64)
    for key, (number, is_alias) in keys.items():
        slot = _key_mix(key) * key_multiplier % (1 << 64) >> (64 - _KEY_BITS)
        key_table[slot] = (_word(key[:8]), _last(key), len(key), number | int(is_alias) << 8)

    spellings = {name.encode(): code for name, code in names.CODE_BY_SPELLING.items()}
    type_multiplier = _perfect(spellings, _type_mix, _TYPE_BITS)
    type_table = np.zeros((1 << _TYPE_BITS, scan.TYPE_WORDS), dtype=np.uint64)
    for name, code in spellings.items():
        slot = _type_mix(name) * type_multiplier % (1 << 64) >> (64 - _TYPE_BITS)
        type_table[slot] = _type_words(name, code | _ROLES.get(code, scan.ROLE_PLAIN) << 8)
    return Tables(
        key_table,
        type_table,
        _zone_table(type_multiplier),
        _consent_table(),
        np.array([key_multiplier, type_multiplier], dtype=np.uint64),
        exponent_table(),
    )


def _zone_table(multiplier: int) -> NDArray[np.uint64]:
    table = np.zeros((1 << _ZONE_BITS, scan.TYPE_WORDS), dtype=np.uint64)
    for text, number in zone_numbers().items():
        name = text.encode()
        if len(name) <= scan.TYPE_BYTES_MAX:  # a longer one is left to msgspec
            slot = _type_mix(name) * multiplier % (1 << 64) >> (64 - _ZONE_BITS)
            while table[slot, scan.TYPE_LENGTH]:
                slot = (slot + 1) % (1 << _ZONE_BITS)
            table[slot] = _type_words(name, number)
    return table


def _consent_table() -> NDArray[np.uint64]:
    told = [(name, scan.CHANNEL, index) for index, name in enumerate(names.CHANNELS)]
    told += [(name, scan.PURPOSE, index << _PURPOSE_SHIFT) for index, name in enumerate(names.PURPOSES)]
    table = np.zeros((len(told), scan.KEY_WORDS), dtype=np.uint64)
    for row, (name, field, bits) in zip(table, told, strict=True):
        text = name.encode()
        row[:] = (_word(text[:8]), _last(text), len(text), field | bits << 8)
    return table


def settings_of(terms: Terms) -> NDArray[np.int64]:
    """The scanner's settings int64[16] for a deployment."""
    settings = np.zeros(scan.SETTINGS, dtype=np.int64)
    settings[scan.SET_KEY_SHIFT] = 64 - _KEY_BITS
    settings[scan.SET_TYPE_SHIFT] = 64 - _TYPE_BITS
    settings[scan.SET_ZONE_SHIFT] = 64 - _ZONE_BITS
    settings[scan.SET_CURRENCY] = letters_code(terms.currency)
    settings[scan.SET_TIME_MIN] = limits.EVENT_TIME_MS_MIN
    settings[scan.SET_TIME_MAX] = terms.arrival_ms + limits.FUTURE_MS_MAX
    settings[scan.SET_MONEY_MAX] = limits.MONEY_MINOR_MAX
    settings[scan.SET_QUANTITY_MAX] = limits.QUANTITY_MAX
    settings[scan.SET_LINES_MAX] = limits.LINES_PER_EVENT_MAX
    settings[scan.SET_BYTES_MAX] = limits.MESSAGE_BYTES_MAX
    settings[scan.SET_UNSUBSCRIBED] = names.suppression_word(0)
    settings[scan.SET_GRANTED] = names.consent_word(0, 0, True)
    settings[scan.SET_WITHDRAWN] = names.consent_word(0, 0, False)
    settings[scan.SET_PURPOSE] = names.PURPOSES.index(names.PURPOSE_DEFAULT) << _PURPOSE_SHIFT
    settings[scan.SET_CHANNEL] = names.CHANNELS.index(names.CHANNEL_DEFAULT)
    return settings


def _word(text: bytes) -> int:
    return int.from_bytes(text, "little")


def _last(text: bytes) -> int:
    return _word(text[-8:]) if len(text) > 8 else 0


def _type_words(name: bytes, code: int) -> tuple[int, ...]:
    second, before_last = (_word(name[8:16]), _word(name[-16:-8])) if len(name) > 16 else (0, 0)
    return _word(name[:8]), _last(name), second, before_last, len(name), code


def _key_mix(key: bytes) -> int:
    return _word(key[:8]) ^ len(key) * _STEP & _MASK


def _type_mix(name: bytes) -> int:
    last = _last(name)
    return _word(name[:8]) ^ (last << 29 & _MASK | last >> 35) ^ len(name) * _STEP & _MASK


def _perfect(
    texts: dict[bytes, tuple[int, bool]] | dict[bytes, int], mix: Callable[[bytes], int], bits: int
) -> int:
    """An odd multiplier under which no two texts share a slot."""
    generator = random.Random(1)
    mixed = [mix(text) for text in texts]
    while True:
        multiplier = generator.getrandbits(64) | 1
        if len({word * multiplier % (1 << 64) >> (64 - bits) for word in mixed}) == len(mixed):
            return multiplier
