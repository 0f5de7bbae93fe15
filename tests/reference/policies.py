"""Policy files read plainly: TOML text → Policies of the reference. Only for files that are valid.

Of segue.policy it uses the expressions alone; the tables of segue.policy.load are what it is there to check.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from segue.events.names import CHANNELS, CODE_BY_NAME, PURPOSES
from segue.policy.expression import compile_condition, compile_number
from segue.policy.ir import Node
from segue.policy.scope import Scope
from segue.vouchers.campaign import Campaign, Terms, compile_campaign
from segue_kernels import plan
from tests.reference.decoding import exponent_of
from tests.reference.hashing import field_hash
from tests.reference.history import currency_code
from tests.reference.journeys import (
    Cap,
    Depth,
    Field,
    Items,
    Join,
    Journey,
    Limit,
    Offer,
    Policies,
    Quiet,
    Segment,
    Stage,
)

WITHOUT_CONSENT = ("web", "till")
UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
CALENDAR = {
    **{"hour": plan.WINDOW_HOUR, "day": plan.WINDOW_DAY},
    **{"week": plan.WINDOW_WEEK, "month": plan.WINDOW_MONTH},
}
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
TABLES = ("catalogue", "price", "stock", "profile")
BROUGHT = {"price": "amount", "stock": "quantity"}  # by events: known without being declared


def duration_ms(text: str) -> int:
    """30m → 1_800_000."""
    found = re.fullmatch(r"(\d+)(\w+)", text)
    assert found is not None
    return int(found[1]) * UNIT_MS[found[2]]


def window_ms(fields: dict[str, Any]) -> int:
    """The window of an atom that `within`, `calendar` or `session` name."""
    if "calendar" in fields:
        return CALENDAR[fields["calendar"]]
    if "session" in fields:
        return -duration_ms(fields["session"])
    return duration_ms(fields["within"]) if "within" in fields else 0


@dataclass
class _Defined:
    """What the policies of a deployment define for each other; lookups get their index when they are first read."""

    segments: dict[str, int]
    stages: dict[str, int]
    joins: dict[str, int]
    columns: dict[tuple[str, str], Field]
    read: list[Field] = field(default_factory=list)

    def lookup(self, table: str, name: str) -> tuple[int, str]:
        column = self.columns[table, name]
        if column not in self.read:
            self.read.append(column)
        return self.read.index(column), "text" if column.text else "number"

    def scope(self, currency: str, secret: bytes) -> Scope:
        tables: dict[str, dict[str, str]] = {}
        for (table, name), column in self.columns.items():
            tables.setdefault(table, {})[name] = "text" if column.text else "number"
        return Scope(
            file="reference",
            path="$",
            types=CODE_BY_NAME,
            currency=currency_code(currency),
            minor_per_major=10 ** exponent_of(currency),
            hash_text=lambda text: field_hash(text, secret),
            segments=self.segments,
            stages=self.stages,
            joins=self.joins,
            tables=tables,
            lookup=self.lookup,
        )


def _columns(files: Sequence[dict[str, Any]]) -> dict[tuple[str, str], Field]:
    columns = {(table, name): Field(table, name, False, 0.0) for table, name in BROUGHT.items()}
    for table in (table for file in files for table in file.get("tables", [])):
        unknown = table.get("unknown", {})
        for name, kind in table["fields"].items():
            text = kind == "text"
            answer = unknown.get(name, "" if text else 0.0)
            columns[table["name"], name] = Field(table["name"], name, text, answer)
        brought = BROUGHT.get(table["name"], "")
        if brought in unknown:
            columns[table["name"], brought] = Field(table["name"], brought, False, unknown[brought])
    return columns


def scope_of(currency: str, secret: bytes) -> Scope:
    """What expressions in this currency refer to where no policy defines more."""
    return _Defined({}, {}, {}, _columns([])).scope(currency, secret)


def _asked(fields: dict[str, Any], name: str, scope: Scope) -> Node | None:
    """A condition that need not be there."""
    return compile_condition(fields[name], scope) if name in fields else None


def _offer(fields: dict[str, Any], features: Sequence[str], currency: str, scope: Scope) -> Offer:
    channel = fields["channel"]
    weights = fields.get("weights", {})
    context = fields.get("context", 1.0)
    items = fields.get("items")
    voucher = fields.get("voucher", {})
    depth = None
    discount = voucher.get("discount_percent", voucher.get("discount_amount"))
    if discount is not None:
        is_percent = "discount_percent" in voucher
        computed = compile_number(discount, scope) if isinstance(discount, str) else None
        least, most = (str(voucher.get(name, discount)) for name in ("discount_min", "discount_max"))
        step = str(voucher["discount_step"]) if "discount_step" in voucher else None
        depth = Depth(computed, is_percent, 100 if is_percent else scope.minor_per_major, least, most, step)
    return Offer(
        id=fields["id"],
        channel=channel,
        placement=fields.get("placement", "default"),
        when=_asked(fields, "when", scope),
        applicable=_asked(fields, "applicable", scope),
        suitable=_asked(fields, "suitable", scope),
        value=float(fields.get("value", 1.0)),
        lever=float(fields.get("lever", 1.0)),
        context=compile_number(context, scope) if isinstance(context, str) else float(context),
        bias=float(fields.get("bias", 0.0)),
        weights=tuple(float(weights.get(name, 0.0)) for name in features),
        consent=None if channel in WITHOUT_CONSENT else (channel, fields.get("purpose", "marketing")),
        currency=currency if "voucher" in fields else "",
        steps=tuple(fields.get("steps", [])),
        items=Items(items["recent"], window_ms(items), items.get("up_to", 5)) if items else None,
        purpose=fields.get("purpose", "marketing"),
        depth=depth,
        campaign=voucher["campaign"] if voucher.get("declared") else "",
        take_back_ms=duration_ms(fields["take_back"]) if "take_back" in fields else 0,
    )


def _terms(fields: dict[str, Any], currency: str, secret: bytes) -> Terms:
    """A campaign as the ledger is told of it."""
    named = {"discount_amount": "discount_minor", "discount_max": "discount_max_minor"}
    named |= {"budget_amount": "budget_minor", "basket_min": "basket_min_minor", "id": "name"}
    told = {name: value for name, value in fields.items() if name not in ("title", "when")}
    for name in named.keys() & fields.keys():
        value = told.pop(name)
        told[named[name]] = value if name == "id" else int(Decimal(str(value)).scaleb(exponent_of(currency)))
    if told.get("per_customer") == 0:
        told["per_customer"] = None
    told = {"valid_for": "14d", **told, "currency": currency, "shops": tuple(told.get("shops", ()))}
    if duration_ms(told["valid_for"]) < duration_ms("1h"):
        told["reserve_for"] = told["valid_for"]
    return compile_campaign(Campaign(**told), lambda text: field_hash(text, secret))


def _with_campaign(offer: dict[str, Any], campaigns: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The offer with what the campaign of its voucher says, if one is declared."""
    campaign = campaigns.get(offer.get("voucher", {}).get("campaign", ""))
    if campaign is None:
        return offer
    discount = {name: campaign[name] for name in ("discount_percent", "discount_amount") if name in campaign}
    discount = {name: float(value) for name, value in discount.items()}
    voucher = {**offer["voucher"], **discount, "declared": True}
    when = f"({offer.get('when', 'True')}) and ({campaign.get('when', 'True')})"
    return {**offer, "voucher": voucher, "when": when}


