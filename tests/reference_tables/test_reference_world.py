"""The world of a worker: built of settings, files and what the policies look up."""

from __future__ import annotations

import threading
import time
from datetime import UTC
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from segue.errors import LimitError, SettingsError
from segue.events.names import CODE_BY_NAME, ROW_CODES
from segue.kafka.settings import InputTopic, KafkaSettings
from segue.reference import world as world_module
from segue.reference.world import ReferenceWorld, empty_world, leave_world, types_for_all, worker_world
from segue.reference.zones import day_starts, zone_names, zone_number, zone_numbers
from segue.routing.arrivals import Released
from segue.settings import Settings, check
from segue_kernels import plan, record
from segue_kernels.route import FOR_ALL
from segue_kernels.tables import VERSION_FIELDS

PRICE_UPDATED, INVENTORY_UPDATED = CODE_BY_NAME["Price Updated"], CODE_BY_NAME["Inventory Updated"]


def policies_with(*fields: tuple[str, str, str]) -> Any:
    """What a world asks of policies that look these fields up."""
    order = ("catalogue", "price", "stock", "profile")
    rows = np.zeros((len(fields), plan.LOOKUP_WORDS), np.int64)
    words: dict[str, int] = {}
    for row, (table, _, _) in zip(rows, fields, strict=True):
        word = words.get(table, VERSION_FIELDS)
        words[table] = word + 1
        row[plan.LOOKUP_TABLE], row[plan.LOOKUP_FIELD] = order.index(table), word
    return SimpleNamespace(lookups=rows, lookup_fields=fields)


MARGIN = ("catalogue", "margin", "number")
AMOUNT = ("price", "amount", "number")
QUANTITY = ("stock", "quantity", "number")
TIER = ("profile", "tier", "text")


@pytest.fixture
def catalogue(tmp_path: Path) -> str:
    path = tmp_path / "products.csv"
    path.write_text("product_id,margin\na,0.5\nb,0.25\n")
    return str(path)


def test_a_table_that_is_looked_into_needs_its_file(catalogue: str) -> None:
    with pytest.raises(SettingsError) as error:
        ReferenceWorld.of(Settings(), policies_with(MARGIN))
    assert "look up margin" in error.value.found
    assert error.value.hint.startswith("say where it is: --table catalogue=FILE, or catalogue=events")
    made = ReferenceWorld.of(Settings(tables={"catalogue": catalogue}), policies_with(MARGIN))
    assert made.counters()["table_keys"] == 2
    # what comes along the way may be all there is
    assert ReferenceWorld.of(Settings(), policies_with(AMOUNT, QUANTITY)).counters()["table_keys"] == 0
    along = Settings(
        tables={"catalogue": "events", "profile": "events"}
    )  # one that is not looked into is no error
    assert ReferenceWorld.of(along, policies_with(MARGIN)).counters()["table_keys"] == 0
    topic = Settings(kafka=KafkaSettings(topics=(InputTopic("products", table="catalogue"),)))
    assert ReferenceWorld.of(topic, policies_with(MARGIN)).counters()["table_keys"] == 0
    with pytest.raises(SettingsError, match='no policy looks into a table "catalogue"'):
        ReferenceWorld.of(topic, policies_with(AMOUNT))


def test_a_table_that_nobody_looks_into(catalogue: str) -> None:
    settings = Settings(tables={"catalog": catalogue, "catalogue": catalogue})
    with pytest.raises(SettingsError) as error:
        ReferenceWorld.of(settings, policies_with(MARGIN))
    assert 'no policy looks into a table "catalog"' in error.value.found
    assert error.value.hint == 'did you mean "catalogue"?'
    with pytest.raises(SettingsError, match="they look into none"):
        ReferenceWorld.of(Settings(tables={"catalogue": catalogue}), policies_with())


def test_which_types_all_shards_hear_of() -> None:
    def types(*fields: tuple[str, str, str]) -> list[int]:
        return np.flatnonzero(types_for_all(policies_with(*fields)) == FOR_ALL).tolist()

    assert types() == []
    catalogue, price, stock, profile = ROW_CODES
    assert types(MARGIN) == [catalogue]
    assert types(AMOUNT) == [PRICE_UPDATED, price]
    assert types(QUANTITY, TIER) == [INVENTORY_UPDATED, stock, profile]


