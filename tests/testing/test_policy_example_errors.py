"""Every mistake in an example gets its file, path, what was found, and a hint."""

from __future__ import annotations

from pathlib import Path

import pytest

from segue.errors import PolicyError
from segue.settings import secret
from segue.testing.run import play_files

POLICY = """
policy = "p"
version = 1
[[tables]]
name = "catalogue"
fields = { margin = "number" }
[[segments]]
id = "loyal"
when = 'exists("Order Completed")'
[[journeys]]
id = "margins"
on = ["Product Viewed"]
when = "catalogue.margin >= 0.3"
[[journeys.offers]]
id = "banner"
channel = "web"
[[examples]]
name = "a margin"
timezone = "Europe/Berlin"
tables = { catalogue = [{ product_id = "tent", margin = 0.4 }] }
events = [{ at = "0m", event = "Product Viewed", product = "tent" }]
until = "1h"
expect = [{ at = "0m", journey = "margins", offer = "banner" }]
expect_changes = []
"""

# fmt: off
ERRORS = [
    # what is replaced, by what, path, part of the message, part of the hint
    ("until =", "untl =", "", "untl", 'did you mean "until"?'),
    ('until = "1h"', 'until = "an hour"', ".until", '"an hour" is no time', "30m"),
    ('at = "0m", event', 'at = "-5m", event', ".events[0].at", '"-5m" is no time', "30m"),
    ('product = "tent" }]\nuntil', 'prodct = "tent" }]\nuntil', ".events[0]", "prodct", 'did you mean "product"?'),
    ('"Product Viewed", product', '"Product View", product', ".events[0].event", '"Product View"', "Product Viewed"),
    ('product = "tent" }]\nuntil', 'price = "3" }]\nuntil', ".events[0].price", "`str`", "LANGUAGE.md"),
    ('product = "tent" }]\nuntil', 'timezone = "Mars" }]\nuntil', ".events[0].timezone", '"Mars"', "known"),
    ("Europe/Berlin", "Europe/Belin", ".timezone", '"Europe/Belin"', 'did you mean "Europe/Berlin"?'),
    ('journey = "margins"', 'journey = "margin"', ".expect[0].journey", '"margin"', 'did you mean "margins"?'),
    ('offer = "banner"', 'offer = "baner"', ".expect[0].offer", '"baner"', 'did you mean "banner"?'),
    ('offer = "banner"', 'ofer = "banner"', ".expect[0]", "ofer", 'did you mean "offer"?'),
    ("changes = []", 'changes = [{ at = "0m", change = "enters" }]', ".expect_changes[0].change", "enters", "entered"),
    ("changes = []", 'changes = [{ at = "0m", name = "loyl" }]', ".expect_changes[0].name", '"loyl"', '"loyal"'),
    ("changes = []", 'changes = [{ at = "0m", name = "loyal", change = "stage" }]',
     ".expect_changes[0].name", 'no stage "loyal"', "none"),
    ("{ catalogue = [", "{ catalog = [", ".tables", '"catalog"', 'did you mean "catalogue"?'),
    ("tables =", "consent = ['web']\n# tables =", "", "read the table `catalogue`", "tables = { catalogue"),
    ("margin = 0.4", 'margin = "high"', ".tables.catalogue`, row 1, column margin", '"high" is no number', "12.5"),
    ("tables =", "with = ['q.toml']\ntables =", ".with", 'no file "q.toml"', "p.toml"),
    ("product_id =", "sku =", ".tables.catalogue", "no column product_id", "key of this table"),
]
# fmt: on


def test_without_a_mistake_it_is_played(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(POLICY)
    [result] = play_files([str(tmp_path)], secret())
    assert result.passed, result.hints


@pytest.mark.parametrize(("old", "new", "path", "message", "hint"), ERRORS)
def test_errors(tmp_path: Path, old: str, new: str, path: str, message: str, hint: str) -> None:
    assert POLICY.count(old) == 1
    file = tmp_path / "p.toml"
    file.write_text(POLICY.replace(old, new))
    with pytest.raises(PolicyError) as caught:
        play_files([str(file)], secret())
    assert caught.value.step == "read examples"
    assert caught.value.found.startswith(f"{file}: `$.examples[0]{path}`" if "`" not in path else f"{file}: ")
    assert path in caught.value.found
    assert message in caught.value.found
    assert hint in caught.value.hint