def _change(text: str) -> str:
    """A change as the reference names it: entered("x")."""
    found = re.fullmatch(r"(\w+)\(\s*[\"'](.*)[\"']\s*\)", text)
    return f'{found[1]}("{found[2]}")' if found else text


def _journey(fields: dict[str, Any], currency: str, scope: Scope) -> Journey:
    features = fields.get("model", {}).get("features", [])
    names = [feature["name"] for feature in features]
    wait = fields.get("wait", [])
    waits = [wait] if isinstance(wait, str) else wait
    fired = replace(scope, waiting=True) if waits else scope
    return Journey(
        id=fields["id"],
        on=tuple(map(_change, fields.get("on", []))),
        when=compile_condition(fields["when"], scope),
        offers=tuple(_offer(offer, names, currency, fired) for offer in fields["offers"]),
        priority=fields.get("priority", 50),
        alongside=fields.get("alongside", False),
        score_min=float(fields.get("score_min", 0.0)),
        limits=tuple(
            Limit(limit["times"], duration_ms(limit["within"]), limit.get("by", ""))
            for limit in fields.get("limits", [])
        ),
        features=tuple(compile_number(feature["value"], fired) for feature in features),
        waits_ms=tuple(map(duration_ms, waits)),
        by=fields.get("by", ""),
        restart=fields.get("restart", False),
        still=_asked(fields, "still", fired),
        session_ms=duration_ms(fields["session"]) if "session" in fields else 0,
        applicable=_asked(fields, "applicable", fired),
        suitable=_asked(fields, "suitable", fired),
        expires_ms=duration_ms(fields.get("expires_after", "1d")),
        goal=tuple(fields.get("goal", [])),
    )


