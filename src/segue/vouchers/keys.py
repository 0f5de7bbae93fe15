"""The keys that codes are made with: from the environment or a file, with a version, each holding from a time on.

Law: a key's digits are in no error, no log and no repr. A key that codes were made with may never be taken away while
its codes live: the ledger looks for a repeated decision under all keys of its campaign.

SEGUE_VOUCHER_KEYS has them, or SEGUE_VOUCHER_KEYS_FILE names the file: a key a line (in the environment also after a
semicolon), "campaign version from digits":

    *           1  2026-01-01T00:00:00Z  0123456789abcdef0123456789abcdef
    accessory   2  2026-06-01T00:00:00Z  fedcba9876543210fedcba9876543210

`*` is for campaigns that have none of their own. Where there are none at all they are derived from SEGUE_SECRET.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from segue.errors import SettingsError
from segue.events.refusal import Refusal
from segue.events.time import parse_time_ms, time_text
from segue.limits import VOUCHER_KEYS_MAX

KEYS_VARIABLE = "SEGUE_VOUCHER_KEYS"
KEYS_FILE_VARIABLE = "SEGUE_VOUCHER_KEYS_FILE"
EVERY_CAMPAIGN = "*"
KEY_BYTES = 16
_STEP = "read the keys of vouchers"
_FORM = "campaign (or *), version, from when on, 32 hexadecimal digits: * 1 2026-01-01T00:00:00Z 0123…"


@dataclass(frozen=True, slots=True)
class VoucherKey:
    """One key; it holds from `from_ms` on (UTC ms), until a later one does."""

    version: int
    from_ms: int
    digits: bytes = field(repr=False)

    def __str__(self) -> str:
        return f"version {self.version} from {time_text(self.from_ms)}"


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys of all campaigns, the oldest first."""

    by_campaign: dict[str, tuple[VoucherKey, ...]]

    def keys(self, campaign: str) -> tuple[VoucherKey, ...]:
        """The keys of a campaign; SettingsError where there are none."""
        found = self.by_campaign.get(campaign) or self.by_campaign.get(EVERY_CAMPAIGN)
        if not found:
            raise SettingsError(
                _STEP, f'there is no key for the campaign "{campaign}"', "add one for it, or one for *"
            )
        return found


def parse_keys(text: str) -> Keyring:
    """Keys of a text in the form shown above; SettingsError with the line's number, never its words."""
    found: dict[str, list[VoucherKey]] = {}
    lines = [line for part in text.split(";") for line in part.splitlines()]
    for number, line in enumerate(lines, start=1):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        if len(words) != 4:
            raise SettingsError(_STEP, f"line {number} has {len(words)} words, not 4", _FORM)
        key = _key(words, number)
        of_campaign = found.setdefault(words[0], [])
        if any(other.version == key.version or other.from_ms == key.from_ms for other in of_campaign):
            raise SettingsError(
                _STEP,
                f"line {number}: {key} is in its campaign's keys already",
                "versions and times are different ones",
            )
        if len(of_campaign) == VOUCHER_KEYS_MAX:
            raise SettingsError(
                _STEP, f"line {number}: more than {VOUCHER_KEYS_MAX} keys of one campaign", "begin a new one"
            )
        of_campaign.append(key)
    if not found:
        raise SettingsError(_STEP, "there is no key", _FORM)
    return Keyring({name: tuple(sorted(keys, key=lambda key: key.from_ms)) for name, keys in found.items()})


def _key(words: list[str], number: int) -> VoucherKey:
    if not words[1].isdecimal():
        raise SettingsError(_STEP, f"line {number}: the version is no number", _FORM)
    try:
        from_ms = parse_time_ms(words[2])
    except Refusal:
        raise SettingsError(_STEP, f"line {number}: from when on it holds is no time", _FORM) from None
    try:
        digits = bytes.fromhex(words[3])
    except ValueError:
        digits = b""
    if len(digits) != KEY_BYTES:
        raise SettingsError(
            _STEP,
            f"line {number}: the key is not 32 hexadecimal digits",
            "make one with: openssl rand -hex 16",
        )
    return VoucherKey(int(words[1]), from_ms, digits)


def load_keys(secret: bytes) -> Keyring:
    """The keys of this deployment; derived from its secret, version 0, where it has none of their own."""
    text = os.environ.get(KEYS_VARIABLE)
    path = os.environ.get(KEYS_FILE_VARIABLE)
    if text is None and path:
        try:
            text = Path(path).read_text()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text"
            raise SettingsError(
                _STEP, f"{KEYS_FILE_VARIABLE} can't be read ({why})", "check the path"
            ) from None
    if text is not None:
        return parse_keys(text)
    derived = hashlib.blake2b(b"segue vouchers", key=secret, digest_size=KEY_BYTES).digest()
    return Keyring({EVERY_CAMPAIGN: (VoucherKey(0, 0, derived),)})
