"""JSON Schemas of all messages, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from segue.actions.messages import Action, DeadLetterMessage, LateMessage, Withdrawn
from segue.events.schema import FORMS, json_schema
from segue.run.report import Summary

_OUT: dict[str, type[msgspec.Struct]] = {
    "action": Action,
    "withdrawn": Withdrawn,
    "dead-letter": DeadLetterMessage,
    "late": LateMessage,
    "summary": Summary,
}


def _schema(message: type[msgspec.Struct]) -> dict[str, Any]:
    return {**msgspec.json.schema(message), "$schema": "https://json-schema.org/draft/2020-12/schema"}


SCHEMAS: dict[str, Callable[[], dict[str, Any]]] = {
    **{form: lambda form=form: json_schema(form) for form in FORMS},  # type: ignore[misc]
    **{name: lambda message=message: _schema(message) for name, message in _OUT.items()},  # type: ignore[misc]
}