def _stage(fields: dict[str, Any], index: int, scope: Scope) -> Stage:
    """A stage that names none is entered from the one before it."""
    given = fields.get("from", [])
    names = [given] if isinstance(given, str) else given
    comes_from = tuple(scope.stages[name] for name in names)
    when = compile_condition(fields["when"], scope) if "when" in fields else None
    return Stage(fields["id"], when, comes_from or ((index - 1,) if index else ()))


def _cap(fields: dict[str, Any]) -> Cap:
    return Cap(
        id=fields["id"],
        times=fields["times"],
        window_ms=window_ms(fields),
        channels=tuple(fields.get("channels", CHANNELS)),
        purposes=tuple(fields.get("purposes", PURPOSES)),
    )


def _minutes(text: str) -> int:
    hours, minutes = text.split(":")
    return 60 * int(hours) + int(minutes)


def _quiet(fields: dict[str, Any]) -> Quiet:
    return Quiet(
        id=fields["id"],
        start=_minutes(fields["from"]),
        end=_minutes(fields["to"]),
        days=tuple(DAYS.index(day) for day in fields.get("days", DAYS)),
        then=fields["then"],
        channels=tuple(fields.get("channels", [c for c in CHANNELS if c not in WITHOUT_CONSENT])),
        purposes=tuple(fields.get("purposes", PURPOSES)),
    )


def _index(files: Sequence[dict[str, Any]], name: str) -> dict[str, int]:
    ids = [item["id"] for file in files for item in file.get(name, [])]
    return {identifier: n for n, identifier in enumerate(ids)}


def read_policies(texts: Sequence[str], secret: bytes, currency: str = "EUR") -> Policies:
    """Everything: policies by name, what they hold as it stands in their file."""
    files = sorted(map(tomllib.loads, texts), key=lambda file: str(file["policy"]))
    defined = _Defined(
        _index(files, "segments"), _index(files, "stages"), _index(files, "joins"), _columns(files)
    )
    campaigns = {one["id"]: one for file in files for one in file.get("campaigns", [])}
    terms: list[Terms] = []
    journeys: list[Journey] = []
    segments: list[Segment] = []
    stages: list[Stage] = []
    joins: list[Join] = []
    caps: list[Cap] = []
    quiet: list[Quiet] = []
    for file in files:
        letters = file.get("currency", currency)
        scope = defined.scope(letters, secret)
        alone = replace(scope, customer_only=True)
        segments += [Segment(s["id"], compile_condition(s["when"], alone)) for s in file.get("segments", [])]
        stages += [_stage(s, n, alone) for n, s in enumerate(file.get("stages", []))]
        for join in file.get("joins", []):
            left = re.sub(r"'", '"', join["left"])
            within, by = duration_ms(join["within"]), join.get("by", "")
            joins.append(Join(join["id"], left, join["right"], within, by, join.get("up_to", 8)))
        caps += map(_cap, file.get("caps", []))
        quiet += map(_quiet, file.get("quiet_hours", []))
        terms += [_terms(fields, letters, secret) for fields in file.get("campaigns", [])]
        for fields in file.get("journeys", []):
            offers = [_with_campaign(offer, campaigns) for offer in fields["offers"]]
            journeys.append(_journey({**fields, "offers": offers}, letters, scope))
    granted = [p["id"] for file in files for p in file.get("purposes", []) if p["unknown"] == "granted"]
    return Policies(journeys, segments, stages, joins, defined.read, caps, granted, terms, quiet)


def read_journeys(texts: Sequence[str], secret: bytes, currency: str = "EUR") -> Sequence[Journey]:
    """The journeys alone."""
    return read_policies(texts, secret, currency).journeys
