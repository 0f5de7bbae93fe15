"""Examples of a policy file: events on a time axis, and the actions (and changes) that they lead to.

Law: what is returned is complete and refers to known events only; `segue test` plays it without looking further.

    [[examples]]
    name = "left in the cart"
    events = [{ at = "0m", event = "Product Added", product = "p1", price = 20.0 }]
    until = "2h"
    expect = [{ at = "30m", journey = "cart-abandonment", step = 1 }]
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec

from segue.errors import PolicyError, did_you_mean
from segue.events.names import CHANNELS, CODE_BY_NAME, PURPOSES
from segue.limits import (
    EVENTS_PER_EXAMPLE_MAX,
    EXAMPLES_PER_FILE_MAX,
    WINDOW_MS_MAX,
)
from segue.policy.compiled import CompiledPolicies
from segue.policy.gather import ALONG_THE_WAY
from segue.policy.scope import NO_CUSTOMER, UNITS_MS
from segue.reference.zones import zone_names
from segue_kernels.shard import WHY_NAMES

STEP = "read examples"
START = "2026-03-02T08:00:00Z"  # a Monday
CUSTOMER = "customer"  # the user of events that name nobody

_PART = re.compile(r"(\d{1,12})(ms|s|m|h|d|w)\s*")
_OFFSET_HINT = 'whole numbers with units of ms, s, m, h, d, w, from the start on: "0m", "30m", "1d 2h"'
_CHANGES = ("entered", "left", "stage")


class Line(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A line of an order or a promotion."""

    product: str | None = None
    category: str | None = None
    price: float | None = None
    quantity: int | None = None


