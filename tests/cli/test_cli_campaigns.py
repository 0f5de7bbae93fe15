"""`segue campaigns`: what a run with a campaign has granted, and what is left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from segue.cli import app

POLICY = """
policy = "vouchers"
version = 3
currency = "EUR"
[[campaigns]]
id = "three"
start = "2026-01-01T00:00:00Z"
end = "2026-12-31T00:00:00Z"
budget = 3
budget_amount = "100.00"
discount_amount = "5.00"
valid_for = "2h"
[[campaigns]]
id = "unused"
start = "2026-01-01T00:00:00Z"
end = "2026-12-31T00:00:00Z"
discount_amount = 1
[[journeys]]
id = "vouchers"
on = ["Product Viewed"]
when = 'True'
[[journeys.offers]]
id = "five-off"
channel = "web"
voucher = { campaign = "three" }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run in which five customers came by, one an hour."""
    (tmp_path / "p.toml").write_text(POLICY)
    events = [
        {
            "id": f"e{n}",
            "type": "Product Viewed",
            "userId": f"u{n}",
            "time": f"2026-03-02T{8 + n:02}:00:00Z",
            "price": 9.5,
            "currency": "EUR",
        }
        for n in range(5)
    ]
    (tmp_path / "e.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    ran = CliRunner().invoke(
        app,
        [
            *("run", str(tmp_path / "e.jsonl"), "--out", str(tmp_path / "out")),
            *("--policies", str(tmp_path / "p.toml"), "--no-native", "--quiet"),
        ],
    )
    assert ran.exit_code == 0, ran.output
    return tmp_path


def campaigns(folder: Path, *arguments: str) -> Result:
    options = ["--policies", str(folder / "p.toml"), "--out", str(folder / "out")]
    return CliRunner().invoke(app, ["campaigns", *arguments, *options], env={"COLUMNS": "200"})


def granted(folder: Path) -> list[dict[str, str]]:
    """Codes that went out, their times, and whether they were good when the last one did; in the ledger's order."""
    lines = (folder / "out" / "web.jsonl").read_text().splitlines()
    actions = [json.loads(line) for line in lines]
    last = max(action["time"] for action in actions)
    return [
        {
            "code": action["voucher"]["code"],
            "state": "issued" if action["voucher"]["expires_at"] > last else "expired",
            "granted_at": action["time"],
            "expires_at": action["voucher"]["expires_at"],
        }
        for action in actions
    ]


def test_what_is_granted_and_left(folder: Path) -> None:
    told = campaigns(folder, "list", "--json")
    assert told.exit_code == 0, told.output
    three, unused = json.loads(told.stdout)
    good = sum(code["state"] == "issued" for code in granted(folder))
    assert 0 < good < 3
    assert (three["granted"], three["left"], three["open"], three["expired"]) == (3, 0, good, 3 - good)
    assert (three["held_minor"], three["left_minor"]) == (1_500, 8_500)
    assert three["policy"] == "vouchers@3"
    assert (unused["granted"], unused["left"], unused["budget_minor"]) == (0, None, None)
    shown = campaigns(folder, "list").stdout
    assert "three" in shown
    assert "85.00 EUR" in shown
    later = campaigns(folder, "show", "three", "--at", "2026-03-03T00:00:00Z").stdout
    assert "3; 0 of 3 left" in later
    assert "0; 3 ran out" in later
    assert "15.00 EUR promised; 85.00 EUR of 100.00 EUR left" in later


def test_codes_are_those_of_the_actions(folder: Path) -> None:
    told = campaigns(folder, "codes", "three")
    assert told.exit_code == 0, told.output
    assert [json.loads(line) for line in told.stdout.splitlines()] == granted(folder)


def test_what_is_not_there_is_said(folder: Path) -> None:
    told = campaigns(folder, "show", "thre")
    assert told.exit_code == 1
    assert 'did you mean "three"' in told.output
    (folder / "out" / "ledger.arrows").unlink()
    told = campaigns(folder, "list")
    assert told.exit_code == 1
    assert "is missing" in told.output
