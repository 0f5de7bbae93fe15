"""Time in the whole flow: who is told how late it is, what fires on an idle night, and what an outage must not do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from bytewax.testing import cluster_main

from flows.next_best_action import next_best_action
from segue import limits
from segue.decide.bench import Bench, Turn
from segue.flow.outputs import output_names
from segue.limits import HOUR_MS, LATENESS_MS_DEFAULT, MINUTE_MS
from segue.policy.load import load_policies
from segue.settings import Settings, secret
from segue.sinks.files import prepare_folder
from segue.sources.reader import BatchReader
from segue_kernels.shard import SPAN_ACTIONS_END, SPAN_PART
from tests.sources.scripted import ScriptedSource, Step, event, live_script, with_outage

START_MS = 1_772_438_400_000  # 2026-03-02T08:00:00Z
SHARDS = 3
ALWAYS = """
policy = "always"
version = 1
title = "On every page"
currency = "EUR"
[[journeys]]
id = "always"
on = ["page"]
when = "event.quantity >= 0"
[[journeys.offers]]
id = "hello"
channel = "web"
"""
CART = """
policy = "cart"
version = 1
title = "A cart was left for half an hour"
currency = "EUR"

[[journeys]]
id = "abandoned"
on = ["Product Added"]
when = "event.quantity >= 0"
wait = "30m"
still = 'absent("Order Completed")'
limits = [{ times = 5, within = "1d" }]
[[journeys.offers]]
id = "reminder"
channel = "web"
"""


def run_live(
    folder: Path, scripts: dict[str, Sequence[Step]], text: str, **changes: Any
) -> list[dict[str, Any]]:
    """What a live run on these scripts shows on the web; its settings may be changed."""
    number = sum(1 for _ in folder.glob("out-*"))
    policy = folder / f"{number}.toml"
    policy.write_text(text)
    settings = Settings(
        out=str(folder / f"out-{number}"),
        policies=(str(policy),),
        native=False,
        shards=SHARDS,
        live=True,
        customers_per_shard_max=1 << 12,
    )
    settings = msgspec.structs.replace(settings, **changes)
    policies = load_policies(settings.policies, secret=secret(), currency=settings.currency, native=False)
    prepare_folder(settings.out, output_names(policies, settings))
    source = ScriptedSource(scripts)
    flow = next_best_action(settings, source, source.clock)
    cluster_main(flow, [], 0)  # type: ignore[no-untyped-call]
    path = Path(settings.out) / "web.jsonl"
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()] if path.exists() else []


@dataclass
class Told:
    """Which watermarks each engine was told, after START_MS, at which of them it acted (and how often), and how many
    timers it was to fire at most."""

    watermarks: dict[int, list[int]] = field(default_factory=dict)
    acted: list[tuple[int, int]] = field(default_factory=list)
    shares: Counter[int] = field(default_factory=Counter)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    told = Told()
    process = Bench.process

    def listening(bench: Bench, turns: list[Turn]) -> list[Any]:
        for turn in turns:
            if turn.watermark_ms:
                told.watermarks.setdefault(id(turn.engine), []).append(turn.watermark_ms - START_MS)
                told.shares[turn.timers_max] += 1
        decided = process(bench, turns)
        of = {turn.engine.part: turn.watermark_ms - START_MS for turn in turns}
        for decisions in decided:
            ends = decisions.spans[:, SPAN_ACTIONS_END]
            for part, actions in zip(decisions.spans[:, SPAN_PART], np.diff(ends, prepend=0), strict=True):
                if actions:
                    told.acted.append((of[int(part)], int(actions)))
        return decided

    monkeypatch.setattr(Bench, "process", listening)
    return told


def test_an_idle_night_is_told_to_every_shard(tmp_path: Path, told: Told) -> None:
    night = live_script([(START_MS, event(1, "page", START_MS, "u"))], START_MS, START_MS + HOUR_MS)
    run_live(tmp_path, {"web": night}, ALWAYS)
    assert len(told.watermarks) == 2 * SHARDS  # known and anonymous
    expected = {n * MINUTE_MS - LATENESS_MS_DEFAULT for n in range(1, 61)}
    for watermarks in told.watermarks.values():
        assert watermarks == sorted(watermarks)
        assert expected <= set(watermarks)
        assert watermarks[-1] == HOUR_MS + 1  # nothing can come any more
    assert set(told.shares) == {limits.TIMERS_PER_READ // SHARDS}


def test_nobody_is_told_anything_during_an_outage(tmp_path: Path, told: Told) -> None:
    script = live_script([(START_MS, event(1, "page", START_MS, "u"))], START_MS, START_MS + 3 * HOUR_MS)
    run_live(tmp_path, {"web": with_outage(script, START_MS + HOUR_MS, START_MS + 3 * HOUR_MS)}, ALWAYS)
    for watermarks in told.watermarks.values():
        before = [watermark for watermark in watermarks if watermark < HOUR_MS - LATENESS_MS_DEFAULT]
        assert before[-1] == HOUR_MS - MINUTE_MS - LATENESS_MS_DEFAULT
        assert watermarks[len(before) :] == [3 * HOUR_MS - LATENESS_MS_DEFAULT, 3 * HOUR_MS + 1]


def test_events_of_a_busy_input_come_through_beside_an_idle_one(tmp_path: Path) -> None:
    """More of them than may be in flight: the ticks of the idle one let them go."""
    busy = [Step(START_MS + n, [event(n, "page", START_MS + n, f"u{n}")]) for n in range(60)]
    idle = [Step(START_MS + n) for n in range(0, 2_000, 10)]
    sent = run_live(tmp_path, {"shop": idle, "web": busy}, ALWAYS)
    assert {action["causation_id"] for action in sent} == {str(n) for n in range(60)}


@dataclass
class Work:
    """Every engine has so many timers due from the first event on; what was read and fired in which order."""

    due: int
    left: dict[int, int] = field(default_factory=dict)
    order: list[tuple[str, int]] = field(default_factory=list)

    def process(self, turns: list[Turn]) -> list[Any]:
        for turn in turns:
            left = self.left.setdefault(id(turn.engine), self.due)
            fired = min(left, turn.timers_max) if turn.watermark_ms > 1 else 0
            self.left[id(turn.engine)] = left - fired
            self.order.append(("fired", fired))
            turn.done = turn.watermark_ms <= 1 or fired == left
        return []


def counted_reads(monkeypatch: pytest.MonkeyPatch, work: Work) -> None:
    read: Callable[[BatchReader], Any] = BatchReader.read

    def counting(reader: BatchReader) -> Any:
        work.order.append(("read", 0))
        return read(reader)

    def processing(bench: Bench, turns: list[Turn]) -> list[Any]:
        return work.process(turns)

    monkeypatch.setattr(BatchReader, "read", counting)
    monkeypatch.setattr(Bench, "process", processing)


def test_due_timers_fire_by_shares_between_two_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are due, a read comes after a share of them; all of them have fired in the end."""
    work = Work(due=10 * limits.TIMERS_PER_READ)
    counted_reads(monkeypatch, work)
    times = [START_MS + n * MINUTE_MS for n in range(200)]
    steps = [Step(at_ms, [event(at_ms, "page", at_ms, "u")]) for at_ms in times]
    run_live(tmp_path, {"web": steps}, ALWAYS)
    assert list(work.left.values()) == [0] * 2 * SHARDS
    since_read = [0]
    for what, number in work.order:
        if what == "read":
            since_read.append(0)
        since_read[-1] += number
    last = len(since_read) - 1  # after the last read nobody waits
    assert max(since_read[:last]) <= 2 * limits.TIMERS_PER_READ  # known and anonymous shards
    assert sum(since_read) == 2 * SHARDS * work.due


