"""The policy file as types: TOML text → `PolicyFile`, or an error with the path and a hint.

Law: what is returned has only known fields, of their types and within their bounds; what refers to something
else (events, features, expressions) is checked by load.py. Durations stay text here: "30m".
"""

from __future__ import annotations

import re
import tomllib
import types
import typing
from functools import cache
from typing import Annotated, Any, NoReturn

import msgspec

from segue.errors import PolicyError, did_you_mean
from segue.limits import (
    COUNT_UP_TO_MAX,
    FEATURES_PER_MODEL_MAX,
    ITEMS_PER_ACTION_DEFAULT,
    ITEMS_PER_ACTION_MAX,
    JOIN_UP_TO_DEFAULT,
    JOIN_UP_TO_MAX,
    LIMITS_PER_JOURNEY_MAX,
    POLICY_BYTES_MAX,
    WAITS_PER_JOURNEY_MAX,
)

STEP = "load policies"
PRIORITY_MAX = 1_000
NUMBER_MAX = 1e9
VALID_FOR = "14d"  # of vouchers

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=64)]
FeatureName = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
Title = Annotated[str, msgspec.Meta(max_length=500)]
Number = Annotated[float, msgspec.Meta(ge=-NUMBER_MAX, le=NUMBER_MAX)]
PositiveNumber = Annotated[float, msgspec.Meta(ge=0, le=NUMBER_MAX)]


