"""Policy files read plainly: TOML text → Journeys of the reference. Only for files that are valid.

Of segue.policy it uses the expressions alone; the tables of segue.policy.load are what it is there to check.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from typing import Any

from segue.events.names import CODE_BY_NAME
from segue.policy.expression import Scope, compile_condition, compile_number
from tests.reference.decoding import exponent_of
from tests.reference.hashing import field_hash
from tests.reference.history import currency_code
from tests.reference.journeys import Journey, Limit, Offer

WITHOUT_CONSENT = ("web", "till")
UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


def duration_ms(text: str) -> int:
    """30m → 1_800_000."""
    found = re.fullmatch(r"(\d+)(\w+)", text)
    assert found is not None
    return int(found[1]) * UNIT_MS[found[2]]


def scope_of(currency: str, secret: bytes) -> Scope:
    """What the expressions of a policy in this currency refer to."""
    return Scope(
        file="reference",
        path="$",
        types=CODE_BY_NAME,
        currency=currency_code(currency),
        minor_per_major=10 ** exponent_of(currency),
        hash_text=lambda text: field_hash(text, secret),
    )


def _offer(fields: dict[str, Any], features: Sequence[str], currency: str, scope: Scope) -> Offer:
    channel = fields["channel"]
    weights = fields.get("weights", {})
    context = fields.get("context", 1.0)
    return Offer(
        id=fields["id"],
        channel=channel,
        placement=fields.get("placement", "default"),
        when=compile_condition(fields["when"], scope) if "when" in fields else None,
        value=float(fields.get("value", 1.0)),
        lever=float(fields.get("lever", 1.0)),
        context=compile_number(context, scope) if isinstance(context, str) else float(context),
        bias=float(fields.get("bias", 0.0)),
        weights=tuple(float(weights.get(name, 0.0)) for name in features),
        consent=None if channel in WITHOUT_CONSENT else (channel, fields.get("purpose", "marketing")),
        currency=currency if "voucher" in fields else "",
    )


def _journey(fields: dict[str, Any], currency: str, scope: Scope) -> Journey:
    features = fields.get("model", {}).get("features", [])
    names = [feature["name"] for feature in features]
    return Journey(
        id=fields["id"],
        on=tuple(fields["on"]),
        when=compile_condition(fields["when"], scope),
        offers=tuple(_offer(offer, names, currency, scope) for offer in fields["offers"]),
        priority=fields.get("priority", 50),
        alongside=fields.get("alongside", False),
        score_min=float(fields.get("score_min", 0.0)),
        limits=tuple(
            Limit(limit["times"], duration_ms(limit["within"]), limit.get("by", ""))
            for limit in fields.get("limits", [])
        ),
        features=tuple(compile_number(feature["value"], scope) for feature in features),
    )


def read_journeys(texts: Sequence[str], secret: bytes, currency: str = "EUR") -> list[Journey]:
    """All journeys: policies by name, journeys as they stand in their file."""
    journeys = []
    for policy in sorted(map(tomllib.loads, texts), key=lambda policy: str(policy["policy"])):
        letters = policy.get("currency", currency)
        scope = scope_of(letters, secret)
        journeys += [_journey(fields, letters, scope) for fields in policy["journeys"]]
    return journeys
