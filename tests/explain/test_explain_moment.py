"""Explanations compared with what the log and the messages say, read another way."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from rich.console import Console

from segue.errors import SegueError
from segue.explain.logs import FolderLogs
from segue.explain.moment import explain
from segue.explain.words import REASONS, TAKEN_BACK, Policies, taken_back, why
from segue.policy.load import SHIPPED
from segue.run.explaining import show
from segue.run.progress import Silent
from segue.run.runner import prepare, run
from segue.settings import Settings
from segue.simulate import SimulationSettings, write_simulation
from segue_kernels.shard import REASON_NAMES, WHY_NAMES

Rows = list[dict[str, Any]]
ARRIVAL_MS = 2_000_000_000_000  # behind all that is simulated


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run over simulated shoppers wrote, every score logged."""
    folder = tmp_path_factory.mktemp("explain")
    with open(folder / "events.jsonl", "wb") as file:
        write_simulation(SimulationSettings(customers=300, events=8_000), file)
    settings = Settings(
        inputs=(str(folder / "events.jsonl"),),
        out=str(folder / "out"),
        sample_share=1.0,
        arrival_ms=ARRIVAL_MS,
    )
    run(prepare(settings), Silent())
    return folder / "out"


@pytest.fixture(scope="module")
def rows(out: Path) -> Rows:
    return list(pa.ipc.open_stream(out / "decisions.arrows").read_all().to_pylist())


@pytest.fixture(scope="module")
def actions(out: Path) -> Rows:
    lines = [line for path in out.glob("*.jsonl") for line in path.read_bytes().splitlines()]
    return [action for action in map(json.loads, lines) if action.get("kind") == "action"]


def of_moment(rows: Rows, row: dict[str, Any]) -> set[str]:
    """Decisions of the same trigger."""
    keys = ("customer_id", "time", "causation_id")
    return {each["decision_id"] for each in rows if all(each[key] == row[key] for key in keys)}


