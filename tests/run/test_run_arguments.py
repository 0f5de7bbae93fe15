"""Durations and times of the command line."""

from __future__ import annotations

import pytest

from segue.errors import SettingsError
from segue.run.arguments import duration_ms, time_ms


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("0s", 0), ("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("2h", 7_200_000), ("1d", 86_400_000)],
)
def test_durations(text, milliseconds):
    assert duration_ms("--x", text) == milliseconds


@pytest.mark.parametrize("text", ["", "5", "m", "-5m", "5 m", "1.5h", "5y", "9" * 40 + "d"])
def test_no_durations(text):
    with pytest.raises(SettingsError, match="no duration"):
        duration_ms("--x", text)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("1970-01-02", 86_400_000), ("1970-01-01T01:00:00Z", 3_600_000), ("1970-01-01T01:00:00.5+01:00", 500)],
)
def test_times(text, milliseconds):
    assert time_ms("--x", text) == milliseconds


def test_no_time():
    with pytest.raises(SettingsError, match="no time"):
        time_ms("--x", "tomorrow")
