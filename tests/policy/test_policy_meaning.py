"""What expressions mean: the cases of LANGUAGE.md, and every shortcut against the plain reading."""

from __future__ import annotations

import math
import operator
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, reject, settings
from naive_history import Event, NaiveHistory
from random_expressions import CURRENCY, KEYS, NOW_MS, OTHER_CURRENCY, conditions, histories, scope

from segue.errors import PolicyError
from segue.events.names import CODE_BY_NAME
from segue.policy import ir
from segue.policy.examples import read_examples
from segue.policy.expression import compile_condition, compile_number
from segue.policy.interpret import interpret
from segue.policy.load import load_policies
from segue_kernels import plan

VIEWED, ORDERED, SEARCHED = (
    CODE_BY_NAME[name] for name in ("Product Viewed", "Order Completed", "Products Searched")
)
OPERATORS = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
RELAXED = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))


def holds(text: str, history: NaiveHistory) -> bool:
    return interpret(compile_condition(text, scope()), history) == 1.0


def value(text: str, history: NaiveHistory) -> float:
    return interpret(compile_number(text, scope()), history)


def views(n: int, searches: int = 0) -> NaiveHistory:
    seen = [Event(NOW_MS - i, VIEWED) for i in range(n)] + [Event(NOW_MS, SEARCHED)] * searches
    return NaiveHistory([*seen, Event(NOW_MS, ORDERED)])


@pytest.mark.parametrize("sign", OPERATORS)
@pytest.mark.parametrize("constant", ["-1", "0", "0.5", "1", "2", "2.5", "3", "7"])
def test_a_count_against_a_constant_is_exact(sign: str, constant: str) -> None:
    for n in range(12):
        expected = OPERATORS[sign](n, float(constant))
        assert holds(f'count("Product Viewed") {sign} {constant}', views(n)) == expected
        assert holds(f'distinct("Product Viewed", of="store") {sign} {constant}', views(0)) == OPERATORS[
            sign
        ](0, float(constant))
        mirrored = OPERATORS[sign](float(constant), n)
        assert holds(f'{constant} {sign} count("Product Viewed", within="1d")', views(n)) == mirrored
        for searches in (0, 1, 4):
            total = OPERATORS[sign](n + searches, float(constant))
            text = f'count("Product Viewed") + count("Products Searched") {sign} {constant}'
            assert holds(text, views(n, searches)) == total


def test_a_count_against_a_constant_keeps_just_what_it_takes() -> None:
    def kept(text: str) -> int:
        return max(ir.entries_needed(atom) for atom in ir.atoms(compile_condition(text, scope())))

    assert kept('count("Product Viewed") >= 3') == 3
    assert kept('count("Product Viewed") > 3') == 4
    assert kept('count("Product Viewed") == 3') == 4
    assert kept('count("Product Viewed") + count("Products Searched") >= 3') == 3
    assert kept('count("Product Viewed") * 2 >= 3') == 32
    assert kept('count("Product Viewed", every="1d") >= 300') == 1
    assert kept('exists("Product Viewed")') == 1


@RELAXED
@given(conditions(), conditions(), histories())
def test_conditions_combine_as_in_logic(a: str, b: str, history: NaiveHistory) -> None:
    try:
        x, y = holds(a, history), holds(b, history)
    except PolicyError:  # a count against what it cannot reach
        reject()
    assert holds(f"({a}) and ({b})", history) == (x and y)
    assert holds(f"({a}) or ({b})", history) == (x or y)
    assert holds(f"not ({a})", history) == (not x)
    assert holds(f"({a}) if ({b}) else True", history) == (x if y else True)


@RELAXED
@given(histories())
def test_windows_are_half_open(history: NaiveHistory) -> None:
    times = [e.time for e in history.events if e.type == VIEWED]
    expected = sum(NOW_MS - 60_000 < t <= NOW_MS for t in times)
    assert value('count("Product Viewed", within="1m", up_to=100)', history) == expected
    start = NOW_MS - NOW_MS % 60_000
    expected = sum(start <= t < start + 60_000 for t in times)
    assert value('count("Product Viewed", every="1m", up_to=100)', history) == expected


