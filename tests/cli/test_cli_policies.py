"""`segue check`, and policies with every kind of mistake: each is one message with its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from segue.cli import app
from segue.policy.load import SHIPPED

GOOD = """
policy = "{name}"
version = 1
[[journeys]]
id = "{name}"
on = ["Product Viewed"]
when = 'count("Product Viewed", within="30m") >= 3'
[[journeys.offers]]
id = "voucher-{name}"
channel = "email"
value = 4.0
bias = -2.0
"""

MISTAKES = {
    "no TOML": ("policy = ", "policy = ["),
    "no name": ('policy = "a"', 'polici = "a"'),
    "wrong type": ("version = 1", 'version = "one"'),
    "unknown event": ('on = ["Product Viewed"]', 'on = ["Product Veiwed"]'),
    "unknown event in a condition": ('count("Product Viewed"', 'count("Product Veiwed"'),
    "unknown function": ("'count(", "'cout("),
    "no Python": (">= 3'", ">= '"),
    "not allowed": (">= 3'", '>= __import__("os").getpid()\''),
    "no condition": ("""within="30m") >= 3'""", """within="30m")'"""),
    "no duration": ('within="30m"', 'within="soon"'),
    "unknown channel": ('channel = "email"', 'channel = "emial"'),
    "unknown field": ("value = 4.0", "valeu = 4.0"),
    "not finite": ("value = 4.0", "value = inf"),
    "twice": ('id = "voucher-a"', 'id = "voucher-a"\nid = "b"'),
    "no offers": ("[[journeys.offers]]", "[[journeys.offer]]"),
}


def check(*paths: Path) -> Result:
    return CliRunner().invoke(app, ["check", *map(str, paths)])


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_one_message(tmp_path, mistake):
    path = tmp_path / "a.toml"
    good = GOOD.format(name="a")
    before, after = MISTAKES[mistake]
    assert before in good
    path.write_text(good.replace(before, after, 1))
    result = check(path)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert str(path) in result.stderr
    assert result.stderr.endswith("1 of 1 files not valid\n")
    assert "Traceback" not in result.output


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "a.toml"
    path.write_bytes(b"\xff\xfe\x00")
    assert check(path).exit_code == 1


def test_all_invalid_files_are_told(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.toml").write_text(GOOD.format(name=name))
    (tmp_path / "b.toml").write_text("policy = 1")
    (tmp_path / "c.toml").write_text(GOOD.format(name="c").replace("email", "emial"))
    result = check(tmp_path)
    assert result.exit_code == 1
    assert "a.toml" not in result.stderr
    assert "b.toml" in result.stderr
    assert "c.toml" in result.stderr
    assert 'did you mean "email"?' in result.stderr
    assert "2 of 3 files not valid" in result.stderr


def test_one_name_for_two_files(tmp_path):
    for file in ("a", "b"):
        (tmp_path / f"{file}.toml").write_text(GOOD.format(name="same"))
    result = check(tmp_path)
    assert result.exit_code == 1
    assert "is the name of" in result.stderr


def test_shipped_policies_are_valid_and_tell_their_state():
    result = check(SHIPPED)
    assert result.exit_code == 0, result.stderr
    assert "bytes a customer" in result.stdout
    assert "contextual-voucher" in result.stdout
    assert "Order Completed" in result.stdout


def test_missing_file(tmp_path):
    result = check(tmp_path / "missing.toml")
    assert result.exit_code == 1
    assert "missing.toml" in result.stderr
