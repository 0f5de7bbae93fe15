"""Random policies as TOML text, always valid, over everything the language has.

Windows and bounds are near those of random_events, so that conditions go both ways.
"""

from __future__ import annotations

from tests.reference.choice import Choice

EVENTS = (
    *("Product Viewed",) * 3,
    *("Product Added", "Order Completed", "Order Completed"),
    *("Cart Viewed", "Coupon Entered", "page", "identify"),
)
TRIGGERS = (
    *("Product Viewed", "Product Added", "Order Completed", "Cart Viewed", "Checkout Started"),
    *("Coupon Entered", "page", "Store Entered", "Consent Changed", "identify", "alias"),
)
WITHIN = ("1s", "20s", "5m", "30m", "1h", "1d", "7d", "90d")
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


def _keywords(choice: Choice, *names: str, of: str = "") -> str:
    """Named arguments of an atom, out of those it takes."""
    given = []
    if "by" in names and choice.chance(40):
        by = choice.pick(("product", "category"))
        if by != of:
            given.append(f'by="{by}"')
    window = choice.integer(0, 3)
    if window in (1, 2) and "within" in names:
        given.append(f'within="{choice.pick(WITHIN)}"')
    tumbling = window == 3 and "every" in names
    if tumbling:
        given.append(f'every="{choice.pick(EVERY)}"')
    if "up_to" in names or ("up_to unless every" in names and not tumbling):
        given.append(f"up_to={choice.pick((1, 2, 3, 5, 9))}")
    return "".join(f", {part}" for part in given)


def _count(choice: Choice, bounded: bool) -> str:
    """count or distinct; bounded ones are for use as a number."""
    names = ("by", "within", "every", "up_to") if bounded else ("by", "within", "every")
    event = choice.pick(EVENTS)
    if choice.chance(30):
        of = choice.pick(("product", "category", "store", "code"))
        return f'distinct("{event}", of="{of}"{_keywords(choice, *names, of=of)})'
    return f'count("{event}"{_keywords(choice, *names)})'


def _atom(choice: Choice) -> str:
    kind = choice.integer(0, 5)
    event = choice.pick(EVENTS)
    if kind <= 1:
        return _count(choice, bounded=True)
    if kind <= 3:
        of = choice.pick(("amount", "price", "quantity"))
        keywords = _keywords(choice, "by", "within", "every", "up_to unless every")
        return f'sum("{event}", of="{of}"{keywords})'
    if kind == 4:
        return f'(recency("{event}"{_keywords(choice, "by", "within")}) / duration("1h"))'
    return choice.pick(("event.price", "event.amount", "event.quantity"))


def number(choice: Choice, depth: int) -> str:
    """An expression with a number."""
    kind = choice.integer(0, 9) if depth > 0 else choice.integer(0, 2)
    if kind <= 1:
        return _atom(choice)
    if kind == 2:
        return choice.pick(("0.5", "1", "2.25", "0", "-1.5"))
    if kind <= 4:
        function = choice.pick(("log1p", "sqrt", "abs", "exp"))
        inner = number(choice, depth - 1)
        return f"exp(min({inner}, 3))" if function == "exp" else f"{function}({inner})"
    if kind <= 6:
        return f"({number(choice, depth - 1)} {choice.pick('+-*/')} {number(choice, depth - 1)})"
    if kind == 7:
        function = choice.pick(("min", "max"))
        return f"{function}({number(choice, depth - 1)}, {number(choice, depth - 1)})"
    if kind == 8:
        then, otherwise = number(choice, depth - 1), number(choice, depth - 1)
        return f"({then} if {condition(choice, depth - 1)} else {otherwise})"
    return f"({_count(choice, bounded=True)} + {_count(choice, bounded=True)})"


