"""A run on files that is killed goes on where it was: what it wrote in the end is what an undisturbed run writes."""

from __future__ import annotations

import json
from collections import Counter
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from segue.cli import app
from segue.simulate import SimulationSettings, write_simulation
from tests.flows.resumable import KILLED, end_of, finished, killed_after, start, with_kills
from tests.flows.runs import OFTEN, Case, Told, run_threads, seeded_case, seeds, write_case
from tests.reference.choice import Seeded

POINTS = ("after_poll", "after_engine", "after_delta", "after_manifest", "after_epoch")


def simulated(folder: Path, seed: int, events: int = 4_000) -> Case:
    """One file, the policies that send often."""
    file = BytesIO()
    write_simulation(SimulationSettings(customers=300, events=events, seed=seed), file)
    return write_case(folder, [file.getvalue()], [OFTEN], batch_rows=100)


def lines_and_rows(out: Path) -> dict[str, object]:
    """All outputs, in their order."""
    told: dict[str, object] = {path.name: path.read_bytes().splitlines() for path in out.glob("*.jsonl")}
    for path in out.glob("*.arrows"):
        told[path.name] = pa.ipc.open_stream(path).read_all().to_pylist()
    return told


def assert_same(case: Case, told: Told) -> None:
    assert told.essence() == run_threads(case).essence()


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_named_point(tmp_path: Path, point: str) -> None:
    """Every file is the same, line by line and row by row."""
    choice = Seeded(POINTS.index(point))
    case = simulated(tmp_path, seed=7)
    with_kills(case, [f"{point}:{choice.integer(2, 3)}", f"{point}:{choice.integer(1, 3)}"])
    run_threads(case)
    undisturbed = lines_and_rows(tmp_path / "out-0")
    del undisturbed["summary.jsonl"]
    resumed = lines_and_rows(tmp_path / "out")
    assert {name: resumed[name] for name in undisturbed} == undisturbed


@pytest.mark.parametrize("seed", seeds(2))
def test_killed_again_and_again_on_any_input(tmp_path: Path, seed: int) -> None:
    """Several partitions, any policies and settings; two crashes in a row before anything new is durable."""
    choice = Seeded(seed)
    case = seeded_case(tmp_path, seed, 800).with_settings(batch_rows=choice.pick((20, 50)))
    first = f"{choice.pick(POINTS)}:{choice.integer(2, 5)}"
    told = with_kills(case, [first, f"{choice.pick(POINTS)}:1"])
    assert_same(case, told)


def test_killed_at_any_time(tmp_path: Path) -> None:
    case = simulated(tmp_path, seed=11)
    for seconds in (0.4, 0.7):
        killed_after(case, seconds)
    assert_same(case, finished(case))


def test_two_processes(tmp_path: Path) -> None:
    """Both die, at points of their own."""
    case = seeded_case(tmp_path, 5, 1_500).with_settings(batch_rows=40, shards=5)
    assert_same(case, with_kills(case, ["after_manifest:3", "after_delta:2"], processes=[2]))


def test_what_was_finished_says_so(tmp_path: Path) -> None:
    case = simulated(tmp_path, seed=3, events=500)
    finished(case)
    before = lines_and_rows(tmp_path / "out")
    code, said = end_of(start(case))
    assert code == 0
    assert "has read all of its input" in said
    assert lines_and_rows(tmp_path / "out") == before


def test_prices_and_stock_heard_along_the_way_survive(tmp_path: Path) -> None:
    """What changed a table before the crash is looked up after it."""
    policy = """
policy = "price"
version = 1
title = "Looks prices up"
currency = "EUR"
[[journeys]]
id = "cheap"
on = ["Product Viewed"]
when = "price.amount < 5"
[[journeys.offers]]
id = "hello"
channel = "web"
"""
    at = "2026-03-02T08:{:02}:{:02}Z".format
    events: list[dict[str, object]] = [
        {
            "type": "Price Updated",
            "id": f"p{n}",
            "time": at(0, n),
            "product_id": f"sku-{n}",
            "price": 1 + 8 * (n % 2),
        }
        for n in range(20)
    ]
    events += [
        {
            **{"type": "Product Viewed", "id": f"v{n}", "userId": f"u{n % 50}"},
            **{"time": at(1 + n // 60, n % 60), "product_id": f"sku-{n % 20}"},
        }
        for n in range(600)
    ]
    payload = "".join(json.dumps(event) + "\n" for event in events).encode()
    case = write_case(tmp_path, [payload], [policy], batch_rows=2)
    told = with_kills(case, ["after_manifest:8", "after_epoch:3"])
    assert told.summary.actions > 0
    assert_same(case, told)


def test_a_damaged_checkpoint_is_refused_and_gone_back_from(tmp_path: Path) -> None:
    """The outputs are cut back with it, and in the end hold what an undisturbed run writes."""
    case = simulated(tmp_path, seed=9)
    code, said = end_of(start(case, kill_at="after_epoch:2"))
    assert code == KILLED, said
    state = tmp_path / "state"
    (journal,) = (state / "journals").iterdir()
    held = bytearray(journal.read_bytes())
    held[max(place for place, byte in enumerate(held) if byte)] ^= 0x10
    journal.write_bytes(held)
    code, said = end_of(start(case))
    assert code == 1
    assert f'{journal.name}" is damaged at byte' in said
    restored = CliRunner().invoke(app, ["checkpoints", "restore", "--state", str(state)])
    assert restored.exit_code == 0, restored.output
    assert_same(case, finished(case))
    again = CliRunner().invoke(app, ["checkpoints", "restore", "--state", str(state)])
    assert again.exit_code == 1
    assert "the run is finished" in again.output


def test_other_policies_go_on(tmp_path: Path) -> None:
    """What was written stays; the logs go on in files of their own. An output may go, another may come."""
    case = simulated(tmp_path, seed=5)
    code, said = end_of(start(case, kill_at="after_epoch:2"))
    assert code == KILLED, said
    (policies,) = (tmp_path / "policies").iterdir()
    policies.write_text(
        OFTEN.replace("version = 1", "version = 2").replace('channel = "push"', 'channel = "sms"')
    )
    code, said = end_of(start(case))
    assert code == 0, said
    told = lines_and_rows(tmp_path / "out")
    before, after = told["decisions.arrows"], told["decisions-2.arrows"]
    assert before
    assert after
    sent = [
        json.loads(line)
        for name in told
        if name in ("email.jsonl", "push.jsonl", "sms.jsonl")
        for line in told[name]
    ]
    versions = {action["policy_version"] for action in sent}
    assert versions == {"often@1", "often@2"}
    winners = Counter(row["decision_id"] for row in [*before, *after] if row["winner"])
    web = [json.loads(line) for line in told["web.jsonl"]]
    assert Counter(action["decision_id"] for action in [*sent, *web]) == winners
