"""JSON Schema of every form of message that is read, from the very types that read it."""

from __future__ import annotations

from typing import Any

import msgspec

from segue.events.names import CODE_BY_SPELLING
from segue.events.types import (
    CatalogueRow,
    CloudEvent,
    Event,
    PriceRow,
    ProfileRow,
    SegmentBatch,
    SegmentMessage,
    StockRow,
)

FORMS: dict[str, type[msgspec.Struct]] = {
    "event": Event,
    "cloudevent": CloudEvent,
    "segment-message": SegmentMessage,
    "segment-batch": SegmentBatch,
    "catalogue-row": CatalogueRow,
    "price-row": PriceRow,
    "stock-row": StockRow,
    "profile-row": ProfileRow,
}


def json_schema(form: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of one form of message, a key of FORMS."""
    schema: dict[str, Any] = with_numbers(msgspec.json.schema(FORMS[form]))
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema


def with_numbers(node: Any) -> Any:
    """A schema as it is meant: decimals may be JSON numbers too; msgspec's schema knows them as strings only."""
    if isinstance(node, list):
        return [with_numbers(item) for item in node]
    if not isinstance(node, dict):
        return node
    if node.get("format") == "decimal":
        return {**node, "type": ["number", "string"]}
    return {key: with_numbers(value) for key, value in node.items()}


def event_types() -> list[str]:
    """Every spelling of an event type that is understood."""
    return sorted(CODE_BY_SPELLING)