def test_an_action_is_explained_by_its_moment(out: Path, rows: Rows, actions: Rows) -> None:
    by_id = {row["decision_id"]: row for row in rows}
    for action in actions[:: max(1, len(actions) // 20)]:
        found = explain(FolderLogs(str(out)), action["action_id"])
        of_decision = explain(FolderLogs(str(out)), action["decision_id"])
        assert of_decision == msgspec.structs.replace(found, asked=action["decision_id"])
        assert found.customer_id == action["customer_id"]
        assert {each.decision_id for each in found.moment} == of_moment(rows, by_id[action["decision_id"]])
        assert found.actions[action["decision_id"]] == action
        mine = next(each for each in found.moment if each.decision_id == action["decision_id"])
        winner = next(each for each in mine.candidates if each.reason == "won")
        assert (winner.offer, winner.journey, winner.policy) == (
            action["offer"],
            action["journey"],
            action["policy_version"],
        )
        assert (winner.propensity, winner.score) == (action["propensity"], action["score"])


def test_a_customer_is_explained_as_of_a_time(out: Path, rows: Rows, actions: Rows) -> None:
    busiest = Counter(row["customer_id"] for row in rows).most_common(1)[0][0]
    mine = sorted((row for row in rows if row["customer_id"] == busiest), key=lambda row: row["time"])
    for row in (mine[0], mine[len(mine) // 2], mine[-1]):
        at_ms = round(row["time"].timestamp() * 1_000)
        found = explain(FolderLogs(str(out)), busiest, at_ms)
        until = [each for each in mine if each["time"] <= row["time"]]
        assert found.decided == len(until)
        assert found.of_others == len(rows) - len(mine)
        assert {each.time_ms for each in found.moment} == {at_ms}
        ids = {each["decision_id"] for each in until}
        sent = {each["action_id"] for each in actions if each["decision_id"] in ids}
        assert {each["action_id"] for each in found.sent} == sent
        lost = sum(sum(reason != 0 for reason in each["reasons"]) for each in until)
        assert sum(refused.times for refused in found.refused) == lost
    assert explain(FolderLogs(str(out)), busiest) == explain(FolderLogs(str(out)), busiest, at_ms)


def test_of_who_got_nothing_the_log_says_why(out: Path, rows: Rows, actions: Rows) -> None:
    unlucky = {row["customer_id"] for row in rows} - {action["customer_id"] for action in actions}
    found = explain(FolderLogs(str(out)), min(unlucky))
    assert not found.sent
    assert found.refused
    assert all(each.winner is None for each in found.moment)


def test_who_is_in_no_log_is_told_from_who_is_unknown(out: Path, rows: Rows) -> None:
    found = explain(FolderLogs(str(out)), "nobody")
    assert (found.moment, found.sent, found.decided, found.of_others) == ([], [], 0, len(rows))
    with pytest.raises(SegueError, match="no action, decision or customer 0123"):
        explain(FolderLogs(str(out)), "0123456789abcdef" * 2)


def test_late_events_and_dead_letters_are_counted(out: Path, tmp_path: Path) -> None:
    (tmp_path / "decisions.arrows").write_bytes((out / "decisions.arrows").read_bytes())
    (tmp_path / "late.jsonl").write_text(
        '{"raw": "of shopper-1"}\n{"raw": "of shopper-2"}\n{"raw": "of shopper-1'
    )
    (tmp_path / "dead_letters.jsonl").write_text('{"raw": "shopper-1"}\n')
    assert explain(FolderLogs(str(tmp_path)), "shopper-1").not_used == {"late": 1, "dead_letters": 1}


def test_every_reason_has_words() -> None:
    assert tuple(REASONS) == REASON_NAMES


def test_words_name_what_the_policy_says(out: Path, rows: Rows) -> None:
    policies = Policies([SHIPPED])
    of_reason = {reason: row["decision_id"] for row in rows for reason in row["reasons"]}
    said: dict[str, str] = {}
    for decision_id in of_reason.values():
        found = explain(FolderLogs(str(out)), decision_id)
        for decision in found.moment:
            for candidate in decision.candidates:
                said[candidate.reason] = why(decision, candidate, found.moment, policies)
    assert said["won"] == "goes out"
    assert said["no_consent"].startswith("no consent for ")
    assert said["no_consent"].endswith(("(marketing)", "(service)"))
    assert "scored higher" in said["outscored"]
    assert said["not_eligible"].startswith("its own condition does not hold: ")


def test_a_folder_without_a_log_is_told(tmp_path: Path) -> None:
    with pytest.raises(SegueError, match="is missing"):
        FolderLogs(str(tmp_path))


def test_a_table_that_is_no_log_is_told(tmp_path: Path) -> None:
    schema = pa.schema([("x", pa.int64())])
    with pa.ipc.new_stream(tmp_path / "decisions.arrows", schema) as writer:
        writer.write_batch(pa.record_batch([[1]], schema=schema))
    with pytest.raises(SegueError, match="no decision log"):
        explain(FolderLogs(str(tmp_path)), "x")


def test_what_was_taken_back_is_told(tmp_path: Path) -> None:
    policy = """
policy = "back"
version = 1
[[purposes]]
id = "marketing"
unknown = "granted"
[[journeys]]
id = "cart"
on = ["Product Added"]
when = "True"
[[journeys.offers]]
id = "mail"
channel = "email"
take_back = "6h"
"""
    (tmp_path / "p.toml").write_text(policy)
    told = [
        {"id": "a", "type": "Product Added", "userId": "u", "time": "2026-03-01T09:00:00Z"},
        {"id": "n", "type": "Unsubscribed", "userId": "u", "time": "2026-03-01T10:00:00Z"},
    ]
    (tmp_path / "e.jsonl").write_text("".join(json.dumps(event) + "\n" for event in told))
    settings = Settings(
        inputs=(str(tmp_path / "e.jsonl"),),
        out=str(tmp_path / "out"),
        policies=(str(tmp_path / "p.toml"),),
        arrival_ms=ARRIVAL_MS,
    )
    summary = run(prepare(msgspec.structs.replace(settings, native=False)), Silent())
    assert (summary.actions, summary.withdrawn) == (1, 1)
    logs = FolderLogs(str(tmp_path / "out"))
    found = explain(logs, "u")
    [action] = found.sent
    assert list(found.withdrawn) == [action["action_id"]]
    assert taken_back(found.withdrawn[action["action_id"]]) == (
        "taken back at 2026-03-01T10:00:00.000Z, in case it was not sent yet: unsubscribed from this channel, or mail "
        "bounced or was marked as spam (event n)"
    )
    assert explain(logs, action["action_id"]).withdrawn == found.withdrawn
    console = Console(file=io.StringIO(), width=200)
    show(found, Policies([]), console)
    assert "taken back: suppressed" in console.file.getvalue()  # type: ignore[attr-defined]
    assert list(TAKEN_BACK) == list(WHY_NAMES)