class Voucher(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What an offer draws from a campaign, which says all of it where it is declared. Else a percentage or an amount
    off, not both; as text an expression, whose value is kept within discount_min and discount_max and lowered to a
    whole number of discount_step above discount_min."""

    campaign: Name
    discount_percent: str | Annotated[float, msgspec.Meta(gt=0, le=100)] | None = None
    discount_amount: str | Annotated[float, msgspec.Meta(gt=0, le=NUMBER_MAX)] | None = None
    discount_min: Annotated[float, msgspec.Meta(ge=0, le=NUMBER_MAX)] | None = None
    discount_max: Annotated[float, msgspec.Meta(gt=0, le=NUMBER_MAX)] | None = None
    discount_step: Annotated[float, msgspec.Meta(gt=0, le=NUMBER_MAX)] | None = None
    valid_for: str | None = None
    stack_group: str | None = None


class Items(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The products an action lists: those of the newest `recent` events in the window, newest first, each once."""

    recent: str
    within: str | None = None
    session: str | None = None
    calendar: str | None = None
    up_to: Annotated[int, msgspec.Meta(ge=1, le=ITEMS_PER_ACTION_MAX)] = ITEMS_PER_ACTION_DEFAULT


class Offer(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Something to say on one channel and placement, and what it is worth."""

    id: Name
    channel: str
    placement: Name = "default"
    variant: Title = ""
    when: str = "True"
    applicable: str = "True"
    suitable: str = "True"
    value: PositiveNumber = 1.0
    lever: PositiveNumber = 1.0
    context: str | Number = 1.0
    bias: Number = 0.0
    weights: dict[str, Number] = {}
    purpose: str = "marketing"
    voucher: Voucher | None = None
    items: Items | None = None
    take_back: str | None = None
    steps: Annotated[list[int], msgspec.Meta(max_length=WAITS_PER_JOURNEY_MAX)] = []


class Feature(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A named number of a model."""

    name: FeatureName
    value: str


class Model(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Logistic model: the probability of an offer is logistic(bias + sum of weight x feature).

    With `file` (model_files.py) bias and weights stand there; `version` then says which version is meant.
    """

    name: Name
    version: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] | None = None
    file: Annotated[str, msgspec.Meta(min_length=1, max_length=1_024)] | None = None
    features: Annotated[list[Feature], msgspec.Meta(min_length=1, max_length=FEATURES_PER_MODEL_MAX)]


class Limit(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """At most `times` actions of the journey within a window, in all or for one product."""

    times: Annotated[int, msgspec.Meta(ge=1, le=COUNT_UP_TO_MAX)]
    within: str
    by: str | None = None


class Journey(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """When something is worth saying, and the offers that then compete.

    It is decided on events and changes (`on`), some time after an event (`on` and `wait`), or when a session ends
    (`session`). `applicable` and `suitable` are asked for each of its offers. `goal`: events that call off what is
    not sent yet.
    """

    id: Name
    when: str
    offers: Annotated[list[Offer], msgspec.Meta(min_length=1)]
    on: Annotated[list[str], msgspec.Meta(min_length=1, max_length=64)] = []
    session: str | None = None
    wait: str | Annotated[list[str], msgspec.Meta(min_length=1, max_length=WAITS_PER_JOURNEY_MAX)] = []
    by: str | None = None
    restart: bool = False
    still: str | None = None
    applicable: str = "True"
    suitable: str = "True"
    title: Title = ""
    priority: Annotated[int, msgspec.Meta(ge=0, le=PRIORITY_MAX)] = 50
    alongside: bool = False
    goal: Annotated[list[str], msgspec.Meta(min_length=1, max_length=64)] = []
    score_min: Number = 0.0
    expires_after: str = "1d"
    limits: Annotated[list[Limit], msgspec.Meta(max_length=LIMITS_PER_JOURNEY_MAX)] = []
    model: Model | None = None


class Segment(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The customers for whom a condition holds, at any moment."""

    id: Name
    when: str
    title: Title = ""


class Stage(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Where a customer stands: everybody begins at the first stage and enters this one from `from` on `when`."""

    id: Name
    when: str | None = None
    from_: str | list[str] = msgspec.field(default_factory=list, name="from")
    title: Title = ""


class Join(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A right event credits the latest left one within the time before it, once."""

    id: Name
    left: str
    right: str
    within: str
    by: str | None = None
    up_to: Annotated[int, msgspec.Meta(ge=1, le=JOIN_UP_TO_MAX)] = JOIN_UP_TO_DEFAULT
    title: Title = ""


class Cap(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """At most `times` actions to a customer within a window, of all journeys together: on these channels, for these
    purposes; on all and for all if absent."""

    id: Name
    times: Annotated[int, msgspec.Meta(ge=1, le=COUNT_UP_TO_MAX)]
    within: str | None = None
    calendar: str | None = None
    channels: Annotated[list[str], msgspec.Meta(min_length=1)] | None = None
    purposes: Annotated[list[str], msgspec.Meta(min_length=1)] | None = None
    title: Title = ""


class Campaign(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Vouchers that are granted while there are any: how many and for how much, when, and what they take off. Sums are
    in major units. `when` is a condition of every offer with a voucher of it."""

    id: Name
    start: str
    end: str
    budget: int | None = None
    budget_amount: str | float | None = None
    per_customer: int = 1
    per_day: int | None = None
    discount_percent: float | None = None
    discount_max: str | float | None = None
    discount_amount: str | float | None = None
    valid_for: str = VALID_FOR
    basket_min: str | float | None = None
    stack_group: Title = ""
    shops: list[str] = []
    timezone: str = "UTC"
    when: str = "True"
    title: Title = ""


class QuietHours(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Times of the customer's own day in which nothing is sent on these channels for these purposes: on all that need
    consent and for all if absent. `then`: what becomes of what would be sent."""

    id: Name
    from_: str = msgspec.field(name="from")
    to: str
    then: str
    channels: Annotated[list[str], msgspec.Meta(min_length=1)] | None = None
    purposes: Annotated[list[str], msgspec.Meta(min_length=1)] | None = None
    days: Annotated[list[str], msgspec.Meta(min_length=1)] | None = None
    title: Title = ""


class Table(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Columns of a reference table that expressions may read, and what is read for a key that is not in it."""

    name: str
    fields: dict[str, str]
    unknown: dict[str, str | Number] = {}
    title: Title = ""


class Purpose(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What counts as consent to a purpose where nothing is known: "granted" or "withheld"."""

    id: str
    unknown: str


class PolicyFile(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """One policy: a name, a version, and what it defines. `currency` defaults to the deployment's."""

    policy: Name
    version: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
    journeys: list[Journey] = []
    segments: list[Segment] = []
    stages: list[Stage] = []
    joins: list[Join] = []
    caps: list[Cap] = []
    campaigns: list[Campaign] = []
    quiet_hours: list[QuietHours] = []
    tables: list[Table] = []
    purposes: list[Purpose] = []
    title: Title = ""
    description: Annotated[str, msgspec.Meta(max_length=5_000)] = ""
    currency: str | None = None
    examples: list[dict[str, Any]] = []  # what `segue test` plays and expects: read by examples.py


RESERVED_FIELDS = (
    "experiments",
    "steps",
    "timeout",
    "exit",
)


def read_policy(data: bytes, file: str) -> PolicyFile:
    """The policy in these bytes; `file` is for messages."""
    if len(data) > POLICY_BYTES_MAX:
        _fail(file, f"the file is larger than {POLICY_BYTES_MAX} bytes", "split the policy")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        _fail(file, f"byte {error.start} is not UTF-8", "save the file as UTF-8")
    try:
        document = tomllib.loads(text.replace("\r\n", "\n"))
    except tomllib.TOMLDecodeError as error:
        _fail(
            file,
            f"this is not TOML: {error}",
            "text stands in quotes; a [[table]] starts a list's next entry",
        )
    except (RecursionError, ValueError) as error:
        _fail(
            file, f"this is not TOML that can be read: {error}", "nest less; write numbers and dates plainly"
        )
    _check_fields(document, PolicyFile, "$", file)
    try:
        return msgspec.convert(document, PolicyFile)
    except msgspec.ValidationError as error:
        message, path = _split(str(error))
        _fail_at(file, path, message + _found(document, path, message), _hint(message))


@cache
def _fields(struct: type[msgspec.Struct]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The fields of a struct with their types, and the names of those that must be given."""
    hints = typing.get_type_hints(struct)
    listed = msgspec.structs.fields(struct)
    required = tuple(field.encode_name for field in listed if field.required)
    return {field.encode_name: hints[field.name] for field in listed}, required


def _check_fields(value: Any, expected: Any, path: str, file: str) -> None:
    """Refuse unknown fields with the nearest known one: msgspec names them, but not what was meant."""
    if isinstance(value, dict) and isinstance(expected, type) and issubclass(expected, msgspec.Struct):
        known, required = _fields(expected)
        for name, item in value.items():
            if name not in known:
                hint = did_you_mean(name, tuple(known))
                if name in RESERVED_FIELDS:
                    hint = "reserved: not yet in this version (see LANGUAGE.md, “How it grows”)"
                _fail_at(file, path, f"there is no field `{name}` here", hint)
            _check_fields(item, known[name], f"{path}.{name}", file)
        missing = [name for name in required if name not in value]
        if missing:
            _fail_at(file, path, f"the field `{missing[0]}` is missing", f"needed here: {', '.join(missing)}")
        return
    origin = typing.get_origin(expected)
    if origin in (typing.Union, types.UnionType):
        for alternative in typing.get_args(expected):
            _check_fields(value, alternative, path, file)
    elif origin is list and isinstance(value, list):
        for i, item in enumerate(value):
            _check_fields(item, typing.get_args(expected)[0], f"{path}[{i}]", file)


def _split(message: str) -> tuple[str, str]:
    """msgspec's text and the path in it: 'Expected `int`, got `str` - at `$.version`'."""
    found = re.fullmatch(r"(.*) - at `(.*)`", message, re.DOTALL)
    return (found[1], found[2]) if found else (message, "$")


def _found(document: Any, path: str, message: str) -> str:
    """What stands at this path, where msgspec tells only a bound: ", found 65"."""
    if ", got" in message:
        return ""
    at = document
    for name, index in re.findall(r"\.([^.\[]+)|\[(\d+)\]", path):
        try:
            at = at[int(index)] if index else at[name]
        except (KeyError, IndexError, TypeError):
            return ""
    if isinstance(at, (list, dict)):
        return f", found {len(at)}"
    return f", found {at!r:.60}"


def _hint(message: str) -> str:
    bound = re.search(r"of length (>=|<=) (\d+)|`(?:int|float)` (>=|<=|>|<) (\S+)", message)
    if bound is not None:
        words = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}
        return f"{words[bound[1] or bound[3]]} {bound[2] or bound[4]}"
    if "matching regex" in message:
        return "a name has small letters, digits, and _ - . after the first: contextual-voucher"
    if "Expected `str" in message:
        return "text stands in quotes"
    if "Expected `int`" in message or "Expected `float`" in message:
        return "a number stands without quotes"
    if "Expected `bool`" in message:
        return "true or false, without quotes"
    if "Expected `array`" in message:
        return "a list stands in [ ], or as [[tables]]"
    if "Expected `object`" in message:
        return "a table stands in { }, or as [table]"
    return "see LANGUAGE.md for the fields and their bounds"


def _fail(file: str, message: str, hint: str) -> NoReturn:
    raise PolicyError(STEP, f"{file}: {message}", hint)


def _fail_at(file: str, path: str, message: str, hint: str) -> NoReturn:
    raise PolicyError(STEP, f"{file}: `{path}`: {message}", hint)
