"""The real flow in tests: a case in files, the ways to run it, and what came out in a form to compare.

SEGUE_FLOW_SEEDS chooses the seeds of all seeded flow tests: "500" means 0 to 499, "17:18" seed 17 alone.
"""

from __future__ import annotations

import gzip
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from bytewax.testing import cluster_main

from flows.next_best_action import next_best_action
from segue.flow.outputs import output_names
from segue.limits import DAY_MS
from segue.outputs import CHANGES, DEAD_LETTERS, DECISIONS, JOINS, LATE, SUMMARY
from segue.policy.load import load_policies
from segue.run.progress import Silent
from segue.run.report import Summary, summarise
from segue.run.runner import prepare, run
from segue.settings import Settings, secret
from segue.sinks.files import prepare_folder
from segue.summary import read_summary
from tests.reference import engine, random_events, random_policies
from tests.reference.choice import Choice, Seeded
from tests.reference.compare import (
    action_rows,
    change_rows,
    credit_rows,
    decision_id,
    decision_rows,
    difference,
    expected_actions,
    expected_changes,
    expected_credits,
    expected_decisions,
    expected_withdrawn,
    withdrawn_rows,
)
from tests.reference.consent import run_watched
from tests.reference.decoding import DecodeSettings, decode, looking_into
from tests.reference.oracle import logged
from tests.reference.policies import read_policies
from tests.reference.tables import ALONG_THE_WAY, read_tables

SEEDS_VARIABLE = "SEGUE_FLOW_SEEDS"
COUNTED = ("duplicates", "quarantined", "customers_merged", "about_nobody", "dead_letters", "late")
OFTEN = """
policy = "often"
version = 1
title = "Sends whenever it may"
currency = "EUR"

[[journeys]]
id = "often"
on = ["Product Viewed", "Product Added", "Order Completed", "page", "identify"]
when = "event.quantity >= 0"
limits = [{ times = 2, within = "1h" }, { times = 4, within = "7d" }, { times = 1, within = "1d", by = "product" }]
[[journeys.offers]]
id = "mail"
channel = "email"
value = 3.0
[[journeys.offers]]
id = "push"
channel = "push"
purpose = "service"
value = 2.0
[[journeys.offers]]
id = "web"
channel = "web"
placement = "hero"
value = 1.0

[[journeys]]
id = "beside"
on = ["Product Viewed", "Order Completed", "Cart Viewed", "Coupon Entered"]
when = 'count("Product Viewed", by="category", within="7d") >= 1'
alongside = true
limits = [{ times = 1, within = "20s" }, { times = 2, within = "1d", by = "category" }]
[[journeys.offers]]
id = "text"
channel = "sms"
[[journeys.offers]]
id = "mail"
channel = "email"
context = "0.5"
"""


def seeds(count: int) -> range:
    """The seeds of a test: 0 to count - 1, or those that SEGUE_FLOW_SEEDS names."""
    text = os.environ.get(SEEDS_VARIABLE)
    if not text:
        return range(count)
    first, _, end = text.rpartition(":")
    return range(int(first or 0), int(end))


@dataclass(frozen=True)
class Case:
    """Input files (a partition each), policy texts, and the settings of the run but for its output folder."""

    folder: Path
    payloads: tuple[bytes, ...]
    texts: tuple[str, ...]
    settings: Settings

    def with_settings(self, **changes: Any) -> Case:
        return Case(self.folder, self.payloads, self.texts, msgspec.structs.replace(self.settings, **changes))


@dataclass(frozen=True)
class Told:
    """Everything a run wrote.

    actions    by kind of customer, customer and channel: lines in their order; withdrawn: so, too
    decisions  rows of the log; changes, joins: rows of those; dead, late: lines
    """

    actions: dict[tuple[str, str, str], list[bytes]]
    withdrawn: dict[tuple[str, str, str], list[bytes]]
    decisions: list[dict[str, Any]]
    changes: list[dict[str, Any]]
    joins: list[dict[str, Any]]
    dead: list[bytes]
    late: list[bytes]
    summary: Summary

    def all_actions(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(line) for lines in self.actions.values() for line in lines]

    def all_withdrawn(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(line) for lines in self.withdrawn.values() for line in lines]

    def essence(self) -> tuple[Any, ...]:
        """What has to be equal in all runs of one case."""
        return (
            self.actions,
            self.withdrawn,
            *(
                Counter(repr(sorted(row.items())) for row in rows)
                for rows in (self.decisions, self.changes, self.joins)
            ),
            Counter(self.dead),
            Counter(self.late),
            {name: getattr(self.summary, name) for name in (*COUNTED, "events", "decisions", "actions")},
        )


def write_case(
    folder: Path, payloads: Sequence[bytes], texts: Sequence[str], zipped: Iterable[int] = (), **settings: Any
) -> Case:
    """Put inputs and policies into files; `zipped` partitions are compressed."""
    zipped = set(zipped)
    inputs = []
    for n, payload in enumerate(payloads):
        path = folder / (f"{n}.jsonl.gz" if n in zipped else f"{n}.jsonl")
        path.write_bytes(gzip.compress(payload) if n in zipped else payload)
        inputs.append(str(path))
    policies = folder / "policies"
    policies.mkdir()
    for n, text in enumerate(texts):
        (policies / f"{n}.toml").write_text(text)
    chosen = {
        "policies": (str(policies),),
        "arrival_ms": random_events.ARRIVAL_MS,
        "sample_share": 1.0,
        "customers_per_shard_max": 1 << 12,
        "tables": ALONG_THE_WAY,
        **settings,
    }
    return Case(folder, tuple(payloads), tuple(texts), Settings(inputs=tuple(inputs), **chosen))


