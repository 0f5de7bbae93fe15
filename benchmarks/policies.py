"""Policies of the benchmark: one that scores 64 offers by 24 features, one that decides by all that a decision knows, N
that count, and N mixed ones for the curve."""

from __future__ import annotations

from pathlib import Path

OFFERS = 64
FEATURES = 24
_BROWSE = ("Product List Viewed", "Product Viewed", "Product Clicked", "Products Searched")
_BUY = ("Product Added", "Checkout Started", "Order Completed", "Cart Viewed")


_CONTACTS = """
[[purposes]]
id = "marketing"
unknown = "granted"
[[caps]]
id = "day"
times = 4
calendar = "day"
[[caps]]
id = "mail-week"
channels = ["email"]
times = 3
within = "7d"
[[caps]]
id = "mail-gap"
channels = ["email", "push"]
times = 1
within = "4h"
[[caps]]
id = "service-month"
purposes = ["service"]
times = 20
calendar = "month"
[[quiet_hours]]
id = "night"
channels = ["email", "push"]
from = "21:00"
to = "08:00"
then = "hold"
[[campaigns]]
id = "granted"
start = "2020-01-01T00:00:00Z"
end = "2040-01-01T00:00:00Z"
budget = 10000000
per_customer = 0
discount_amount = 5
"""
_SLOTS = (("web", "hero"), ("web", "popover"), ("email", "default"), ("push", "default"))


def _feature_expressions() -> list[str]:
    """24 features over nine streams of the customer."""
    expressions = []
    for name in _BROWSE:
        expressions.append(f'log1p(count("{name}", within="30m", up_to=16))')
        expressions.append(f'log1p(count("{name}", within="5m", up_to=16))')
        expressions.append(f'exists("{name}", within="1m")')
    for name in _BUY:
        expressions.append(f'log1p(count("{name}", within="30m", up_to=8))')
        expressions.append(f'exists("{name}", within="10m")')
    expressions.append('count("Product Viewed", by="product", within="30m", up_to=4)')
    expressions.append('exists("Order Completed", by="product", within="30m")')
    expressions.append("log1p(event.price)")
    expressions.append("event.quantity")
    return expressions


def scoring_policy(score_min: float) -> str:
    """TOML: every product view scores OFFERS offers; those below `score_min` are not sent."""
    lines = _scored("scoring", score_min)
    for offer in range(OFFERS):
        lines += [*_offer(offer), 'channel = "web"']
    return "\n".join(lines) + "\n"


def deciding_policy(score_min: float) -> str:
    """TOML: as the scoring policy, with all that a decision may have to ask: offers in four slots, under conditions of
    all layers, some with consent, with vouchers of a computed depth or of the ledger, under caps on all that is sent;
    at night some are held; mail is taken back after an order."""
    lines = _scored("deciding", score_min)
    lines.insert(lines.index("[journeys.model]"), 'goal = ["Order Completed"]')
    for offer in range(OFFERS):
        channel, placement = _SLOTS[offer % len(_SLOTS)]
        lines += [*_offer(offer), f'channel = "{channel}"', f'placement = "{placement}"']
        if offer % 7 == 0:
            lines.append('purpose = "service"')
        if offer % 2 == 0:
            lines.append(f"when = 'event.price >= {offer % 16}'")
        if offer % 3 == 0:
            lines.append("""applicable = 'exists("Product Added", within="30m") or event.price < 50'""")
        if offer % 5 == 0:
            lines.append("""suitable = 'not exists("Order Completed", by="product", within="30m")'""")
        if offer % 16 == 9:
            lines += [
                "[journeys.offers.voucher]",
                'campaign = "depth"',
                """discount_percent = '5 + 3 * count("Product Viewed", by="product", within="30m", up_to=4)'""",
                "discount_min = 5\ndiscount_max = 15\ndiscount_step = 2.5",
            ]
        elif offer % 16 == 1:
            lines.append('voucher = { campaign = "granted" }')
        if channel == "email":
            lines.append('take_back = "6h"')
    return "\n".join(lines) + _CONTACTS


def _scored(name: str, score_min: float) -> list[str]:
    """The head of a policy with one journey, and its model."""
    expressions = _feature_expressions()
    assert len(expressions) == FEATURES
    return [
        f'policy = "benchmark-{name}"',
        "version = 1",
        f'title = "{OFFERS} offers, {FEATURES} features, on every product view"',
        'currency = "EUR"',
        "[[journeys]]",
        f'id = "{name}"',
        'on = ["Product Viewed"]',
        'when = "event.quantity >= 0"',
        f"score_min = {score_min}",
        "[journeys.model]",
        'name = "benchmark"',
        'version = "1"',
        "features = [",
        *(f"  {{name = \"f{i:02d}\", value = '{text}'}}," for i, text in enumerate(expressions)),
        "]",
    ]


def _offer(offer: int) -> list[str]:
    weights = ", ".join(
        f"f{f:02d} = {((offer * 37 + f * 101) % 197 - 98) / 400:.4f}" for f in range(FEATURES)
    )
    return [
        "[[journeys.offers]]",
        f'id = "offer-{offer:02d}"',
        f"value = {1 + (offer * 13 % 29) / 10}",
        f"bias = {-2 - (offer * 7 % 11) / 10}",
        f"weights = {{{weights}}}",
    ]


