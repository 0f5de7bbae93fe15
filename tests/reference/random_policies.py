"""Random policies as TOML text, always valid, over everything the language has.

Windows and bounds are near those of random_events, so that conditions go both ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tests.reference.choice import Choice

EVENTS = (
    *("Product Viewed",) * 3,
    *("Product Added", "Order Completed", "Order Completed"),
    *("Cart Viewed", "Coupon Entered", "page", "identify"),
    *("Unsubscribed", "Email Marked as Spam"),
)
TRIGGERS = (
    *("Product Viewed", "Product Added", "Order Completed", "Cart Viewed", "Checkout Started"),
    *("Coupon Entered", "page", "Store Entered", "Consent Changed", "identify", "alias"),
    *("Unsubscribed", "Email Bounced"),
)
WITHIN = ("1s", "20s", "5m", "30m", "1h", "1d", "7d", "90d")
GAPS = ("10m", "30m", "2h")
WAITS = (("20s",), ("30m",), ("2h",), ("1m", "1h"), ("30m", "1d", "3d"))
EVERY = ("1m", "1h", "1d", "1w")
SLOTS = (
    *(("web", "default"), ("web", "hero"), ("email", "default"), ("push", "default")),
    *(("till", "default"), ("sms", "default")),
)
TEXTS = (
    *(("product", "p0"), ("product", ""), ("category", "c1")),
    *(("store", "s0"), ("code", "k1"), ("source", "app")),
)
COMPARISONS = (">=", ">", "<", "<=", "==", "!=")


@dataclass(frozen=True)
class Reach:
    """What an expression may speak of.

    event     there is one: its fields, its product, what is known of them
    waiting   it is asked after a wait
    tables    the tables of TABLES are declared
    """

    event: bool = True
    waiting: bool = False
    segments: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    joins: tuple[str, ...] = ()
    tables: bool = False


# what random_events.ROWS bring
TABLES = (
    *("[[tables]]", 'name = "catalogue"', 'fields = { margin = "number", brand = "text" }'),
    "unknown = { margin = 0.1 }",
    *("[[tables]]", 'name = "price"', 'fields = { label = "text" }'),
    *("[[tables]]", 'name = "stock"', 'fields = { shelf = "text" }', 'unknown = { shelf = "low" }'),
    *("[[tables]]", 'name = "profile"', 'fields = { tier = "text", points = "number" }'),
)
ANY = Reach()
CUSTOMER = Reach(event=False)


def _keywords(choice: Choice, reach: Reach, *names: str, of: str = "") -> str:
    """Named arguments of an atom, out of those it takes."""
    given = []
    if reach.event and "by" in names and choice.chance(40):
        by = choice.pick(("product", "category"))
        if by != of:
            given.append(f'by="{by}"')
    window = choice.integer(0, 5)
    if window in (1, 2) and "within" in names:
        given.append(f'within="{choice.pick(WITHIN)}"')
    tumbling = window == 3 and "every" in names
    if tumbling:
        given.append(f'every="{choice.pick(EVERY)}"')
    if window == 4 and "within" in names:
        given.append(f'calendar="{choice.pick(("hour", "day", "day", "week", "month"))}"')
    if window == 5 and "within" in names:
        given.append(f'session="{choice.pick(GAPS)}"')
    if "source" in names and choice.chance(15):
        given.append(f'source="{choice.pick(("shop", "app"))}"')
    if "up_to" in names or ("up_to unless every" in names and not tumbling):
        given.append(f"up_to={choice.pick((1, 2, 3, 5, 9))}")
    return "".join(f", {part}" for part in given)


def _event(choice: Choice) -> str:
    return f'"{choice.pick(EVENTS)}"'


def _events(choice: Choice) -> str:
    """An event, or any of some."""
    if choice.chance(80):
        return _event(choice)
    names = sorted(set(EVENTS))
    first = choice.integer(0, len(names) - 1)
    return f'any_of("{names[first]}", "{names[(first + choice.integer(1, len(names) - 1)) % len(names)]}")'


def _count(choice: Choice, reach: Reach, bounded: bool) -> str:
    """count, distinct or joined; bounded ones are for use as a number."""
    names = ("by", "within", "every", "source", *(("up_to",) if bounded else ()))
    if reach.joins and choice.chance(15):
        join = choice.pick(reach.joins)
        return f'joined("{join}"{_keywords(choice, reach, *(n for n in names if n in ("within", "up_to")))})'
    if choice.chance(30):
        of = choice.pick(("product", "category", "store", "code"))
        return f'distinct({_event(choice)}, of="{of}"{_keywords(choice, reach, *names, of=of)})'
    return f"count({_events(choice)}{_keywords(choice, reach, *names)})"


def _decayed(choice: Choice, reach: Reach) -> str:
    """What becomes less with time."""
    keywords = _keywords(choice, reach, "by", "source")
    of = choice.pick(("", "", ', of="amount"', ', of="quantity"'))
    if choice.chance(70):
        half_life = choice.pick(("1m", "1h", "1d", "7d"))
        return f'decayed({_event(choice)}, half_life="{half_life}"{of}{keywords})'
    recent, habit = choice.pick((("1h", "1d"), ("1d", "30d"), ("5m", "1h")))
    return f'trend({_event(choice)}, recent="{recent}", habit="{habit}"{of}{keywords})'


def _atom(choice: Choice, reach: Reach) -> str:
    kind = choice.integer(0, 9)
    if kind <= 2:
        return _count(choice, reach, bounded=True)
    of = choice.pick(("amount", "price", "quantity"))
    if kind <= 4:
        keywords = _keywords(choice, reach, "by", "within", "every", "source", "up_to unless every")
        return f'sum({_events(choice)}, of="{of}"{keywords})'
    if kind == 5:
        keywords = _keywords(choice, reach, "by", "within", "source")
        return f'(recency({_events(choice)}{keywords}) / duration("1h"))'
    if kind == 6:
        return _decayed(choice, reach)
    if kind == 7:
        if choice.chance(50):
            return f'first({_event(choice)}, of="{of}"{_keywords(choice, reach, "by", "source")})'
        return f'last({_event(choice)}, of="{of}"{_keywords(choice, reach, "by", "within", "source")})'
    if kind == 8:
        return f'(age({_event(choice)}{_keywords(choice, reach, "by", "source")}) / duration("1d"))'
    if not reach.event:
        return _count(choice, reach, bounded=True)
    if reach.waiting and choice.chance(30):
        return "step"
    fields = ("event.price", "event.amount", "event.quantity", "price.amount", "stock.quantity")
    if reach.tables and choice.chance(50):
        fields = ("catalogue.margin", "profile.points")
    return choice.pick(fields)


def number(choice: Choice, depth: int, reach: Reach = ANY) -> str:
    """An expression with a number."""
    kind = choice.integer(0, 9) if depth > 0 else choice.integer(0, 2)

    def inner() -> str:
        return number(choice, depth - 1, reach)

    if kind <= 1:
        return _atom(choice, reach)
    if kind == 2:
        return choice.pick(("0.5", "1", "2.25", "0", "-1.5"))
    if kind <= 4:
        function = choice.pick(("log1p", "sqrt", "abs", "exp"))
        return f"exp(min({inner()}, 3))" if function == "exp" else f"{function}({inner()})"
    if kind <= 6:
        return f"({inner()} {choice.pick('+-*/')} {inner()})"
    if kind == 7:
        function = choice.pick(("min", "max"))
        return f"{function}({inner()}, {inner()})"
    if kind == 8:
        then, otherwise = inner(), inner()
        return f"({then} if {condition(choice, depth - 1, reach)} else {otherwise})"
    return f"({_count(choice, reach, bounded=True)} + {_count(choice, reach, bounded=True)})"


def _sequence(choice: Choice, reach: Reach) -> str:
    names = sorted(set(EVENTS))
    steps = [_events(choice) for _ in range(choice.integer(2, 4))]
    without = [name for name in names if not any(f'"{name}"' in step for step in steps)]
    keywords = _keywords(choice, reach, "by", "within", "source")
    if without and choice.chance(40):
        keywords += f', without="{choice.pick(without)}"'
    if choice.chance(40):
        keywords += f", up_to={choice.pick((1, 2, 4))}"
    return f"sequence({', '.join(steps)}{keywords})"


def _about_the_customer(choice: Choice, reach: Reach) -> str:
    """A condition that needs no event."""
    kind = choice.integer(0, 9)
    sign = choice.pick(COMPARISONS)
    if kind <= 2:
        return f"{_count(choice, reach, bounded=False)} {sign} {choice.pick((1, 2, 3, 4, 6))}"
    if kind <= 4:
        return f"exists({_events(choice)}{_keywords(choice, reach, 'by', 'within', 'every', 'source')})"
    if kind == 5:
        span = choice.pick(("1s", "5m", "1h", "1d"))
        keywords = _keywords(choice, reach, "by", "within", "source")
        return f'recency({_events(choice)}{keywords}) {sign} duration("{span}")'
    if kind == 6:
        of = choice.pick(("amount", "price", "quantity"))
        keywords = _keywords(choice, reach, "by", "within", "every", "source", "up_to unless every")
        return f'sum({_events(choice)}, of="{of}"{keywords}) {sign} {choice.pick((0, 1, 5, 9.99, 100))}'
    if kind == 7:
        return _sequence(choice, reach)
    if kind == 8:
        return f"{_decayed(choice, reach)} {sign} {choice.pick((0.25, 1, 2.5))}"
    if reach.segments and choice.chance(70):
        return f'segment("{choice.pick(reach.segments)}")'
    if reach.stages:
        return f'stage("{choice.pick(reach.stages)}")'
    span = choice.pick(("5m", "1h", "3d"))
    return f'age({_event(choice)}{_keywords(choice, reach, "by", "source")}) {sign} duration("{span}")'


def _about_tables(choice: Choice, sign: str) -> str:
    return choice.pick(
        (
            f"catalogue.margin {sign} 0.5",
            'catalogue.brand == "ajax"',
            'catalogue.brand in ("zoë", "7")',
            'price.label == "sale"',
            'stock.shelf != "low"',
            'profile.tier == "gold"',
            f"profile.points {sign} 0",
        )
    )


def _about_the_event(choice: Choice, sign: str) -> str:
    field = choice.pick(("price", "amount", "quantity"))
    text, value = choice.pick(TEXTS)
    return choice.pick(
        (
            f"event.{field} {sign} 4.5",
            f"1 <= event.{field} < 100",
            f'event.{text} == "{value}"',
            f'event.{text} != "{value}"',
            f'event.{text} in ("{value}", "other")',
            f'event.{text} not in ("{value}", "other")',
            'event.type in ("Product Viewed", "Order Completed")',
            'event.type != "Cart Viewed"',
            f"price.amount {sign} event.price",
            f"stock.quantity {sign} 2",
        )
    )


def _simple_condition(choice: Choice, reach: Reach) -> str:
    if reach.tables and reach.event and choice.chance(15):
        return _about_tables(choice, choice.pick(COMPARISONS))
    if reach.event and choice.chance(25):
        return _about_the_event(choice, choice.pick(COMPARISONS))
    if reach.waiting and choice.chance(40):
        keywords = _keywords(choice, reach, "by", "source") if choice.chance(50) else ""
        return f"absent({_events(choice)}{keywords})"
    return _about_the_customer(choice, reach)


def condition(choice: Choice, depth: int, reach: Reach = ANY) -> str:
    """An expression that holds or does not."""
    kind = choice.integer(0, 7) if depth > 0 else 0

    def inner() -> str:
        return condition(choice, depth - 1, reach)

    if kind <= 2:
        return _simple_condition(choice, reach)
    if kind <= 4:
        return f"({inner()} and {inner()})"
    if kind == 5:
        return f"({inner()} or {inner()})"
    if kind == 6:
        return f"not ({inner()})"
    sign = choice.pick((">=", "<"))
    # "+ 0": a count with up_to is refused beside a constant it can't reach, but not within a sum
    return f"({number(choice, depth - 1, reach)} + 0) {sign} ({number(choice, depth - 1, reach)} + 0)"


def _offer(
    choice: Choice,
    number_of_offer: int,
    features: list[str],
    reach: Reach,
    steps: int,
    voucher: bool,
    expires: str,
) -> list[str]:
    channel, placement = choice.pick(SLOTS)
    written = [
        "[[journeys.offers]]",
        f'id = "offer-{number_of_offer}"',
        f'channel = "{channel}"',
        f"value = {choice.pick((1.0, 2.0, 4.0, 0.5))}",
    ]
    if placement != "default":
        written.append(f'placement = "{placement}"')
    if choice.chance(30):
        written.append(f"when = '''{condition(choice, 1, reach)}'''")
    written += _layers(choice, reach)
    if choice.chance(30):
        written.append(f"lever = {choice.pick((0.5, 1.5))}")
    if choice.chance(40):
        context = choice.pick(("0.75", f"'''{number(choice, 1, reach)}'''"))
        written.append(f"context = {context}")
    if choice.chance(70):
        written.append(f"bias = {choice.pick((-2.0, 0.0, 1.5))}")
    if choice.chance(20):
        written.append('purpose = "service"')
    if steps > 1 and choice.chance(40):
        written.append(f"steps = [{choice.integer(1, steps)}]")
    if choice.chance(40):
        written.append(f'take_back = "{choice.pick(("10m", "1h", expires))}"')
    if choice.chance(25):
        window = choice.pick(("", ', within = "1h"', ', session = "30m"', ', calendar = "day"'))
        recent = choice.pick(("Product Viewed", "Product Added", "Order Completed"))
        written.append(f'items = {{ recent = "{recent}"{window}, up_to = {choice.integer(1, 4)} }}')
    weights = [f"{name} = {choice.pick((0.8, -0.3, 0.05))}" for name in features if choice.chance(80)]
    if weights:
        written.append(f"weights = {{ {', '.join(weights)} }}")
    if choice.chance(20) and voucher:
        discount = choice.pick(("discount_percent = 10.0", "discount_amount = 5.0"))
        if choice.chance(60):
            name = choice.pick(("discount_percent", "discount_amount"))
            bounds = choice.pick(
                ("discount_min = 0\ndiscount_max = 40", "discount_min = 1.5\ndiscount_max = 7.25")
            )
            discount = f"{name} = '''{number(choice, 2, reach)}'''\n{bounds}"
            if choice.chance(60):
                discount += f"\ndiscount_step = {choice.pick((0.01, 0.5, 2.5))}"
        written += ["[journeys.offers.voucher]", 'campaign = "spring"', discount, 'valid_for = "2h"']
    return written


def _layers(choice: Choice, reach: Reach) -> list[str]:
    """What an offer is asked after its own `when`, and a journey for all its offers."""
    return [
        f"{layer} = '''{condition(choice, 1, reach)}'''"
        for layer in ("applicable", "suitable")
        if choice.chance(15)
    ]


def _started(choice: Choice, reach: Reach, timers: bool) -> tuple[list[str], int]:
    """What starts a journey, and how many waits it has."""
    kind = choice.integer(0, 9) if timers else 0
    if kind == 9:
        return [f'session = "{choice.pick(GAPS)}"'], 0
    events = sorted({choice.pick(TRIGGERS) for _ in range(choice.integer(1, 3))})
    if kind >= 6:
        waits = choice.pick(WAITS)
        written = [f"on = {_listed(events)}", f"wait = {_listed(waits)}"]
        if choice.chance(40):
            written.append(f'by = "{choice.pick(("product", "category"))}"')
        if choice.chance(50):
            written.append("restart = true")
        if choice.chance(70):
            still = condition(choice, 1, replace(reach, waiting=True))
            written.append(f"still = '''{still}'''")
        return written, len(waits)
    changes = [f'{word}("{name}")' for name in reach.segments for word in ("entered", "left")]
    changes += [f'stage("{name}")' for name in reach.stages]
    if timers and changes and choice.chance(40):
        change = choice.pick(changes)
        events = [change] if choice.chance(50) else [*events, change]
    return [f"on = {_listed(events)}"], 0


def _listed(texts: Sequence[str]) -> str:
    return "[" + ", ".join("'" + text + "'" for text in texts) + "]"


def _journey(choice: Choice, identifier: str, reach: Reach, timers: bool) -> list[str]:
    started, steps = _started(choice, reach, timers)
    written = [
        "[[journeys]]",
        f'id = "{identifier}"',
        *started,
        f"when = '''{condition(choice, choice.integer(0, 2), reach)}'''",
    ]
    if steps:
        reach = replace(reach, waiting=True)
    written += _layers(choice, reach)
    if choice.chance(50):
        written.append(f"priority = {choice.pick((10, 50, 80))}")
    if choice.chance(30):
        written.append("alongside = true")
    expires = choice.pick(("1h", "7h", "2d")) if choice.chance(40) else "1d"
    if expires != "1d":
        written.append(f'expires_after = "{expires}"')
    if choice.chance(40):
        goals = sorted({choice.pick(TRIGGERS) for _ in range(choice.integer(1, 2))})
        written.append(f"goal = {_listed(goals)}")
    if choice.chance(30):
        written.append(f"score_min = {choice.pick((0.1, 0.5, 1.0))}")
    limits = []
    for _ in range(choice.integer(0, 2)):
        by = choice.pick(("", ', by = "product"', ', by = "category"'))
        limits.append(f'{{ times = {choice.integer(1, 3)}, within = "{choice.pick(WITHIN)}"{by} }}')
    if limits:
        written.append(f"limits = [{', '.join(limits)}]")
    features: list[str] = []
    if choice.chance(50):
        features = [f"x{n}" for n in range(choice.integer(1, 3))]
        listed = ", ".join(
            f"{{ name = \"{name}\", value = '''{number(choice, 2, reach)}''' }}" for name in features
        )
        written += ["[journeys.model]", 'name = "model"', 'version = "1"', f"features = [{listed}]"]
    for offer in range(choice.integer(1, 3)):
        # at the end of a session there is no event whose currency a voucher could have
        voucher = not started[0].startswith("session")
        written += _offer(choice, offer, features, reach, steps, voucher, expires)
    return written


def _segments(choice: Choice, names: Sequence[str]) -> list[str]:
    written = []
    for name in names:
        when = condition(choice, choice.integer(0, 2), CUSTOMER)
        written += ["[[segments]]", f'id = "{name}"', f"when = '''{when}'''"]
    return written


def _stages(choice: Choice, names: Sequence[str], segments: tuple[str, ...]) -> list[str]:
    reach = Reach(event=False, segments=segments)
    written = []
    for n, name in enumerate(names):
        written += ["[[stages]]", f'id = "{name}"']
        others = [other for other in names if other != name]
        if n == 0 and choice.chance(50):
            continue
        written.append(f"when = '''{condition(choice, choice.integer(0, 1), reach)}'''")
        if n == 0 or choice.chance(60):
            # from one before it at least: a stage that nobody reaches is refused
            chosen = {choice.pick(names[:n] or others), choice.pick(others)}
            written.append(f"from = {_listed(sorted(chosen))}")
    return written


def _joins(choice: Choice, names: Sequence[str], journeys: Sequence[str]) -> list[str]:
    written = []
    for name in names:
        right = choice.pick(("Order Completed", "Product Added", "Coupon Entered"))
        actions = ["action", *(f'action("{journey}")' for journey in journeys)]
        left = choice.pick(("Product Viewed", "Cart Viewed", choice.pick(actions)))
        written += ["[[joins]]", f'id = "{name}"', f"left = '{left}'", f'right = "{right}"']
        written.append(f'within = "{choice.pick(WITHIN)}"')
        if choice.chance(50):
            written.append('by = "product"')
        if choice.chance(50):
            written.append(f"up_to = {choice.pick((1, 2, 3))}")
    return written


def _caps(choice: Choice, names: Sequence[str]) -> list[str]:
    """Caps whose scopes and windows are all different."""
    written: list[str] = []
    told: set[tuple[str, ...]] = set()
    for name in names:
        scope = []
        if choice.chance(45):
            channels = sorted(
                {choice.pick(("web", "email", "push", "till")) for _ in range(choice.integer(1, 3))}
            )
            scope.append(f"channels = {_listed(channels)}")
        if choice.chance(30):
            scope.append(f"purposes = {_listed([choice.pick(('marketing', 'service'))])}")
        window = f'within = "{choice.pick(("5m", "1h", "4h", "1d", "7d"))}"'
        if choice.chance(50):
            window = f'calendar = "{choice.pick(("hour", "day", "day", "week", "month"))}"'
        if (*scope, window) in told:
            continue
        told.add((*scope, window))
        written += ["[[caps]]", f'id = "{name}"', *scope, f"times = {choice.pick((1, 2, 2, 3, 5))}", window]
    return written


def _quiet(choice: Choice, names: Sequence[str]) -> list[str]:
    """Quiet hours that leave some of each week, whatever others there are."""
    written: list[str] = []
    then = choice.pick(("hold", "hold", "drop"))  # alike, so that no time is of both kinds
    for name in names:
        start = choice.pick(("21:00", "22:30", "09:45", "02:30", "00:00"))
        to = choice.pick(("06:00", "23:15", "01:59", "02:31"))
        written += [
            "[[quiet_hours]]",
            f'id = "{name}"',
            f'from = "{start}"',
            f'to = "{to}"',
            f'then = "{then}"',
        ]
        days = sorted({choice.pick(("mon", "tue", "wed", "sat", "sun")) for _ in range(choice.integer(1, 4))})
        written.append(f"days = {_listed(days)}")
        if choice.chance(50):
            among = ("web", "email", "push", "sms") if then == "drop" else ("email", "push", "sms")
            channels = sorted({choice.pick(among) for _ in range(choice.integer(1, 3))})
            written.append(f"channels = {_listed(channels)}")
        if choice.chance(30):
            written.append(f"purposes = {_listed([choice.pick(('marketing', 'service'))])}")
    return written


def _purposes(choice: Choice) -> list[str]:
    """What counts as consent where nothing is known: often nothing is said about that."""
    written = []
    for purpose in ("service", "marketing"):
        if choice.chance(30):
            unknown = choice.pick(("granted", "granted", "withheld"))
            written += ["[[purposes]]", f'id = "{purpose}"', f'unknown = "{unknown}"']
    return written


def policy(choice: Choice, name: str, stages: bool = True, timers: bool = True, caps: bool = True) -> str:
    """One policy file; ids of what it defines begin with its name. One policy of a deployment has `stages`, and with
    them caps and whatever a deployment says once.

    timers   whether anything may be sent without an event at that moment
    caps     whether the policy with stages may have caps and quiet hours
    """
    written = [f'policy = "{name}"', "version = 1", 'title = "Random"', 'currency = "EUR"']
    journeys = [f"{name}-{n}" for n in range(choice.integer(1, 3))]
    segments = tuple(f"{name}-segment-{n}" for n in range(choice.integer(0, 3)))
    passed = tuple(f"{name}-stage-{n}" for n in range(choice.pick((0, 2, 4)) if stages else 0))
    joins = tuple(f"{name}-join-{n}" for n in range(choice.integer(0, 2)))
    reach = Reach(segments=segments, stages=passed, joins=joins, tables=stages)
    if stages:
        written += TABLES
        written += _purposes(choice)
    written += _segments(choice, segments)
    written += _stages(choice, passed, segments)
    written += _joins(choice, joins, journeys)
    if caps and stages and choice.chance(75):
        written += _caps(choice, [f"{name}-cap-{n}" for n in range(choice.integer(1, 4))])
    for journey in journeys:
        written += _journey(choice, journey, reach, timers)
    if caps and stages and choice.chance(60):
        written += _quiet(choice, [f"{name}-quiet-{n}" for n in range(choice.integer(1, 3))])
    return "\n".join(written) + "\n"


def policies(choice: Choice) -> list[str]:
    """One to three policy files."""
    letters = "abc"[: choice.integer(1, 3)]
    return [policy(choice, f"policy-{letter}", stages=letter == "a") for letter in letters]
