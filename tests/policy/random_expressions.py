"""Random expressions in the language, and random histories that come near their windows and keys."""

from __future__ import annotations

from hypothesis import strategies as st
from naive_history import Event, NaiveHistory

from segue.events.names import CODE_BY_NAME
from segue.limits import DAY_MS
from segue.policy.scope import Scope
from segue_kernels import plan

EVENTS = ("Product Viewed", "Order Completed", "Products Searched")
KEYS = {"shoes": 11, "socks": -12, "hats": 2**62}
CURRENCY = 3242  # EUR
OTHER_CURRENCY = 14_000
NOW_MS = 1_750_000_001_234


SEGMENTS = {"loyal": 0, "lapsed": 5, "wealthy": 59}
STAGES = {"new": 0, "active": 3}
JOINS = {"offer-redeemed": 0, "view-bought": 2}
LOOKUPS = (
    *(("catalogue", "margin", "number"), ("catalogue", "brand", "text"), ("price", "amount", "number")),
    *(("stock", "quantity", "number"), ("profile", "age", "number"), ("profile", "tier", "text")),
)
TABLES = {
    table: {name: kind for of, name, kind in LOOKUPS if of == table}
    for table in ("catalogue", "price", "stock", "profile")
}


def lookup(table: str, name: str) -> tuple[int, str]:
    return next((i, kind) for i, (of, field, kind) in enumerate(LOOKUPS) if (of, field) == (table, name))


def scope(path: str = "$.when", waiting: bool = True, customer_only: bool = False) -> Scope:
    return Scope(
        *("test.toml", path, CODE_BY_NAME, CURRENCY, 100, lambda text: KEYS.get(text, 99)),
        segments=SEGMENTS,
        stages=STAGES,
        joins=JOINS,
        tables=TABLES,
        lookup=lookup,
        waiting=waiting,
        customer_only=customer_only,
    )


def _window(draw: st.DrawFn, tumbling: bool = True) -> str:
    width = draw(st.sampled_from(["1s", "7s", "1m", "3m", "1h"]))
    calendar, session = draw(st.sampled_from(["day", "week", "month"])), draw(st.sampled_from(["1m", "3m"]))
    moving = ["", f', within="{width}"', f', calendar="{calendar}"', f', session="{session}"']
    return draw(st.sampled_from(moving + [f', every="{width}"'] * tumbling))


def _by(draw: st.DrawFn) -> str:
    return draw(st.sampled_from(["", "", ', by="product"', ', by="category"', ', source="socks"']))


def _event(draw: st.DrawFn, several: bool = True) -> str:
    name = f'"{draw(st.sampled_from(EVENTS))}"'
    if several and draw(st.integers(0, 4)) == 0:
        return "any_of(" + ", ".join(f'"{one}"' for one in EVENTS[draw(st.integers(0, 1)) :]) + ")"
    return name


@st.composite
def atoms(draw: st.DrawFn) -> str:
    kinds = (
        "count",
        "count",
        "sum",
        "distinct",
        "recency",
        "decayed",
        "trend",
        "first",
        "last",
        "age",
        "joined",
    )
    kind = draw(st.sampled_from(kinds))
    event = _event(draw, several=kind in ("count", "sum", "recency"))
    by = _by(draw)
    window = _window(draw, tumbling=kind in ("count", "sum", "distinct"))
    up_to = draw(st.sampled_from(["", ", up_to=1", ", up_to=3", ", up_to=23", ", up_to=70"]))
    of = draw(st.sampled_from(["price", "amount", "quantity"]))
    match kind:
        case "sum":
            return f'sum({event}, of="{of}"{by}{window}{"" if "every" in window else up_to})'
        case "distinct":
            of = draw(st.sampled_from(["product", "category", "store", "code"]))
            by = "" if of in by else by
            return f'distinct({event}, of="{of}"{by}{window}{up_to})'
        case "recency":
            return f"recency({event}{by}{window})"
        case "age":
            return f"age({event}{by})"
        case "first":
            return f'first({event}, of="{of}"{by})'
        case "last":
            return f'last({event}, of="{of}"{by}{window})'
        case "decayed" | "trend":
            of = draw(st.sampled_from(["", f', of="{of}"']))
            half_life = draw(st.sampled_from(["1s", "7s", "1m", "1h"]))
            if kind == "decayed":
                return f'decayed({event}, half_life="{half_life}"{of}{by})'
            return f'trend({event}, recent="{half_life}", habit="1d"{of}{by})'
        case "joined":
            return f'joined("{draw(st.sampled_from(sorted(JOINS)))}"{window}{up_to})'
        case _:
            return f"count({event}{by}{window}{up_to})"


