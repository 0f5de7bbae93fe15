"""Random expressions in the language, and random histories that come near their windows and keys."""

from __future__ import annotations

from hypothesis import strategies as st
from naive_history import Event, NaiveHistory

from segue.events.names import CODE_BY_NAME
from segue.policy.expression import Scope

EVENTS = ("Product Viewed", "Order Completed", "Products Searched")
KEYS = {"shoes": 11, "socks": -12, "hats": 2**62}
CURRENCY = 3242  # EUR
OTHER_CURRENCY = 14_000
NOW_MS = 1_750_000_001_234


def scope(path: str = "$.when") -> Scope:
    return Scope("test.toml", path, CODE_BY_NAME, CURRENCY, 100, lambda text: KEYS.get(text, 99))


def _window(draw: st.DrawFn, tumbling: bool = True) -> str:
    width = draw(st.sampled_from(["1s", "7s", "1m", "3m", "1h"]))
    return draw(st.sampled_from(["", f', within="{width}"'] + [f', every="{width}"'] * tumbling))


@st.composite
def atoms(draw: st.DrawFn) -> str:
    kind = draw(st.sampled_from(["count", "count", "sum", "distinct", "recency"]))
    event = draw(st.sampled_from(EVENTS))
    by = draw(st.sampled_from(["", ', by="product"', ', by="category"']))
    window = _window(draw, tumbling=kind != "recency")
    up_to = draw(st.sampled_from(["", ", up_to=1", ", up_to=3", ", up_to=23", ", up_to=70"]))
    if kind == "sum":
        of = draw(st.sampled_from(["price", "amount", "quantity"]))
        return f'sum("{event}", of="{of}"{by}{window}{"" if "every" in window else up_to})'
    if kind == "distinct":
        of = draw(st.sampled_from(["product", "category", "store", "code"]))
        by = "" if of in by else by
        return f'distinct("{event}", of="{of}"{by}{window}{up_to})'
    if kind == "recency":
        return f'recency("{event}"{by}{window})'
    return f'count("{event}"{by}{window}{up_to})'


CONSTANTS = ("0", "1", "2.5", "-3", "0.1", "1e18", 'duration("30s")', "40")
NUMBER_FIELDS = ("event.price", "event.amount", "event.quantity")
COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
TESTS = ('== "shoes"', '!= "socks"', 'in ("shoes", "hats")', 'not in ("socks", "")', '== ""')


def _counted(draw: st.DrawFn) -> str:
    """A count against a constant: the road of one load and a compare."""
    event = draw(st.sampled_from(EVENTS))
    by = draw(st.sampled_from(["", ', by="product"', ', by="category"']))
    text = f'count("{event}"{by}{_window(draw)})'
    if draw(st.booleans()):
        text += f' + count("{draw(st.sampled_from(EVENTS))}"{_window(draw)})'
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
        st.sampled_from(["count", "compare", "chain", "exists", "field", "type", "and", "or", "not", "if"])
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
            return f'exists("{draw(st.sampled_from(EVENTS))}", by="product", within="1m")'
        case "field":
            name = draw(st.sampled_from(["product", "category", "store", "code", "source"]))
            return f"event.{name} {draw(st.sampled_from(TESTS))}"
        case "type":
            return draw(st.sampled_from(['event.type == "Product Viewed"', f"event.type in {EVENTS[:2]}"]))
        case "not":
            return f"(not {draw(conditions(depth - 1))})"
        case "if":
            a, b, c = (draw(conditions(depth - 1)) for _ in range(3))
            return f"({a} if {b} else {c})"
        case _:
            return f"({draw(conditions(depth - 1))} {form} {draw(conditions(depth - 1))})"


_keys = st.sampled_from([0, *KEYS.values()])
_money = st.one_of(st.integers(-1_000, 10_000), st.integers(-(10**15), 10**15))
# near the edges of every window of _window, seen from NOW_MS
_edges = [edge + step for edge in (0, 1_000, 7_000, 60_000, 180_000, 3_600_000) for step in (-1, 0, 1)]
_ages = st.one_of(st.sampled_from([age for age in _edges if age >= 0]), st.integers(0, 4_000_000))
_events = st.builds(
    Event,
    time=_ages.map(lambda age: NOW_MS - age),
    type=st.sampled_from([CODE_BY_NAME[name] for name in EVENTS]),
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


def histories() -> st.SearchStrategy[NaiveHistory]:
    latest = st.builds(Event, time=st.just(NOW_MS), type=st.just(CODE_BY_NAME[EVENTS[0]]), product=_keys)
    pasts = st.lists(_events, min_size=4, max_size=40)
    return st.builds(
        lambda past, now, at: NaiveHistory([*past[:at], now, *past[at:]]), pasts, latest, st.integers(0, 4)
    )
