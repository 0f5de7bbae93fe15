"""Voucher codes: 60 bits as twelve characters of Crockford's base32 and his check character, the number modulo 37.

Law: what a person may change without meaning to (case, hyphens and spaces, O for 0, I and L for 1) leaves a code the
same; one wrong character, or two neighbours swapped, never leaves a code that fits its check character.

Printed in groups of 4, 4 and 5: K7QM-0XWT-93BVD. Crockford's check characters 32 to 36 (* ~ $ = U) can neither be said
at a till nor typed on many, so no code is made whose check character is one of them; they are read all the same.
A code is the keyed pseudo-random function (SipHash-1-3, 128 bits out, the low 60 used) of (campaign, decision,
attempt): without the key neither the next code nor how many there are can be told from any number of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from segue_kernels.jit import Array, inline, kernel
from segue_kernels.siphash import siphash64, siphash128_words

CODE_BITS = 60
CODE_MASK = (1 << CODE_BITS) - 1
CODE_SYMBOLS = 12
SYMBOLS = CODE_SYMBOLS + 1  # with the check character
CODE_BYTES = 15  # as printed
CHECK = 37
PRINTED_CHECKS = 32

NOT_A_CODE = -1  # no mistake of one character makes a code of it
MISTYPED = -2  # of the right characters, but the check character or their number is wrong

NEIGHBOURS_MAX = 32  # 12 swapped and 13 replaced; or 14 dropped; or 13 inserted

OWN_BYTES_MAX = 32  # of a shop's own code, hyphens and spaces not counted
FOLDED_BYTES = OWN_BYTES_MAX
_OWN_KEY_0 = np.uint64(
    0x6F776E20636F6465
)  # no secret: a shop's own codes are as hard to guess as the shop made them
_OWN_KEY_1 = np.uint64(0x6C69737420686173)

_SWAP = 0
_REPLACE = 1
_DROP = 2
_INSERT = 3

_BAD = 255
_SKIP = 254
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ*~$=U"


def _symbol_table() -> Array:
    table = np.full(256, _BAD, np.uint8)
    for value, letter in enumerate(ALPHABET):
        table[ord(letter)] = table[ord(letter.lower())] = value
    for letters, value in (("Oo", 0), ("IiLl", 1), ("- ", _SKIP)):
        for letter in letters:
            table[ord(letter)] = value
    return table


_VALUE_OF = _symbol_table()
_LETTER_OF = np.frombuffer(ALPHABET.encode(), np.uint8).copy()


@inline
def signed(word: np.integer[Any]) -> int:
    """An unsigned element or word as the int64 that kernels count with; below 2**63."""
    return np.int64(word)  # type: ignore[return-value]


@inline
def attempted_code(
    campaign_lo: int,
    campaign_hi: int,
    decision_lo: int,
    decision_hi: int,
    attempt: int,
    k0: np.uint64,
    k1: np.uint64,
    mask: int,
) -> int:
    """The code of an attempt, or -1: its check character could not be printed, and the next attempt's turn it is."""
    low, _ = siphash128_words(campaign_lo, campaign_hi, decision_lo, decision_hi, attempt, k0, k1)
    code = signed(low & np.uint64(CODE_MASK)) & mask
    if code == 0 or code % CHECK >= PRINTED_CHECKS:
        return -1
    return code


@inline
def read_symbols(text: Array, start: int, end: int, symbols: Array) -> int:
    """The values of the characters of text[start:end] into symbols (room for SYMBOLS + 1); how many, or NOT_A_CODE.

    Hyphens and spaces are passed over. A check character's own sign may stand at the end only.
    """
    count = 0
    for at in range(start, end):
        value = _VALUE_OF[text[at]]
        if value == _SKIP:
            continue
        if value == _BAD or count > SYMBOLS or (count > 0 and symbols[count - 1] >= PRINTED_CHECKS):
            return NOT_A_CODE
        symbols[count] = value
        count += 1
    if count < CODE_SYMBOLS:
        return NOT_A_CODE
    return count


@inline
def code_of_symbols(symbols: Array, count: int) -> int:
    """The code of these values, or MISTYPED."""
    if count != SYMBOLS:
        return MISTYPED
    code = 0
    for k in range(CODE_SYMBOLS):
        code = code << 5 | signed(symbols[k])
    if code % CHECK != symbols[CODE_SYMBOLS]:
        return MISTYPED
    return code