def _simple_condition(choice: Choice) -> str:
    kind = choice.integer(0, 9)
    event = choice.pick(EVENTS)
    sign = choice.pick(COMPARISONS)
    if kind <= 2:
        return f"{_count(choice, bounded=False)} {sign} {choice.pick((1, 2, 3, 4, 6))}"
    if kind <= 4:
        return f'exists("{event}"{_keywords(choice, "by", "within", "every")})'
    if kind == 5:
        span = choice.pick(("1s", "5m", "1h", "1d"))
        return f'recency("{event}"{_keywords(choice, "by", "within")}) {sign} duration("{span}")'
    if kind == 6:
        of = choice.pick(("amount", "price", "quantity"))
        keywords = _keywords(choice, "by", "within", "every", "up_to unless every")
        return f'sum("{event}", of="{of}"{keywords}) {sign} {choice.pick((0, 1, 5, 9.99, 100))}'
    if kind == 7:
        field = choice.pick(("price", "amount", "quantity"))
        return choice.pick((f"event.{field} {sign} 4.5", f"1 <= event.{field} < 100"))
    field, value = choice.pick(TEXTS)
    if kind == 8:
        return f'event.{field} {choice.pick(("==", "!="))} "{value}"'
    return choice.pick(
        (
            f'event.{field} in ("{value}", "other")',
            f'event.{field} not in ("{value}", "other")',
            'event.type in ("Product Viewed", "Order Completed")',
            'event.type != "Cart Viewed"',
        )
    )


def condition(choice: Choice, depth: int) -> str:
    """An expression that holds or does not."""
    kind = choice.integer(0, 7) if depth > 0 else 0
    if kind <= 2:
        return _simple_condition(choice)
    if kind <= 4:
        return f"({condition(choice, depth - 1)} and {condition(choice, depth - 1)})"
    if kind == 5:
        return f"({condition(choice, depth - 1)} or {condition(choice, depth - 1)})"
    if kind == 6:
        return f"not ({condition(choice, depth - 1)})"
    sign = choice.pick((">=", "<"))
    # "+ 0": a count with up_to is refused beside a constant it can't reach, but not within a sum
    return f"({number(choice, depth - 1)} + 0) {sign} ({number(choice, depth - 1)} + 0)"


def _offer(choice: Choice, number_of_offer: int, features: list[str]) -> list[str]:
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
        written.append(f"when = '''{condition(choice, 1)}'''")
    if choice.chance(30):
        written.append(f"lever = {choice.pick((0.5, 1.5))}")
    if choice.chance(40):
        context = choice.pick(("0.75", f"'''{number(choice, 1)}'''"))
        written.append(f"context = {context}")
    if choice.chance(70):
        written.append(f"bias = {choice.pick((-2.0, 0.0, 1.5))}")
    if choice.chance(20):
        written.append('purpose = "service"')
    weights = [f"{name} = {choice.pick((0.8, -0.3, 0.05))}" for name in features if choice.chance(80)]
    if weights:
        written.append(f"weights = {{ {', '.join(weights)} }}")
    if choice.chance(20):
        discount = choice.pick(("discount_percent = 10.0", "discount_amount = 5.0"))
        written += ["[journeys.offers.voucher]", 'campaign = "spring"', discount, 'valid_for = "2h"']
    return written


def _journey(choice: Choice, identifier: str) -> list[str]:
    on = sorted({choice.pick(TRIGGERS) for _ in range(choice.integer(1, 3))})
    written = [
        "[[journeys]]",
        f'id = "{identifier}"',
        f"on = [{', '.join(repr(name).replace(chr(39), chr(34)) for name in on)}]",
        f"when = '''{condition(choice, 2)}'''",
    ]
    if choice.chance(50):
        written.append(f"priority = {choice.pick((10, 50, 80))}")
    if choice.chance(30):
        written.append("alongside = true")
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
        listed = ", ".join(f"{{ name = \"{name}\", value = '''{number(choice, 2)}''' }}" for name in features)
        written += ["[journeys.model]", 'name = "model"', 'version = "1"', f"features = [{listed}]"]
    for offer in range(choice.integer(1, 3)):
        written += _offer(choice, offer, features)
    return written


def policy(choice: Choice, name: str) -> str:
    """One policy file; ids of its journeys begin with its name."""
    written = [f'policy = "{name}"', "version = 1", 'title = "Random"', 'currency = "EUR"']
    for n in range(choice.integer(1, 3)):
        written += _journey(choice, f"{name}-{n}")
    return "\n".join(written) + "\n"


def policies(choice: Choice) -> list[str]:
    """One to three policy files."""
    return [policy(choice, f"policy-{letter}") for letter in "abc"[: choice.integer(1, 3)]]