def counting_policy(number: int) -> str:
    """TOML: the number-th counting policy; windows and thresholds differ, streams are shared where they can be."""
    minutes = (10, 20, 30, 60)[number % 4]
    least = 3 + number % 3
    template = number % 4
    if template == 0:  # A4: looked at again and again, not bought
        on = "Product Viewed"
        when = (
            f'count("Product Viewed", by="product", within="{minutes}m") >= {least} and not '
            f'exists("Order Completed", by="product", within="{minutes}m")'
        )
        limits = '{times = 1, within = "1d"}, {times = 1, within = "7d", by = "product"}'
    elif template == 1:  # much browsing, an open cart
        on = "Cart Viewed"
        when = (
            f'count("Product List Viewed", within="{minutes}m") >= {least} and '
            f'exists("Product Added", within="{minutes}m") and not exists("Order Completed", within="1h")'
        )
        limits = '{times = 2, within = "1d"}'
    elif template == 2:  # a category looked through
        on = "Product Clicked"
        when = (
            f'count("Product Clicked", by="category", within="{minutes}m") >= {least + 2} and '
            'not exists("Product Added", by="category", within="1h")'
        )
        limits = '{times = 1, within = "1d", by = "category"}'
    else:  # a search that found nothing to click
        on = "Products Searched"
        when = (
            f'count("Products Searched", within="{minutes}m") >= {least} and '
            f'recency("Product Clicked") > duration("{minutes}m")'
        )
        limits = '{times = 1, within = "1d"}'
    return (
        "\n".join(
            [
                f'policy = "benchmark-counting-{number:03d}"',
                "version = 1",
                'title = "a counting policy of the benchmark"',
                'currency = "EUR"',
                "[[journeys]]",
                f'id = "count_{number:03d}"',
                f'on = ["{on}"]',
                f"when = '''{when}'''",
                f"priority = {number % 100}",
                f"limits = [{limits}]",
                "[[journeys.offers]]",
                f'id = "offer-c{number:03d}"',
                'channel = "web"',
                f'placement = "place-{template}"',
                "value = 1.0",
            ]
        )
        + "\n"
    )


def write_policies(folder: Path, policies: int, score_min: float) -> None:
    """The scoring policy and `policies` counting ones as files of a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scoring.toml").write_text(scoring_policy(score_min))
    for number in range(policies):
        (folder / f"counting-{number:03d}.toml").write_text(counting_policy(number))


def write_deciding(folder: Path, shipped: Path, score_min: float) -> None:
    """The deciding policy beside the shipped ones."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in shipped.glob("*.toml"):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "deciding.toml").write_text(deciding_policy(score_min))


def mixed_policy(number: int) -> str:
    """TOML: the number-th policy of the curve. Eight templates of time and order; every eighth has other windows, so
    that more policies are more conditions, and now and then more streams."""
    turn = number // 8
    minutes = (30, 10, 20, 60, 15, 45, 5, 90)[turn % 8]
    least = 3 + turn % 3
    place = ("product", "cart", "search", "session", "category", "habit", "today", "order")[number % 8]
    shape = (
        f"""on = ["Product Viewed"]
when = '''count("Product Viewed", by="product", within="{minutes}m") >= {least}
and not exists("Order Completed", by="product", within="7d")'''""",
        f"""on = ["Product Added"]
wait = "{minutes}m"
restart = true
when = "True"
still = 'absent("Order Completed")'""",
        f"""on = ["Product Clicked"]
when = 'sequence("Products Searched", "Product List Viewed", "Product Clicked", within="{minutes}m")'""",
        f"""session = "{minutes}m"
when = '''count("Product Viewed", session="{minutes}m") >= {least}
and not exists("Order Completed", session="{minutes}m")'''""",
        f"""on = ["Product Clicked"]
when = '''count("Product Clicked", by="category", within="{minutes}m") >= {least + 2}
and not exists(any_of("Product Added", "Product Added to Wishlist"), within="1h")'''""",
        f"""on = ["Cart Viewed"]
when = '''trend("Product Viewed", recent="{minutes}m", habit="6h") > {1 + least / 10}
and recency("Checkout Started") > duration("1h")'''""",
        f"""on = ["Products Searched"]
when = '''count("Products Searched", calendar="day") >= {least + minutes // 10}
and not exists("Product Added", within="1h")'''""",
        f"""on = ["Order Completed"]
when = 'sequence("Product Viewed", "Product Added", within="{minutes}m", without="Product Removed")'""",
    )[number % 8]
    return f"""policy = "benchmark-mixed-{number:03d}"
version = 1
title = "a policy of the curve"
currency = "EUR"
[[journeys]]
id = "mixed_{number:03d}"
{shape}
priority = {number % 100}
limits = [{{ times = 1, within = "1d" }}]
[[journeys.offers]]
id = "offer-m{number:03d}"
channel = "web"
placement = "{place}"
"""


def write_mixed(folder: Path, policies: int) -> None:
    """The first `policies` policies of the curve as files of a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(policies):
        (folder / f"mixed-{number:03d}.toml").write_text(mixed_policy(number))