class Event(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What somebody does, `at` after the start.

    Who does it: `user`, `loyalty` or `anonymous`; a user "customer" if none is named, or of an identify only the last.
    """

    at: str
    event: str
    user: str | None = None
    loyalty: str | None = None
    anonymous: str | None = None
    previous: str | None = None
    product: str | None = None
    category: str | None = None
    store: str | None = None
    coupon: str | None = None
    promotion: str | None = None
    price: float | None = None
    quantity: int | None = None
    amount: float | None = None
    currency: str | None = None
    source: str | None = None
    timezone: str | None = None
    channel: str | None = None
    purpose: str | None = None
    granted: bool | None = None
    lines: list[Line] = []


class Expected(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """An action. Fields that are given are compared; `customer` is the identifier it goes to, `discount` what its
    voucher takes off, in percent or in major units, `campaign` whose voucher was granted with it."""

    at: str
    customer: str | None = None
    journey: str | None = None
    step: int | None = None
    offer: str | None = None
    variant: str | None = None
    channel: str | None = None
    placement: str | None = None
    product: str | None = None
    category: str | None = None
    items: list[str] | None = None
    segments: list[str] | None = None
    stage: str | None = None
    discount: float | None = None
    campaign: str | None = None


class ExpectedChange(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A segment `entered` or `left`, or a `stage` entered. Fields that are given are compared."""

    at: str
    name: str | None = None
    change: str | None = None
    customer: str | None = None


class ExpectedWithdrawn(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """An action taken back. Fields that are given are compared."""

    at: str
    customer: str | None = None
    journey: str | None = None
    step: int | None = None
    offer: str | None = None
    channel: str | None = None
    reason: str | None = None


class Example(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Events in their order of arrival, and all actions they lead to by `until` (the last event's time if absent).

    consent         channels with marketing consent from before the start on, for whoever appears
    expect          every action: one that is not listed is a failure; an empty list: it must not act
    expect_changes  every change of segments and stages, if given
    expect_withdrawn  every action that is taken back, if given
    with_           files beside this one that are loaded with it
    tables          rows of reference tables, by table
    """

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    events: Annotated[list[Event], msgspec.Meta(min_length=1, max_length=EVENTS_PER_EXAMPLE_MAX)]
    expect: list[Expected]
    expect_changes: list[ExpectedChange] | None = None
    expect_withdrawn: list[ExpectedWithdrawn] | None = None
    until: str | None = None
    start: str = START
    timezone: str | None = None
    consent: list[str] = msgspec.field(default_factory=lambda: list(CHANNELS))
    with_: list[str] = msgspec.field(default_factory=list, name="with")
    tables: dict[str, list[dict[str, Any]]] = {}

    @property
    def start_ms(self) -> int:
        return round(datetime.fromisoformat(self.start).timestamp() * 1_000)

    @property
    def end_ms(self) -> int:
        """Offset at which it ends; what is due then still happens."""
        if self.until is not None:
            return offset_ms(self.until)
        return max(offset_ms(event.at) for event in self.events)


@dataclass(frozen=True, slots=True)
class ExamplesOf:
    """The examples of one file."""

    path: Path
    examples: tuple[Example, ...]


def offset_ms(text: str) -> int:
    """Milliseconds of "0m", "30m" or "1d 2h 30m"; ValueError if it is none."""
    at, total = 0, 0
    while at < len(text):
        part = _PART.match(text, at)
        if part is None:
            break
        total += int(part[1]) * UNITS_MS[part[2]]
        at = part.end()
    if at < len(text) or not text or total > WINDOW_MS_MAX:
        raise ValueError(f'"{text}" is no time after the start')
    return total


def offset_text(milliseconds: int) -> str:
    """The shortest such text: "1d 2h 30m"."""
    parts = []
    rest = milliseconds
    for unit in ("d", "h", "m", "s", "ms"):
        count, rest = divmod(rest, UNITS_MS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts) or "0m"


def read_examples(path: Path) -> ExamplesOf:
    """The [[examples]] of a policy file that loads. Raises PolicyError."""
    try:
        document = tomllib.loads(path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n"))
        found = document.get("examples", [])
        examples = msgspec.convert(found, list[Example])
    except OSError as error:
        raise PolicyError(STEP, f"{path}: {error.strerror}", "check the path") from error
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$")
        raise PolicyError(
            STEP, f"{path}: `$.examples{place.rstrip('`')}`: {message}", _hint(message)
        ) from error
    except ValueError as error:
        raise PolicyError(STEP, f"{path}: this is not TOML: {error}", "see `segue check`") from error
    if len(examples) > EXAMPLES_PER_FILE_MAX:
        raise PolicyError(
            STEP, f"{path}: there are {len(examples)} examples", f"at most {EXAMPLES_PER_FILE_MAX} are played"
        )
    for i, example in enumerate(examples):
        _check(example, f"{path}: `$.examples[{i}]")
    return ExamplesOf(path, tuple(examples))


def _hint(message: str) -> str:
    unknown = re.search(r"unknown field `([^`]*)`", message)
    if unknown is None:
        return "see LANGUAGE.md, Examples"
    structs = (Example, Event, Line, Expected, ExpectedChange, ExpectedWithdrawn)
    return did_you_mean(
        unknown[1],
        tuple(dict.fromkeys(field.encode_name for s in structs for field in msgspec.structs.fields(s))),
    )


def _check(example: Example, at: str) -> None:
    for i, event in enumerate(example.events):
        place = f"{at}.events[{i}]"
        _check_offset(event.at, f"{place}.at`")
        _check_word(event.event, "event", tuple(CODE_BY_NAME), f"{place}.event`")
        _check_word(event.timezone, "time zone", zone_names(), f"{place}.timezone`")
        _check_word(event.channel, "channel", CHANNELS, f"{place}.channel`")
        _check_word(event.purpose, "purpose", PURPOSES, f"{place}.purpose`")
    _check_word(example.timezone, "time zone", zone_names(), f"{at}.timezone`")
    for i, expected in enumerate(example.expect):
        _check_offset(expected.at, f"{at}.expect[{i}].at`")
    for i, change in enumerate(example.expect_changes or ()):
        _check_offset(change.at, f"{at}.expect_changes[{i}].at`")
        _check_word(change.change, "change", _CHANGES, f"{at}.expect_changes[{i}].change`")
    for i, withdrawn in enumerate(example.expect_withdrawn or ()):
        _check_offset(withdrawn.at, f"{at}.expect_withdrawn[{i}].at`")
        _check_word(withdrawn.reason, "reason", WHY_NAMES, f"{at}.expect_withdrawn[{i}].reason`")
    if example.until is not None:
        _check_offset(example.until, f"{at}.until`")
    for channel in example.consent:
        _check_word(channel, "channel", CHANNELS, f"{at}.consent`")
    try:
        has_offset = datetime.fromisoformat(example.start).tzinfo is not None
    except ValueError:
        has_offset = False
    if not has_offset:
        raise PolicyError(STEP, f'{at}.start`: "{example.start}" is no time', f"as in {START}")


def check_names(example: Example, policies: CompiledPolicies, at: str) -> None:
    """What is expected can happen: raises PolicyError for journeys, changes and tables that these policies lack.

    at  the example's place: the file, and the path in it
    """
    journeys = tuple(info.id for info in policies.journey_infos)
    listed: list[tuple[str, Sequence[Expected | ExpectedWithdrawn]]] = [
        ("expect", example.expect),
        ("expect_withdrawn", example.expect_withdrawn or ()),
    ]
    for name, of in listed:
        for i, expected in enumerate(of):
            offers = tuple(
                offer.id
                for offer in policies.offer_infos
                if expected.journey in (None, journeys[offer.journey])
            )
            _check_word(expected.journey, "journey", journeys, f"{at}.{name}[{i}].journey`")
            _check_word(expected.offer, "offer", offers, f"{at}.{name}[{i}].offer`")
    for i, change in enumerate(example.expect_changes or ()):
        kind = "stage" if change.change == "stage" else "segment" if change.change else "segment or stage"
        known = () if kind == "stage" else policies.segment_ids
        known += () if kind == "segment" else policies.stage_ids
        _check_word(change.name, kind, known, f"{at}.expect_changes[{i}].name`")
    read = tuple(dict.fromkeys(table for table, _, _ in policies.lookup_fields))
    for table in example.tables:
        _check_word(table, "table that these policies read:", read, f"{at}.tables`")
    for table in read:
        if table not in example.tables and table not in ALONG_THE_WAY:
            hint = f"give the rows that it needs: tables = {{ {table} = [{{ ... }}] }}"
            raise PolicyError(STEP, f"{at}`: these policies read the table `{table}`", hint)


def _check_word(word: str | None, kind: str, known: tuple[str, ...], at: str) -> None:
    if word is not None and word not in known:
        hint = did_you_mean(word, known) if known else "these policies have none"
        raise PolicyError(STEP, f'{at}: there is no {kind} "{word}"', hint)


def _check_offset(text: str, at: str) -> None:
    try:
        offset_ms(text)
    except ValueError:
        raise PolicyError(STEP, f'{at}: "{text}" is no time after the start', _OFFSET_HINT) from None


# --- as messages --------------------------------------------------------------------------------------


def messages(example: Example) -> list[dict[str, Any]]:
    """The events as bare JSON messages, those of consent first; event n of the example has the id `n`, from 1."""
    told = [
        _message(example, event, str(number), example.start_ms + offset_ms(event.at))
        for number, event in enumerate(example.events, start=1)
    ]
    before_ms = min(example.start_ms + offset_ms(event.at) for event in example.events) - 1_000
    who = {
        (field, message[field]): None
        for message in told
        for field in ("userId", "loyaltyId", "anonymousId")
        if field in message and message["type"] not in NO_CUSTOMER
    }
    granted = [
        {
            "id": f"consent {field} {identifier} {channel}",
            "type": "Consent Changed",
            "time": _time(before_ms),
            field: identifier,
            "channel": channel,
            "purpose": "marketing",
            "granted": True,
        }
        for field, identifier in who
        for channel in example.consent
    ]
    return [*granted, *told]


def _message(example: Example, event: Event, number: str, time_ms: int) -> dict[str, Any]:
    user = event.user
    nobody = event.user is None and event.loyalty is None
    if nobody and (event.anonymous is None or event.event in ("identify", "alias")):
        user = CUSTOMER if event.event not in NO_CUSTOMER else None
    fields: dict[str, Any] = {
        "id": number,
        "type": event.event,
        "time": _time(time_ms),
        "source": event.source,
        "userId": user,
        "loyaltyId": event.loyalty,
        "anonymousId": event.anonymous,
        "previousId": event.previous,
        "timezone": event.timezone or example.timezone,
        "product_id": event.product,
        "category": event.category,
        "store_id": event.store,
        "coupon_id": event.coupon,
        "promotion_id": event.promotion,
        "price": event.price,
        "quantity": event.quantity,
        "amount": event.amount,
        "currency": event.currency,
        "channel": event.channel,
        "purpose": event.purpose,
        "granted": event.granted,
    }
    if event.lines:
        fields["products"] = [
            {
                name: value
                for name, value in (
                    ("product_id", line.product),
                    ("category", line.category),
                    ("price", line.price),
                    ("quantity", line.quantity),
                )
                if value is not None
            }
            for line in event.lines
        ]
    return {name: value for name, value in fields.items() if value is not None}


def _time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1_000, UTC).isoformat(timespec="milliseconds")
