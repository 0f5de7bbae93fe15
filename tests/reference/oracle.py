"""The reference as judge of a run's output folder: for benchmarks and flow tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from segue.outputs import CHANGES, DEAD_LETTERS, DECISIONS, JOINS, LATE, SUMMARY
from segue.settings import Settings, secret
from segue.sinks.files import read_decisions
from segue.vouchers.keys import load_keys
from tests.reference import engine
from tests.reference.compare import (
    action_rows,
    change_rows,
    credit_rows,
    decision_rows,
    difference,
    expected_actions,
    expected_changes,
    expected_credits,
    expected_decisions,
    expected_withdrawn,
    of_kind,
    withdrawn_rows,
)
from tests.reference.consent import run_watched
from tests.reference.decoding import DecodeSettings, decode, looking_into
from tests.reference.policies import read_policies
from tests.reference.tables import read_tables
from tests.reference.vouchers import grant_all, ids_of

_NOT_CHANNELS = (DEAD_LETTERS, LATE, SUMMARY)


def policy_texts(paths: Sequence[str]) -> list[str]:
    """The text of every policy file among files and folders."""
    texts = []
    for path in map(Path, paths):
        files = sorted(path.glob("*.toml")) if path.is_dir() else [path]
        texts += [file.read_text() for file in files]
    return texts


def logged(out: Path, name: str) -> list[dict[str, Any]]:
    """The rows of one of the outputs that are Arrow streams; none if it was not written."""
    path = out / f"{name}.arrows"
    return [row for batch in read_decisions(path) for row in batch.to_pylist()] if path.exists() else []


def judge(inputs: Sequence[Path], settings: Settings, out: Path) -> tuple[engine.Reference, str]:
    """The reference after the same JSON Lines files, and how the run's actions and log differ from it ("": not).

    No campaign may run dry: the order in which the ledger was asked is not known here.
    """
    chosen = engine.Settings(
        secret=secret(),
        retention_ms=settings.retention_ms,
        rate_events_per_minute_max=settings.rate_per_minute_max,
        quarantine_ms=settings.quarantine_ms,
        lateness_ms=settings.lateness_ms,
        timezone=settings.timezone,
    )
    policies = read_policies(policy_texts(settings.policies), chosen.secret, settings.currency)
    reference = engine.Reference(policies, chosen, read_tables(settings.tables))
    decoding = DecodeSettings(settings.arrival_ms, settings.currency, settings.lateness_ms)
    decoding = looking_into(decoding, policies.fields)
    decoded = decode([path.read_bytes() for path in inputs], decoding)
    run_watched(reference, decoded.events, decoded.clock_ms)
    if reference.rankings:
        grant_all(reference, load_keys(secret()), ids_of(reference))
    lines = [
        msgspec.json.decode(line)
        for path in sorted(out.glob("*.jsonl"))
        if path.stem not in _NOT_CHANNELS
        for line in path.read_bytes().splitlines()
    ]
    found = difference(action_rows(of_kind(lines, "action")), expected_actions(reference))
    found += difference(withdrawn_rows(of_kind(lines, "withdrawn")), expected_withdrawn(reference))
    rows = logged(out, DECISIONS)
    found += difference(decision_rows(rows, reference.journeys), expected_decisions(reference))
    found += difference(change_rows(logged(out, CHANGES)), expected_changes(reference))
    found += difference(credit_rows(logged(out, JOINS)), expected_credits(reference))
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