@kernel
def read_codes(text: Array, offsets: Array, bytes_max: int, symbols: Array, out: Array) -> None:
    """The code of each text[offsets[i] : offsets[i + 1]] into out, or MISTYPED, or NOT_A_CODE.

    text  uint8; offsets int64[n + 1]; symbols int64[SYMBOLS + 1] to work in; out int64[n]
    """
    for i in range(out.shape[0]):
        out[i] = NOT_A_CODE
        if offsets[i + 1] - offsets[i] <= bytes_max:
            count = read_symbols(text, offsets[i], offsets[i + 1], symbols)
            if count >= 0:
                out[i] = code_of_symbols(symbols, count)


@kernel
def write_codes(codes: Array, out: Array) -> None:
    """Print codes. codes int64[n], each from 0 to CODE_MASK; out uint8[n, CODE_BYTES]."""
    for i in range(codes.shape[0]):
        code = codes[i]
        out[i, CODE_BYTES - 1] = _LETTER_OF[code % CHECK]
        to = CODE_BYTES - 2
        for k in range(CODE_SYMBOLS):
            if k == 4 or k == 8:
                out[i, to] = 45  # a hyphen
                to -= 1
            out[i, to] = _LETTER_OF[code & 31]
            code >>= 5
            to -= 1


@inline
def _candidate(symbols: Array, count: int, edit: int, place: int, symbol: int, tried: Array) -> int:
    """The code after one edit, or MISTYPED."""
    to = 0
    for k in range(count):
        if edit == _DROP and k == place:
            continue
        if edit == _INSERT and k == place:
            tried[to] = symbol
            to += 1
        value = symbols[k]
        if edit == _REPLACE and k == place:
            value = symbol
        elif edit == _SWAP and k == place:
            value = symbols[k + 1]
        elif edit == _SWAP and k == place + 1:
            value = symbols[k - 1]
        tried[to] = value
        to += 1
    if edit == _INSERT and place == count:
        tried[to] = symbol
        to += 1
    for k in range(to - 1):
        if tried[k] >= PRINTED_CHECKS:
            return MISTYPED
    return code_of_symbols(tried, to)


@kernel
def neighbours(
    text: Array, start: int, end: int, bytes_max: int, symbols: Array, tried: Array, out: Array
) -> int:
    """Codes one mistake away from what was typed whose check character fits, each once; how many.

    A mistake: two neighbours swapped, one character for another, one too many, one missing. The check character lets
    one character at most fit into a place, so there are fewer than NEIGHBOURS_MAX.

    text uint8; symbols and tried int64[SYMBOLS + 2] to work in; out int64[NEIGHBOURS_MAX]
    """
    if end - start > bytes_max:
        return 0
    count = read_symbols(text, start, end, symbols)
    if count < 0:
        return 0
    found = 0
    first_edit = _SWAP if count == SYMBOLS else _DROP if count > SYMBOLS else _INSERT
    last_edit = _REPLACE if count == SYMBOLS else first_edit
    for edit in range(first_edit, last_edit + 1):
        places = count - 1 if edit == _SWAP else count + 1 if edit == _INSERT else count
        choices = PRINTED_CHECKS if edit == _REPLACE or edit == _INSERT else 1
        for place in range(places):
            for symbol in range(choices):
                code = _candidate(symbols, count, edit, place, symbol, tried)
                if code < 0 or code % CHECK >= PRINTED_CHECKS:
                    continue
                known = False
                for k in range(found):
                    known = known or out[k] == code
                if not known:
                    out[found] = code
                    found += 1
    return found


def _folded_table() -> Array:
    table = np.full(256, _BAD, np.uint8)
    for byte in range(0x21, 0x7F):
        table[byte] = ord(chr(byte).upper())
    for letters, becomes in (("Oo", ord("0")), ("IiLl", ord("1")), ("- ", _SKIP)):
        for letter in letters:
            table[ord(letter)] = becomes
    return table


_FOLDED = _folded_table()


@inline
def own_code(text: Array, start: int, end: int, folded: Array) -> int:
    """60 bits of hash of a shop's own code, or NOT_A_CODE: empty, too long, or with bytes that nobody can type.

    What a person may change without meaning to (the module's text) leaves it the same. folded uint8[FOLDED_BYTES]
    """
    length = 0
    for at in range(start, end):
        byte = _FOLDED[text[at]]
        if byte == _SKIP:
            continue
        if byte == _BAD or length == OWN_BYTES_MAX:
            return NOT_A_CODE
        folded[length] = byte
        length += 1
    if length == 0:
        return NOT_A_CODE
    return signed(siphash64(folded, 0, length, _OWN_KEY_0, _OWN_KEY_1) & np.uint64(CODE_MASK))
