"""Examples of a policy file: what is read, what is refused with its place, and the messages they become."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.errors import PolicyError
from segue.policy.examples import Example, messages, offset_ms, offset_text, read_examples

GOOD = """
[[examples]]
name = "a look"
events = [{ at = "0m", event = "Product Viewed", product = "p1", price = 20.5 }]
expect = [{ at = "30m", journey = "j" }]
"""


def read(folder: Path, text: str) -> tuple[Example, ...]:
    path = folder / "p.toml"
    path.write_text(text)
    return read_examples(path).examples


@given(st.integers(0, 3_000 * 86_400_000))
def test_offsets_read_back(milliseconds: int) -> None:
    assert offset_ms(offset_text(milliseconds)) == milliseconds


@pytest.mark.parametrize("text", ["", "soon", "5", "-5m", "5m later", "1.5h", "99999999999w"])
def test_what_is_no_offset(text: str) -> None:
    with pytest.raises(ValueError, match="is no time"):
        offset_ms(text)


def test_events_become_messages_with_consent_before_them(tmp_path: Path) -> None:
    [example] = read(tmp_path, GOOD.replace("expect =", 'consent = ["email"]\nexpect ='))
    consent, view = messages(example)
    assert (consent["type"], consent["channel"], consent["userId"]) == (
        "Consent Changed",
        "email",
        "customer",
    )
    assert consent["time"] < view["time"] == "2026-03-02T08:00:00.000+00:00"
    assert (view["id"], view["userId"], view["product_id"], view["price"]) == ("1", "customer", "p1", 20.5)


def test_who_does_it(tmp_path: Path) -> None:
    text = """
[[examples]]
name = "comes back"
timezone = "Europe/Berlin"
consent = []
events = [
    { at = "0m", event = "Product Viewed", anonymous = "device" },
    { at = "1m", event = "identify", anonymous = "device" },
    { at = "2m", event = "Order Completed", loyalty = "card", lines = [{ product = "p", quantity = 2 }] },
    { at = "3m", event = "Price Updated", product = "p", price = 1.0 },
]
expect = []
"""
    [example] = read(tmp_path, text)
    view, identify, order, price = messages(example)
    assert "userId" not in view
    assert (identify["userId"], identify["anonymousId"]) == ("customer", "device")
    assert (order["loyaltyId"], order["products"]) == ("card", [{"product_id": "p", "quantity": 2}])
    assert "userId" not in order
    assert "userId" not in price
    assert {each["timezone"] for each in (view, identify, order, price)} == {"Europe/Berlin"}
    assert example.end_ms == 180_000


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("Product Viewed", "Product Veiwed", 'did you mean "Product Viewed"?'),
        ('product = "p1"', 'produkt = "p1"', 'did you mean "product"?'),
        ('at = "30m"', 'at = "later"', "$.examples[0].expect[0].at"),
        ("expect =", "expected =", "expect"),
        ("expect =", 'until = "-2h"\nexpect =', "$.examples[0].until"),
        ("expect =", 'consent = ["emial"]\nexpect =', 'did you mean "email"?'),
        ("expect =", 'start = "2026-03-02"\nexpect =', "as in 2026-03-02T08:00:00Z"),
        ("[[examples]]", "[[examples]", "not TOML"),
    ],
)
def test_mistakes_have_a_place(tmp_path: Path, before: str, after: str, told: str) -> None:
    with pytest.raises(PolicyError) as error:
        read(tmp_path, GOOD.replace(before, after))
    assert told in str(error.value)
    assert "p.toml" in str(error.value)


def test_a_file_without_examples(tmp_path: Path) -> None:
    assert read(tmp_path, 'policy = "p"\n') == ()
