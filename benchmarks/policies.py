"""Policies of the benchmark: one that scores 64 offers by 24 features, N that count, and N mixed ones for the curve."""

from __future__ import annotations

from pathlib import Path

OFFERS = 64
FEATURES = 24
_BROWSE = ("Product List Viewed", "Product Viewed", "Product Clicked", "Products Searched")
_BUY = ("Product Added", "Checkout Started", "Order Completed", "Cart Viewed")


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
    expressions = _feature_expressions()
    assert len(expressions) == FEATURES
    lines = [
        'policy = "benchmark-scoring"',
        "version = 1",
        'title = "64 offers, 24 features, on every product view"',
        'currency = "EUR"',
        "[[journeys]]",
        'id = "score_everything"',
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
    for offer in range(OFFERS):
        weights = ", ".join(
            f"f{f:02d} = {((offer * 37 + f * 101) % 197 - 98) / 400:.4f}" for f in range(FEATURES)
        )
        lines += [
            "[[journeys.offers]]",
            f'id = "offer-{offer:02d}"',
            'channel = "web"',
            f"value = {1 + (offer * 13 % 29) / 10}",
            f"bias = {-2 - (offer * 7 % 11) / 10}",
            f"weights = {{{weights}}}",
        ]
    return "\n".join(lines) + "\n"


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
