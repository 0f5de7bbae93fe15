"""Crockford's base32 as his page writes it, in plain Python, and what one mistake makes of a code."""

from __future__ import annotations

SYMBOLS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
CHECKS = SYMBOLS + "*~$=U"


def encode(number: int, length: int = 1) -> str:
    """The symbols of a number, `length` at least."""
    out = ""
    while number or len(out) < length:
        number, digit = divmod(number, 32)
        out = SYMBOLS[digit] + out
    return out


def with_check(number: int, length: int = 1) -> str:
    """The same with its check symbol."""
    return encode(number, length) + CHECKS[number % 37]


def printed(number: int) -> str:
    """A voucher's code in groups of 4, 4 and 5."""
    text = with_check(number, 12)
    return f"{text[:4]}-{text[4:8]}-{text[8:]}"


def canonical(text: str) -> str:
    """Upper case, no hyphens or spaces, O as 0, I and L as 1."""
    plain = "".join(letter for letter in text if letter not in "- ")
    folded = "".join(letter.upper() if letter.isascii() else letter for letter in plain)
    return folded.translate(str.maketrans("OIL", "011"))


def read(text: str) -> int | str:
    """The code, or "mistyped", or "no code"."""
    plain = canonical(text)
    if not 12 <= len(plain) <= 14 or len(text.encode()) > 64:
        return "no code"
    if any(letter not in SYMBOLS for letter in plain[:-1]) or plain[-1] not in CHECKS:
        return "no code"
    if len(plain) != 13 or plain[-2] not in SYMBOLS or plain[11] not in SYMBOLS:
        return "mistyped"
    number = 0
    for letter in plain[:12]:
        number = number * 32 + SYMBOLS.index(letter)
    return number if CHECKS[number % 37] == plain[-1] else "mistyped"


def neighbours(text: str) -> set[int]:
    """Codes one mistake away whose check symbol fits and can be printed."""
    plain = canonical(text)
    if read(text) == "no code":
        return set()
    tried: set[str] = set()
    if len(plain) == 13:
        for k in range(12):
            tried.add(plain[:k] + plain[k + 1] + plain[k] + plain[k + 2 :])
        tried |= {plain[:k] + symbol + plain[k + 1 :] for k in range(13) for symbol in SYMBOLS}
    elif len(plain) == 14:
        tried |= {plain[:k] + plain[k + 1 :] for k in range(14)}
    else:
        tried |= {plain[:k] + symbol + plain[k:] for k in range(13) for symbol in SYMBOLS}
    found = {read(candidate) for candidate in tried}
    return {code for code in found if isinstance(code, int) and code % 37 < 32}