def test_reading_waits_for_the_timers_of_a_replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not run away from them, and goes on when they have fired."""
    work = Work(due=10 * limits.TIMERS_PER_READ)
    counted_reads(monkeypatch, work)
    steps = [
        Step(at_ms, [event(at_ms, "page", at_ms, "u")])
        for at_ms in range(START_MS, START_MS + HOUR_MS, 60_000)
    ]
    run_live(tmp_path, {"web": steps}, ALWAYS, live=False, arrival_ms=START_MS)
    fired = reads = reads_while_due = 0
    for what, number in work.order:
        fired += number
        reads += what == "read"
        if 0 < fired < SHARDS * work.due:
            reads_while_due += what == "read"
    assert reads == len(steps) + 1
    assert reads_while_due <= limits.IN_FLIGHT_BATCHES_MAX + 1


# --- waits ----------------------------------------------------------------------------------------------


def essence(actions: list[dict[str, Any]]) -> Counter[tuple[str, ...]]:
    return Counter(
        (action["customer_id"], action["action_id"], action["causation_id"], action["time"])
        for action in actions
    )


def shopping() -> list[tuple[int, dict[str, Any]]]:
    """Six hours of customers who fill carts and mostly buy within half an hour, some anonymous until they do."""
    made = []
    for number in range(60):
        at_ms = START_MS + number * 6 * MINUTE_MS
        buys_after_ms = (4 + number % 40) * MINUTE_MS
        customer = f"?a{number}" if number % 4 == 0 else f"u{number}"
        made.append((at_ms, event(f"{number}a", "Product Added", at_ms, customer, product_id="p")))
        if number % 4 == 0:
            known = {"userId": f"u{number}"}
            later_ms = at_ms + 2 * MINUTE_MS
            made.append((later_ms, event(f"{number}i", "identify", later_ms, customer, **known)))
        bought_ms = at_ms + buys_after_ms
        made.append((bought_ms + 300, event(f"{number}o", "Order Completed", bought_ms, f"u{number}")))
    return sorted(made, key=lambda pair: pair[0])


def left_carts() -> set[str]:
    return {f"u{number}" for number in range(60) if 4 + number % 40 > 30}


def test_carts_are_seen_and_an_outage_changes_nothing(tmp_path: Path) -> None:
    script = live_script(shopping(), START_MS, START_MS + 9 * HOUR_MS)
    sent = run_live(tmp_path, {"web": script}, CART)
    assert {action["customer_id"] for action in sent} == left_carts()
    for from_ms in (START_MS + MINUTE_MS, START_MS + 2 * HOUR_MS, START_MS + 5 * HOUR_MS):
        outage = with_outage(script, from_ms, from_ms + 2 * HOUR_MS)
        assert essence(run_live(tmp_path, {"web": outage}, CART)) == essence(sent)
    replayed = [Step(step.at_ms, step.events) for step in script if step.events]
    again = run_live(tmp_path, {"web": replayed}, CART, live=False, arrival_ms=START_MS)
    assert essence(again) == essence(sent)


def test_an_idle_night_sends_what_is_due_while_it_goes_on(tmp_path: Path, told: Told) -> None:
    """Of customers who don't come back: at the first look at which nothing older can come."""
    added = [
        (START_MS + n, event(n, "Product Added", START_MS + n, who)) for n, who in enumerate(("u", "?a"))
    ]
    night = live_script(added, START_MS, START_MS + 8 * HOUR_MS)
    sent = run_live(tmp_path, {"web": night}, CART)
    assert sorted((action["customer_id"], action["causation_id"]) for action in sent) == [
        ("a", "1"),
        ("u", "0"),
    ]
    assert {action["time"] for action in sent} == {f"2026-03-02T08:30:00.00{n}Z" for n in range(2)}
    assert told.acted == [(31 * MINUTE_MS, 1)] * 2


def test_a_night_without_connection_sends_nothing_before_it_is_over(tmp_path: Path, told: Told) -> None:
    added = (START_MS, event(1, "Product Added", START_MS, "u"))
    bought = (START_MS + 20 * MINUTE_MS, event(2, "Order Completed", START_MS + 20 * MINUTE_MS, "u"))
    night = live_script([added, bought], START_MS, START_MS + 8 * HOUR_MS)
    outage = with_outage(night, START_MS + MINUTE_MS, START_MS + 7 * HOUR_MS)
    assert run_live(tmp_path, {"web": outage}, CART) == []
    assert told.acted == []
