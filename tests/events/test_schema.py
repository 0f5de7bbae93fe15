"""The published schemas are those of the types, and the registry's codes never move."""

from __future__ import annotations

import pytest

from segue.events import names
from segue.events.keys import field_numbers, tables
from segue.events.schema import FORMS, event_types, json_schema
from segue_kernels import scan


@pytest.mark.parametrize("form", FORMS)
def test_each_form_has_a_schema(form: str) -> None:
    schema = json_schema(form)
    assert schema["$schema"].endswith("2020-12/schema")
    assert "$defs" in schema


def test_the_schema_of_an_event_has_the_keys_of_the_message() -> None:
    properties = json_schema("event")["$defs"]["Event"]["properties"]
    assert {"userId", "price", "products", "timestamp"} <= set(properties)
    assert properties["price"]["anyOf"][0]["type"] == ["number", "string"]


def test_codes_are_frozen() -> None:
    frozen = {
        "Products Searched": 1,
        "Order Completed": 9,
        "identify": 30,
        "Consent Changed": 45,
        "Action Failed": 57,
    }
    assert {name: names.CODE_BY_NAME[name] for name in frozen} == frozen
    assert len(names.NAMES) < 128
    assert "view_item" in event_types()
    assert names.type_name(9) == "Order Completed"
    assert names.type_name(127) == "type 127"


def test_every_field_of_the_scanner_is_a_key_of_the_types() -> None:
    numbers = {number for number, _ in field_numbers().values()}
    assert set(range(len(scan.FIELDS))) <= numbers
    assert tables().keys.shape[1] == scan.KEY_WORDS