def test_rows_that_nobody_is_about_are_taken_out() -> None:
    records = np.zeros((3, record.RECORD_WORDS), np.int64)
    records[:, record.PACK] = [PRICE_UPDATED, CODE_BY_NAME["Cart Viewed"], INVENTORY_UPDATED]
    for made in (empty_world(), ReferenceWorld.of(Settings(), policies_with(AMOUNT))):
        assert np.array_equal(made.take(records), records[1:2])
        assert made.heard(records[1:2]) is None


def test_histories_stay_with_their_rows() -> None:
    records = np.zeros((4, record.RECORD_WORDS), np.int64)
    records[:, record.PACK] = [
        PRICE_UPDATED,
        CODE_BY_NAME["identify"],
        PRICE_UPDATED,
        CODE_BY_NAME["identify"],
    ]
    records[:, record.SEQUENCE] = range(4)
    first, second = np.arange(3), np.arange(5)
    released = Released(records, np.zeros(0, np.uint8), [(1, first), (3, second)], ((0, 1),))
    customers = Released(records[1:2], released.text)
    assert empty_world().take_released(customers) is customers
    left = ReferenceWorld.of(Settings(), policies_with(AMOUNT)).take_released(released)
    assert left.records[:, record.SEQUENCE].tolist() == [1, 3]
    assert [(at, history is (first, second)[n]) for n, (at, history) in enumerate(left.histories)] == [
        (0, True),
        (1, True),
    ]
    assert left.finished == ((0, 1),)


def test_a_bound_on_all_tables(monkeypatch: pytest.MonkeyPatch, catalogue: str) -> None:
    monkeypatch.setattr(world_module.limits, "TABLE_WORDS_MAX", 15)
    with pytest.raises(LimitError, match="keep the tables"):
        ReferenceWorld.of(Settings(tables={"catalogue": catalogue}), policies_with(MARGIN))


def test_shards_of_a_thread_share_a_world() -> None:
    policies, settings = policies_with(AMOUNT), Settings()
    mine = worker_world(settings, policies)
    assert worker_world(settings, policies) is mine
    others: list[ReferenceWorld] = []
    thread = threading.Thread(target=lambda: others.append(worker_world(settings, policies)))
    thread.start()
    thread.join()
    assert others[0] is not mine
    assert worker_world(settings, policies_with(AMOUNT)) is not mine
    last = worker_world(settings, policies)
    assert not leave_world(mine)
    assert leave_world(last)
    assert not leave_world(last)  # only the first to leave speaks for all
    assert worker_world(settings, policies) is not last


def test_the_default_zone_has_to_be_one() -> None:
    with pytest.raises(SettingsError) as error:
        check(Settings(timezone="Europe/Berln"))
    assert str(error.value) == (
        'read the settings: unknown time zone "Europe/Berln"\n  hint: did you mean "Europe/Berlin"?'
    )
    check(Settings(timezone="Europe/Berlin"))
    assert zone_number("UTC") == 0
    assert zone_names()[zone_number("Europe/Berlin") - 1] == "Europe/Berlin"


def test_a_zone_is_loaded_in_no_time() -> None:
    zone = ZoneInfo("Africa/Casablanca")
    started = time.process_time()
    for _ in range(5):
        day_starts(zone)
    assert (time.process_time() - started) / 5 < 0.1  # 6 ms on the machine it was made on


def test_days_follow_each_other_in_every_zone() -> None:
    for name in zone_names()[:: max(1, len(zone_names()) // 60)]:
        days = np.diff(day_starts(UTC if name == "UTC" else ZoneInfo(name)))  # type: ignore[arg-type]
        assert days.min() >= 20 * 3_600_000, name
        assert days.max() <= 28 * 3_600_000, name


def test_zones_that_are_there_cost_nothing() -> None:
    made = empty_world()
    records = np.zeros((4_096, record.RECORD_WORDS), np.int64)
    records[:, record.PACK] = zone_numbers()["Europe/Berlin"] << record.ZONE_SHIFT
    made.need_zones(records)
    before = made.arrays.day_start[zone_numbers()["Europe/Berlin"]].copy()
    made.need_zones(records)
    assert np.array_equal(made.arrays.day_start[zone_numbers()["Europe/Berlin"]], before)