@st.composite
def sequences(draw: st.DrawFn) -> str:
    steps = [_event(draw) for _ in range(draw(st.integers(2, 4)))]
    text = ", ".join(steps) + _by(draw) + _window(draw, tumbling=False)
    apart = [name for name in EVENTS if f'"{name}"' not in text]
    if apart and draw(st.booleans()):
        text += f', without="{draw(st.sampled_from(apart))}"'
    return f"sequence({text}{draw(st.sampled_from(['', ', up_to=1', ', up_to=3', ', up_to=32']))})"


CONSTANTS = ("0", "1", "2.5", "-3", "0.1", "1e18", 'duration("30s")', "40")
NUMBER_FIELDS = (
    *("event.price", "event.amount", "event.quantity", "step"),
    *(f"{table}.{name}" for table, name, kind in LOOKUPS if kind == "number"),
)
COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
TESTS = ('== "shoes"', '!= "socks"', 'in ("shoes", "hats")', 'not in ("socks", "")', '== ""')


def _counted(draw: st.DrawFn) -> str:
    """A count against a constant: the road of one load and a compare."""
    text = f"count({_event(draw)}{_by(draw)}{_window(draw)})"
    if draw(st.booleans()):
        text += f" + count({_event(draw)}{_window(draw)})"
    if draw(st.integers(0, 5)) == 0:
        text = f'joined("offer-redeemed"{_window(draw, tumbling=False)})'
    constant = draw(st.sampled_from(["0", "1", "2", "3", "2.5", "-1", "9"]))
    sign = draw(st.sampled_from(COMPARISONS))
    return f"({text} {sign} {constant})" if draw(st.booleans()) else f"({constant} {sign} {text})"


@st.composite
def numbers(draw: st.DrawFn, depth: int = 3) -> str:
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        return draw(st.one_of(atoms(), atoms(), st.sampled_from(CONSTANTS), st.sampled_from(NUMBER_FIELDS)))
    a, b = draw(numbers(depth - 1)), draw(numbers(depth - 1))
    match draw(
        st.sampled_from(["+", "-", "*", "/", "min", "max", "log1p", "sqrt", "exp", "abs", "-x", "if"])
    ):
        case ("min" | "max") as name:
            return f"{name}({a}, {b})"
        case ("log1p" | "sqrt" | "exp" | "abs") as name:
            return f"{name}({a})"
        case "-x":
            return f"-{a}"
        case "if":
            return f"({a} if {draw(conditions(depth - 1))} else {b})"
        case sign:
            return f"({a} {sign} {b})"


@st.composite
def conditions(draw: st.DrawFn, depth: int = 3) -> str:
    form = draw(
        st.sampled_from(
            [
                *("count", "compare", "chain", "exists", "field", "type", "and", "or", "not", "if"),
                *("sequence", "sequence", "absent", "segment", "stage", "recency"),
            ]
        )
    )
    if depth == 0 and form in ("and", "or", "not", "if"):
        form = "count"
    match form:
        case "count":
            return _counted(draw)
        case "compare":
            sign = draw(st.sampled_from(COMPARISONS))
            return f"({draw(numbers(min(depth, 2)))} {sign} {draw(numbers(min(depth, 2)))})"
        case "chain":
            return f"({draw(numbers(1))} <= {draw(numbers(1))} < {draw(numbers(1))})"
        case "exists":
            return f'exists({_event(draw)}, by="product"{_window(draw)})'
        case "sequence":
            return draw(sequences())
        case "absent":
            return f"absent({_event(draw)}{_by(draw)})"
        case "segment":
            return f'segment("{draw(st.sampled_from(sorted(SEGMENTS)))}")'
        case "stage":
            return f'stage("{draw(st.sampled_from(sorted(STAGES)))}")'
        case "recency":
            sign, constant = draw(st.sampled_from(COMPARISONS)), draw(st.sampled_from(["0", "7000", "1e18"]))
            return f"(recency({_event(draw)}{_window(draw, tumbling=False)}) {sign} {constant})"
        case "field":
            texts = [f"event.{name}" for name in ("product", "category", "store", "code", "source")]
            texts += [f"{table}.{name}" for table, name, kind in LOOKUPS if kind == "text"]
            return f"{draw(st.sampled_from(texts))} {draw(st.sampled_from(TESTS))}"
        case "type":
            return draw(st.sampled_from(['event.type == "Product Viewed"', f"event.type in {EVENTS[:2]}"]))
        case "not":
            return f"(not {draw(conditions(depth - 1))})"
        case "if":
            a, b, c = (draw(conditions(depth - 1)) for _ in range(3))
            return f"({a} if {b} else {c})"
        case _:
            return f"({draw(conditions(depth - 1))} {form} {draw(conditions(depth - 1))})"


