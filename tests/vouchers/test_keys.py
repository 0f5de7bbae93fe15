"""Keys of codes: where they come from, which holds when, and that nobody gets to see them."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from segue.errors import SettingsError
from segue.vouchers.keys import KEYS_FILE_VARIABLE, KEYS_VARIABLE, load_keys, parse_keys

DIGITS = "0123456789abcdef0123456789abcdef"
SECRET = bytes(range(16))


def test_a_campaign_has_its_own_keys_or_those_of_all_the_oldest_first() -> None:
    keys = parse_keys(
        f"* 2 2026-06-01T00:00:00Z {DIGITS}; * 1 2026-01-01T00:00:00Z {DIGITS}\n\n# none\n"
        f"mine 7 2026-01-01T01:00:00+01:00 {'f' * 32}"
    )
    assert [key.version for key in keys.keys("any")] == [1, 2]
    (mine,) = keys.keys("mine")
    assert mine.digits == b"\xff" * 16
    assert mine.from_ms == keys.keys("any")[0].from_ms == 1_767_225_600_000


def test_no_key_is_ever_shown() -> None:
    keys = parse_keys(f"* 1 2026-01-01T00:00:00Z {DIGITS}")
    shown = f"{keys!r} {keys} {keys.keys('a')[0]!r} {keys.keys('a')[0]}"
    assert DIGITS not in shown
    assert repr(bytes.fromhex(DIGITS)) not in shown


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "there is no key"),
        (f"* 1 {DIGITS}", "line 1 has 3 words"),
        (f"* one 2026-01-01T00:00:00Z {DIGITS}", "line 1: the version is no number"),
        (f"* 1 yesterday {DIGITS}", "line 1: from when on it holds is no time"),
        (f"\n* 1 2026-01-01T00:00:00Z {DIGITS}0", "line 2: the key is not 32 hexadecimal digits"),
        (f"* 1 2026-01-01T00:00:00Z {DIGITS[:-1]}x", "line 1: the key is not 32 hexadecimal digits"),
        (
            f"* 1 2026-01-01T00:00:00Z {DIGITS}; * 1 2026-02-01T00:00:00Z {DIGITS}",
            "line 2: version 1 from 2026-02-01T00:00:00.000Z is in its campaign's keys already",
        ),
        (
            ";".join(f"* {n} 2026-01-{n + 1:02}T00:00:00Z {DIGITS}" for n in range(17)),
            "line 17: more than 16 keys",
        ),
    ],
)
def test_what_is_no_key_is_said_without_it(text: str, found: str) -> None:
    with pytest.raises(SettingsError) as error:
        parse_keys(text)
    assert found in str(error.value)
    assert DIGITS[:-1] not in "".join(traceback.format_exception(error.value))


def test_a_campaign_without_a_key_is_an_error() -> None:
    with pytest.raises(SettingsError, match='no key for the campaign "other"'):
        parse_keys(f"mine 1 2026-01-01T00:00:00Z {DIGITS}").keys("other")


def test_they_come_from_the_environment_or_a_file_or_the_secret(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(KEYS_VARIABLE, raising=False)
    monkeypatch.delenv(KEYS_FILE_VARIABLE, raising=False)
    (derived,) = load_keys(SECRET).keys("a")
    assert derived.version == 0
    assert derived.digits not in (SECRET, load_keys(bytes(16)).keys("a")[0].digits)
    path = tmp_path / "keys"
    path.write_text(f"* 3 2026-01-01T00:00:00Z {DIGITS}\n")
    monkeypatch.setenv(KEYS_FILE_VARIABLE, str(path))
    assert load_keys(SECRET).keys("a")[0].version == 3
    monkeypatch.setenv(KEYS_VARIABLE, f"* 4 2026-01-01T00:00:00Z {DIGITS}")
    assert load_keys(SECRET).keys("a")[0].version == 4
    monkeypatch.delenv(KEYS_VARIABLE)
    for contents in (b"\xff\xfe", None):
        path.unlink()
        if contents:
            path.write_bytes(contents)
        with pytest.raises(SettingsError, match="can't be read"):
            load_keys(SECRET)
        path.touch()