def random_case(folder: Path, choice: Choice, events: int, more_policies: Sequence[str] = ()) -> Case:
    """Any stream, policies and settings."""
    texts = [*random_policies.policies(choice), *more_policies]
    make = choice.pick((random_events.world, random_events.crowd, random_events.bazaar))
    payloads = random_events.stream(choice, make(choice), events)
    return write_case(
        folder,
        payloads,
        texts,
        zipped=[n for n in range(len(payloads)) if choice.chance(20)],
        batch_rows=choice.pick((1, 2, 7, 30, 1_000, 65_536)),
        shards=choice.pick((1, 2, 3, 5, 16)),
        lateness_ms=choice.pick((0, 60_000, 300_000, 3_600_000)),
        retention_ms=choice.pick((2, 400)) * DAY_MS,
        rate_per_minute_max=choice.pick((5, 12, 1_000)),
        quarantine_ms=choice.pick((60_000, 1_800_000)),
        native=choice.chance(50),
    )


def seeded_case(folder: Path, seed: int, events: int, more_policies: Sequence[str] = ()) -> Case:
    """The same for the same seed."""
    return random_case(folder, Seeded(seed), events, more_policies)


# --- ways to run --------------------------------------------------------------------------------------


def run_threads(case: Case, workers: int = 1) -> Told:
    """In this process, on so many worker threads."""
    settings = _with_output(case)
    policies = load_policies(settings.policies, secret=secret(), currency=settings.currency, native=False)
    prepare_folder(settings.out, output_names(policies, settings))
    cluster_main(next_best_action(settings), [], 0, worker_count_per_proc=workers)  # type: ignore[no-untyped-call]
    out = Path(settings.out)
    return told_in(out, summarise(read_summary(out), policies, 1.0, 1))


def run_processes(case: Case, processes: int = 2) -> Told:
    """As `segue run --processes` does it."""
    settings = _with_output(case)
    summary = run(prepare(settings, processes), Silent())
    return told_in(Path(settings.out), summary)


def _with_output(case: Case) -> Settings:
    number = sum(1 for _ in case.folder.glob("out-*"))
    return msgspec.structs.replace(case.settings, out=str(case.folder / f"out-{number}"))


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines() if path.exists() else []


def told_in(out: Path, summary: Summary) -> Told:
    """What stands in an output folder."""
    actions: dict[tuple[str, str, str], list[bytes]] = {}
    withdrawn: dict[tuple[str, str, str], list[bytes]] = {}
    for path in sorted(out.glob("*.jsonl")):
        if path.stem in (DEAD_LETTERS, LATE, SUMMARY):
            continue
        for line in _lines(path):
            action = msgspec.json.decode(line)
            assert action["channel"] == path.stem
            key = (action["customer_kind"], action["customer_id"], action["channel"])
            of = {"action": actions, "withdrawn": withdrawn}[action["kind"]]
            of.setdefault(key, []).append(line)
    return Told(
        actions,
        withdrawn,
        decisions=logged(out, DECISIONS),
        changes=logged(out, CHANGES),
        joins=logged(out, JOINS),
        dead=_lines(out / f"{DEAD_LETTERS}.jsonl"),
        late=_lines(out / f"{LATE}.jsonl"),
        summary=summary,
    )


# --- the judge ----------------------------------------------------------------------------------------


def judged(case: Case, **bounds: int) -> engine.Reference:
    """The reference after the case; `bounds` are further fields of its settings."""
    settings = case.settings
    chosen = engine.Settings(
        secret=secret(),
        retention_ms=settings.retention_ms,
        rate_events_per_minute_max=settings.rate_per_minute_max,
        quarantine_ms=settings.quarantine_ms,
        lateness_ms=settings.lateness_ms,
        timezone=settings.timezone,
        **bounds,
    )
    policies = read_policies(case.texts, chosen.secret, settings.currency)
    reference = engine.Reference(policies, chosen, read_tables(settings.tables), verify=True)
    decoding = DecodeSettings(settings.arrival_ms, settings.currency, settings.lateness_ms)
    decoded = decode(case.payloads, looking_into(decoding, policies.fields))
    run_watched(reference, decoded.events, decoded.clock_ms)
    reference.counters["dead_letters"] = len(decoded.dead)
    reference.counters["late"] = len(decoded.late)
    reference.counters["about_nobody"] = reference.counters["reference_events"]
    reference.counters["quarantined"] = reference.counters["quarantined_events"]
    return reference


def check_against(told: Told, reference: engine.Reference) -> None:
    """Actions and their order, reasons, numbers and counts are the reference's."""
    numbers = all(row["scores"] is not None for row in told.decisions)
    decisions = decision_rows(told.decisions, reference.journeys, numbers=numbers)
    assert difference(decisions, expected_decisions(reference, numbers=numbers)) == ""
    assert difference(action_rows(told.all_actions()), expected_actions(reference)) == ""
    assert difference(withdrawn_rows(told.all_withdrawn()), expected_withdrawn(reference)) == ""
    assert difference(change_rows(told.changes), expected_changes(reference)) == ""
    assert difference(credit_rows(told.joins), expected_credits(reference)) == ""
    order: dict[tuple[str, str, str], list[str]] = {}
    for action in reference.actions:
        one = decision_id(action.customer, action.message, action.slot, reference.settings.secret)
        order.setdefault((*action.customer, action.slot[0]), []).append(one)
    assert {
        key: [msgspec.json.decode(line)["decision_id"] for line in lines]
        for key, lines in told.actions.items()
    } == order
    assert {name: getattr(told.summary, name) for name in COUNTED} == {
        name: reference.counters[name] for name in COUNTED
    }
    assert len(told.dead) == told.summary.dead_letters
    assert len(told.late) == told.summary.late
