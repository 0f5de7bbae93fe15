"""The simulator: seeded, nearly in order of time, understood by the decoder, with what policies wait for."""

from __future__ import annotations

import collections
import io
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from pyarrow import csv, parquet

from segue.errors import SettingsError, SinkError
from segue.events.decode import Decoder, Origin
from segue.events.time import parse_time_ms
from segue.limits import DAY_MS, LATENESS_MS_DEFAULT
from segue.simulate import SimulationSettings, simulate, write_simulation
from segue.simulate.catalogue import write_catalogue
from segue.simulate.lines import KINDS, ZONES
from segue.simulate.settings import START_MS_DEFAULT

EVENTS = 40_000


def _bytes(**settings: Any) -> bytes:
    return b"".join(block.tobytes() for block in simulate(SimulationSettings(**settings)))


@pytest.fixture(scope="module")
def payload() -> bytes:
    return _bytes(events=EVENTS, customers=2_000)


@pytest.fixture(scope="module")
def events(payload: bytes) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in payload.splitlines()]


def test_the_same_seed_gives_the_same_bytes_and_more_events_continue_them(payload: bytes) -> None:
    assert _bytes(events=EVENTS, customers=2_000) == payload
    assert payload.startswith(_bytes(events=EVENTS // 3, customers=2_000))
    assert _bytes(events=1_000, customers=2_000, seed=2) != _bytes(events=1_000, customers=2_000)


def test_writing_counts(payload: bytes) -> None:
    stream, told = io.BytesIO(), []
    size = write_simulation(SimulationSettings(events=EVENTS, customers=2_000), stream, told.append)
    assert stream.getvalue() == payload
    assert (size, sum(told)) == (len(payload), EVENTS)
    assert _bytes(events=0) == b""


def test_every_line_decodes(payload: bytes, events: list[dict[str, Any]]) -> None:
    assert len(events) == EVENTS
    decoder = Decoder(bytes(16), "EUR", START_MS_DEFAULT + 10**10, LATENESS_MS_DEFAULT)
    buffer, at, decoded_events, late, clock = np.frombuffer(payload, dtype=np.uint8), 0, 0, 0, 0
    while at < buffer.size:
        decoded, at = decoder.json_lines(buffer, at, 1 << 16, Origin("simulated"))
        assert not decoded.dead
        clock = decoder.stamp(decoded, clock, 0, decoded_events)
        decoded_events += decoded.events
        late += len(decoded.late)
    assert decoded_events == EVENTS
    assert 0 < late < EVENTS * 0.003


def test_all_kinds_of_event_happen(events: list[dict[str, Any]]) -> None:
    seen = {e["type"] for e in events}
    assert seen == {name.split(",")[0] for name in KINDS}
    withdrawn = [e for e in events if e["type"] == "Consent Changed" and not e["granted"]]
    granted = [e for e in events if e["type"] == "Consent Changed" and e["granted"]]
    assert {e["channel"] for e in granted} == {"email", "push", "ads"}
    assert len(granted) > 20 * len(withdrawn) > 0


def test_orders_add_up(events: list[dict[str, Any]]) -> None:
    orders = [e for e in events if e["type"] == "Order Completed"]
    assert len(orders) > EVENTS * 0.02
    for order in orders:
        total = sum(round(line["price"] * 100) * line["quantity"] for line in order["products"])
        assert round(order["amount"] * 100) == total > 0


def test_a_product_is_viewed_three_times_and_not_bought(events: list[dict[str, Any]]) -> None:
    views: collections.Counter[tuple[str, str]] = collections.Counter()
    bought = set()
    for e in events:
        customer = e.get("userId") or e.get("loyaltyId") or e["anonymousId"]
        if e["type"] == "Product Viewed":
            views[customer, e["product_id"]] += 1
        for line in e.get("products", ()):
            bought.add((customer, line["product_id"]))
    assert sum(n >= 3 and key not in bought for key, n in views.items()) > EVENTS // 100


def test_anonymous_first_then_known(events: list[dict[str, Any]]) -> None:
    """A device that logs in has been seen without a user before, and with that user only afterwards."""
    in_time = sorted(events, key=lambda e: e["time"])
    user_of: dict[str, str] = {}
    before: set[str] = set()
    browsed_first = 0
    logins = {e["anonymousId"] for e in events if e["type"] == "identify"}
    assert len(logins) > EVENTS // 100
    for e in in_time:
        device = e.get("anonymousId")
        if device not in logins:
            continue
        if e["type"] == "identify" and device not in user_of:
            user_of[device] = e["userId"]
            browsed_first += device in before
        if device in user_of:
            assert e["userId"] == user_of[device]
        else:
            assert "userId" not in e
            before.add(device)
    assert browsed_first == len(logins)


def test_order_of_arrival(events: list[dict[str, Any]]) -> None:
    ids = collections.Counter(e["id"] for e in events)
    assert 0.003 < sum(n - 1 for n in ids.values()) / EVENTS < 0.007
    behind, clock = 0, ""
    for e in events:
        behind += e["time"] < clock
        clock = max(clock, e["time"])
    assert 0 < behind / EVENTS < 0.03


def test_logins_tell_the_time_zone_of_some(events: list[dict[str, Any]]) -> None:
    logins = [e for e in events if e["type"] == "identify"]
    told: dict[Any, Any] = {e["userId"]: e["timezone"] for e in logins if "timezone" in e}
    assert 0.3 < sum("timezone" in e for e in logins) / len(logins) < 0.7
    assert set(told.values()) == set(ZONES)
    assert all(e.get("timezone") == told.get(e["userId"]) for e in logins)  # the same at each login


def test_messages_bring_visits_of_those_who_agreed(events: list[dict[str, Any]]) -> None:
    agreed = {
        (e["userId"], e["channel"])
        for e in events
        if e["type"] == "Consent Changed" and e["granted"] and "userId" in e
    }
    opened = [e for e in events if e["type"] == "Email Opened"]
    tapped = [e for e in events if e["type"] == "Push Notification Tapped"]
    assert len(opened) > 50
    assert len(tapped) > 20
    assert sum((e["userId"], "email") in agreed for e in opened) > 0.9 * len(opened)
    assert sum((e["userId"], "push") in agreed for e in tapped) > 0.9 * len(tapped)


def test_carts_are_left_and_sessions_end_without_an_order(events: list[dict[str, Any]]) -> None:
    added = {e["userId"] for e in events if e["type"] == "Product Added" and "userId" in e}
    ordered = {e["userId"] for e in events if e["type"] == "Order Completed" and "userId" in e}
    assert len(added - ordered) > 20
    ends = sum(e["type"] == "Session Ended" for e in events)
    assert ends > 2 * sum(e["type"] == "Order Completed" for e in events)


def test_some_customers_come_less_and_less() -> None:
    """Of those who come often at first, some hardly come after three months."""
    lines = _bytes(events=60_000, customers=150, events_per_second=60_000 / (100 * 86_400)).splitlines()
    first: collections.Counter[str] = collections.Counter()
    last: collections.Counter[str] = collections.Counter()
    for line in lines:
        event = orjson.loads(line)
        day = (parse_time_ms(event["time"], "time") - START_MS_DEFAULT) / DAY_MS
        customer = event.get("userId")
        if customer and day < 10:
            first[customer] += 1
        elif customer and day > 85:
            last[customer] += 1
    often = [customer for customer, n in first.items() if n >= 20]
    faded = [customer for customer in often if last[customer] <= first[customer] / 5]
    assert 0.03 < len(faded) / len(often) < 0.4


@pytest.mark.parametrize("name", ["catalogue.csv", "catalogue.parquet"])
def test_the_catalogue_tells_of_the_products_in_the_events(
    tmp_path: Path, name: str, events: list[dict[str, Any]]
) -> None:
    path = tmp_path / "tables" / name
    write_catalogue(SimulationSettings(customers=2_000), str(path))
    table = csv.read_csv(path) if name.endswith("csv") else parquet.read_table(path)
    assert table.column_names == ["product_id", "category", "brand", "price", "margin"]
    products = {row["product_id"]: row for row in table.to_pylist()}
    views = [e for e in events if e["type"] == "Product Viewed"]
    for e in views:
        known = products[e["product_id"]]
        assert (known["category"], known["price"]) == (e["category"], e["price"])
    assert all(0.1 <= row["margin"] <= 0.6 for row in products.values())
    with pytest.raises(SinkError, match="exists already"):
        write_catalogue(SimulationSettings(), str(path))
    with pytest.raises(SettingsError, match=r"no \.csv"):
        write_catalogue(SimulationSettings(), str(tmp_path / "catalogue.xlsx"))


def test_settings_say_what_is_wrong() -> None:
    with pytest.raises(SettingsError, match="customers is 0"):
        SimulationSettings(customers=0)


@pytest.mark.parametrize("customers", [1, 3, 5_000_000])
def test_any_number_of_customers(customers: int) -> None:
    assert _bytes(events=500, customers=customers, products=1, stores=1).count(b"\n") == 500