@st.composite
def customer_conditions(draw: st.DrawFn, depth: int = 2) -> str:
    """As of segments and stages, without what changes all the time."""
    if depth and draw(st.integers(0, 2)) == 0:
        a, b = draw(customer_conditions(depth - 1)), draw(customer_conditions(depth - 1))
        return draw(st.sampled_from([f"({a} and {b})", f"({a} or {b})", f"(not {a})"]))
    event, sign = _event(draw), draw(st.sampled_from(COMPARISONS))
    short = draw(st.sampled_from(["", ', within="7s"', ', within="3m"', ', session="1m"']))
    window = draw(st.sampled_from([short, short, ', calendar="day"']))
    small, age = draw(st.sampled_from(["0", "1", "2.5", "4"])), draw(st.sampled_from(["0", "999.5", "61000"]))
    match draw(st.sampled_from(["count", "number", "sum", "distinct", "sequence", "recency", "age"])):
        case "count":
            every = draw(st.sampled_from([window, ', every="7s"']))
            return f"(count({event}{every}) {sign} {small})"
        case "number":
            return f"(count({event}{window}, up_to=3) * 2 {sign} {small})"
        case "sum":
            return f'(sum({event}, of="quantity"{window}, up_to=3) {sign} 400000)'
        case "distinct":
            return f'(distinct("{EVENTS[0]}", of="product"{window}) {sign} {small})'
        case "sequence":
            apart = ', without="Order Completed"' if draw(st.booleans()) else ""
            return f'sequence("Product Viewed", "Products Searched"{window}{apart}, up_to=3)'
        case "recency":
            return f"(recency({event}{window}) {sign} {age})"
        case _:
            return f'(age("{EVENTS[0]}") {sign} {age})'


_keys = st.sampled_from([0, *KEYS.values()])
_money = st.one_of(st.integers(-1_000, 10_000), st.integers(-(10**15), 10**15))
# near the edges of every window of _window, seen from NOW_MS
_edges = [edge + step for edge in (0, 1_000, 7_000, 60_000, 180_000, 3_600_000) for step in (-1, 0, 1)]
_ages = st.one_of(st.sampled_from([age for age in _edges if age >= 0]), st.integers(0, 4_000_000))
_types = [CODE_BY_NAME[name] for name in EVENTS]
_events = st.builds(
    Event,
    time=_ages.map(lambda age: NOW_MS - age),
    type=st.sampled_from([*_types, *_types, *(plan.JOIN_TYPE + join for join in JOINS.values())]),
    product=_keys,
    category=_keys,
    store=_keys,
    code=_keys,
    source=_keys,
    price=_money,
    amount=_money,
    quantity=st.integers(0, 1_000_000),
    currency=st.sampled_from([CURRENCY, CURRENCY, OTHER_CURRENCY]),
)
# local midnight (three minutes ago) of some day, of a Monday, of the first of a month; and another zone
_MIDNIGHT_MS = 180_000 - NOW_MS % DAY_MS
_OFFSETS = (7_200_000, _MIDNIGHT_MS, _MIDNIGHT_MS + DAY_MS, _MIDNIGHT_MS + 16 * DAY_MS)
_numbers = st.one_of(st.sampled_from([0, 1, -1, 10**6, 2_500_000]), st.integers(-(2**62), 2**62))


def histories() -> st.SearchStrategy[NaiveHistory]:
    latest = st.builds(Event, time=st.just(NOW_MS), type=st.just(CODE_BY_NAME[EVENTS[0]]), product=_keys)
    pasts = st.lists(_events, min_size=4, max_size=40)
    return st.builds(
        lambda past, now, at, **others: NaiveHistory([*past[:at], now, *past[at:]], **others),
        pasts,
        latest,
        st.integers(0, 4),
        offset_ms=st.sampled_from(_OFFSETS),
        step=st.integers(0, 8),
        segments=st.integers(0, 2**60 - 1),
        stage=st.integers(0, 4),
        lookups=st.tuples(*(_numbers if kind == "number" else _keys for _, _, kind in LOOKUPS)),
    )