def test_money_is_in_major_units_of_the_policy() -> None:
    history = NaiveHistory(
        [
            Event(NOW_MS, ORDERED, amount=1_999, currency=CURRENCY),
            Event(NOW_MS, ORDERED, amount=5_000, currency=OTHER_CURRENCY),
            Event(NOW_MS, VIEWED, price=1_250, quantity=3, currency=CURRENCY),
        ]
    )
    assert value('sum("Order Completed", of="amount", within="1d")', history) == 19.99
    assert value("event.price", history) == 12.5
    assert value('sum("Product Viewed", of="quantity")', history) == 3.0
    other = NaiveHistory([Event(NOW_MS, VIEWED, price=1_250, currency=OTHER_CURRENCY)])
    assert value("event.price", other) == 0.0


def test_keyed_atoms_ask_about_the_product_of_the_event() -> None:
    shoes, socks = KEYS["shoes"], KEYS["socks"]
    past = [Event(NOW_MS - 5, VIEWED, product=shoes), Event(NOW_MS - 3, VIEWED, product=socks)]
    asked = NaiveHistory([*past, Event(NOW_MS, SEARCHED, product=shoes)])
    assert value('recency("Product Viewed", by="product")', asked) == 5.0
    none = NaiveHistory([*past, Event(NOW_MS, SEARCHED)])
    assert value('recency("Product Viewed", by="product")', none) == plan.RECENCY_NEVER
    assert value('count("Product Viewed", by="product")', none) == 0.0


def test_text_fields_and_types() -> None:
    event = NaiveHistory([Event(NOW_MS, VIEWED, category=KEYS["shoes"])])
    assert holds('event.category == "shoes"', event)
    assert holds('"socks" != event.category', event)
    assert holds('event.category in ("socks", "shoes") and event.category not in ["hats"]', event)
    assert holds('event.store == "" and event.category != ""', event)
    assert holds('event.type == "Product Viewed" and event.type != "Order Completed"', event)


def test_arithmetic_is_total() -> None:
    one = views(1)
    assert value("1 / 0", one) == 0.0
    assert value("log1p(-2) + sqrt(-4)", one) == 0.0
    assert value("exp(1e9)", one) == math.exp(700.0)
    assert value("exp(event.quantity * 1e9) * exp(1e9)", one) == 0.0  # not finite
    assert value("-duration('1h') / 2", one) == -1_800_000.0
    assert value("max(1, 2, 3) - min(3, 2)", one) == 1.0
    assert holds("True and true and not false", one)
    overflow = "exp(event.quantity * 1e9) * exp(1e9)"
    assert holds(f"{overflow} - {overflow} != 0", one)  # not a number differs from everything


def test_expressions_may_have_lines_and_comments() -> None:
    text = "\n  exists('Product Viewed')  # seen\n  and count('Product Viewed') >= 2\n"
    assert holds(text, views(2))
    assert not holds(text, views(1))


def test_the_examples_of_the_language_page_compile(tmp_path: Path) -> None:
    page = (Path(load_policies.__code__.co_filename).parent / "LANGUAGE.md").read_text(encoding="utf-8")
    file, examples = (
        re.findall(r"(?:^    .*\n|^\n(?=    ))+", page, re.MULTILINE)[0],
        page.split("### Conditions to begin with")[1],
    )
    (tmp_path / "page.toml").write_text(
        re.sub(r"^    ", "", file, flags=re.MULTILINE).replace("when = '...'", "when = 'True'")
    )
    compiled = load_policies([tmp_path], secret=bytes(16), native=False)
    assert compiled.policies[0].name == "contextual-voucher"
    (tmp_path / "examples.toml").write_text(
        re.sub(r"^    ", "", re.findall(r"    \[\[examples]]\n(?:    .*\n)+", page)[0], flags=re.MULTILINE)
    )
    assert [example.name for example in read_examples(tmp_path / "examples.toml").examples] == [
        "left in the cart"
    ]
    blocks = examples.split("## Examples")[0].strip("\n").split("\n\n")
    assert len(blocks) == 3
    for block in blocks:
        compile_condition(block, scope())
