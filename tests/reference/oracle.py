"""The reference as judge of a run's output folder: for benchmarks and flow tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from segue.settings import Settings, secret
from segue.sinks.files import DEAD_LETTERS, DECISIONS, LATE, read_decisions
from segue.summary import OUTPUT as SUMMARY
from tests.reference import engine
from tests.reference.compare import (
    action_rows,
    decision_rows,
    difference,
    expected_actions,
    expected_decisions,
)
from tests.reference.decoding import DecodeSettings, decode
from tests.reference.policies import read_journeys

_NOT_CHANNELS = (DEAD_LETTERS, LATE, SUMMARY)


def policy_texts(paths: Sequence[str]) -> list[str]:
    """The text of every policy file among files and folders."""
    texts = []
    for path in map(Path, paths):
        files = sorted(path.glob("*.toml")) if path.is_dir() else [path]
        texts += [file.read_text() for file in files]
    return texts


def judge(inputs: Sequence[Path], settings: Settings, out: Path) -> tuple[engine.Reference, str]:
    """The reference after the same JSON Lines files, and how the run's actions and log differ from it ("": not)."""
    chosen = engine.Settings(
        secret=secret(),
        retention_ms=settings.retention_ms,
        rate_events_per_minute_max=settings.rate_per_minute_max,
        quarantine_ms=settings.quarantine_ms,
    )
    journeys = read_journeys(policy_texts(settings.policies), chosen.secret)
    reference = engine.Reference(journeys, chosen)
    decoding = DecodeSettings(settings.arrival_ms, settings.currency, settings.lateness_ms)
    reference.run(decode([path.read_bytes() for path in inputs], decoding).events)
    actions = [
        msgspec.json.decode(line)
        for path in sorted(out.glob("*.jsonl"))
        if path.stem not in _NOT_CHANNELS
        for line in path.read_bytes().splitlines()
    ]
    rows = [row for batch in read_decisions(out / f"{DECISIONS}.arrows") for row in batch.to_pylist()]
    found = difference(action_rows(actions), expected_actions(reference))
    found += difference(decision_rows(rows, journeys), expected_decisions(reference))
    return reference, found


def compare_with_run(stream: Path, settings: Settings, out: Path) -> str:
    """What was compared, in a sentence; AssertionError with the first differences if they differ."""
    reference, found = judge([stream], settings, out)
    if found:
        raise AssertionError(f"the run and the reference differ:\n{found}")
    return (
        f"equal to the naive reference on the first {reference.counters['events']:,} counted events: "
        f"{len(reference.decisions):,} decisions, {len(reference.actions):,} actions"
    )
