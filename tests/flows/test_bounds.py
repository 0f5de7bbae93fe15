"""Quarantine and the memory of event ids, with bounds small enough to be met all the time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from segue import limits
from segue.limits import HOUR_MS, MINUTE_MS
from segue.reference.world import ReferenceWorld
from tests.flows.runs import check_against, judged, run_threads, seeded_case, seeds, write_case
from tests.reference.random_events import Message

ALWAYS = """
policy = "always"
version = 1
title = "On every event"
currency = "EUR"
[[journeys]]
id = "always"
on = ["page"]
when = "event.quantity >= 0"
[[journeys.offers]]
id = "hello"
channel = "web"
"""


def payload(events: list[Message]) -> bytes:
    return "".join(json.dumps({"type": "page", "userId": "u", **event}) + "\n" for event in events).encode()


def at(ms: int) -> str:
    seconds, rest = divmod(ms, 1_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"2026-03-0{1 + hours // 24}T{hours % 24:02}:{minutes:02}:{seconds:02}.{rest:03}Z"


def test_a_bot_is_quarantined_and_nobody_else(tmp_path: Path) -> None:
    """The event that is too many still counts; those of the next half hour do not, then all is well again."""
    bot = [{"id": f"b{n}", "time": at(n * 1_000)} for n in range(10)]
    begun_ms = 5_000  # with the sixth event
    bot += [{"id": "b-during", "time": at(begun_ms + 30 * MINUTE_MS - 1)}]
    bot += [{"id": "b-after", "time": at(begun_ms + 30 * MINUTE_MS)}]
    other = [{"id": f"o{n}", "time": at(n * 1_000 + 500), "userId": "o"} for n in range(5)]
    events = sorted(bot + other, key=lambda event: str(event["time"]))
    case = write_case(
        tmp_path,
        [payload(events)],
        [ALWAYS],
        rate_per_minute_max=5,
        quarantine_ms=30 * MINUTE_MS,
        batch_rows=4,
    )
    told = run_threads(case)
    check_against(told, judged(case))
    sent = [action["causation_id"] for action in told.all_actions()]
    assert sorted(sent) == sorted([f"b{n}" for n in range(6)] + ["b-after"] + [f"o{n}" for n in range(5)])
    assert told.summary.quarantined == 5
    assert told.summary.bounds["quarantines"] == 1


def test_an_id_is_known_for_a_day_or_64_events(tmp_path: Path) -> None:
    times = [("same", 0), ("same", 23 * HOUR_MS), ("same", 24 * HOUR_MS)]
    times += [(f"x{n}", 30 * HOUR_MS + n) for n in range(64)]
    # x0 is the oldest of 64 when it comes again; then y takes its place, and it is not known any more
    times += [(i, 30 * HOUR_MS + 100) for i in ("x0", "y", "x1", "x0")]
    case = write_case(
        tmp_path, [payload([{"id": i, "time": at(ms)} for i, ms in times])], [ALWAYS], batch_rows=10
    )
    told = run_threads(case)
    check_against(told, judged(case))
    sent = [action["causation_id"] for action in told.all_actions()]
    assert [sent.count(i) for i in ("same", "x0", "x1", "y")] == [2, 2, 1, 1]
    assert told.summary.duplicates == len(times) - len(sent) == 3
    assert told.summary.bounds["dedupe_overflow"] > 0


@pytest.mark.parametrize("seed", seeds(6))
def test_small_bounds_agree(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few ids (powers of two, as rings are), a short memory, and a quarantine after a handful of events."""
    ids, memory_ms = (4, 8, 64)[seed % 3], (MINUTE_MS, 2 * HOUR_MS)[seed % 2]
    monkeypatch.setattr(limits, "DEDUPE_IDS_MAX", ids)
    monkeypatch.setattr(limits, "DEDUPE_MS_MAX", memory_ms)
    case = seeded_case(tmp_path, 40_000 + seed, 300).with_settings(
        rate_per_minute_max=(4, 1_000)[seed % 2], quarantine_ms=(1_000, 30 * MINUTE_MS, 6 * HOUR_MS)[seed % 3]
    )
    reference = judged(case, dedupe_ids_max=ids, dedupe_ms_max=memory_ms)
    check_against(run_threads(case), reference)


LISTING = """
policy = "listing"
version = 1
title = "What was viewed lately"
currency = "EUR"
[[journeys]]
id = "viewed"
on = ["Product Viewed"]
when = "price.amount < 50"
[[journeys.offers]]
id = "viewed-lately"
channel = "web"
items = { recent = "Product Viewed", within = "7d" }
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_worker_knows_is_bounded_and_counted_once(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names of products and versions of prices; its memory counts once however many shards it has."""
    monkeypatch.setattr(limits, "PRODUCT_NAMES_MAX", 2)
    monkeypatch.setattr(limits, "TABLE_VERSIONS_MAX", 3)
    monkeypatch.setattr(ReferenceWorld, "memory_bytes", lambda self: 1 << 40)
    events = [
        {"type": "Price Updated", "userId": "", "time": at(n), "product_id": "p0", "price": n}
        for n in range(5)
    ]
    for n in range(36):  # p2 comes last on every worker
        what = {"type": "Product Viewed", "userId": f"u{n % 9}", "product_id": f"p{n // 12}"}
        events.append({"time": at(HOUR_MS + n * MINUTE_MS), **what})
    told_events = [{"id": f"e{n}", **event} for n, event in enumerate(events)]
    case = write_case(tmp_path, [payload(told_events)], [LISTING], shards=4, batch_rows=5)
    told = run_threads(case, workers)
    listed = {item for action in told.all_actions() for item in action["items"]}
    assert listed == {"p0", "p1"}
    assert told.summary.bounds["names_missing"] == 12
    assert told.summary.bounds["table_versions_dropped"] == 2
    assert told.summary.state_bytes >> 40 == workers
