"""Files become the tables of segue_kernels/plan.py, whatever their order, with the smallest exact state."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path

import numpy as np
import pytest

from segue.events.hashing import hash_text, key_words
from segue.events.names import CHANNELS, CODE_BY_NAME
from segue.limits import KEYED_SLOTS_BROWSING
from segue.policy import ir
from segue.policy.check import check, render
from segue.policy.compiled import CompiledPolicies
from segue.policy.load import SHIPPED, load_policies
from segue_kernels import plan, record

SECRET = bytes(range(16))

TWO = """
policy = "two"
version = 4
currency = "JPY"

[[journeys]]
id = "first"
on = ["Order Completed", "Product Viewed"]
when = 'count("Product Viewed", by="product", within="1h") >= 2 or event.price > 100'
priority = 10
limits = [
    { times = 1, within = "1d" },
    { times = 3, within = "7d" },
    { times = 1, within = "7d", by = "product" },
]
[journeys.model]
name = "m"
version = "7"
features = [
    { name = "a", value = 'count("Product Viewed", by="product", within="2h", up_to=5)' },
    { name = "b", value = 'exists("Product Viewed", by="product")' },
]
[[journeys.offers]]
id = "z"
channel = "web"
placement = "top"
weights = { b = 2.0 }
[[journeys.offers]]
id = "y"
channel = "email"
value = 3.0
lever = 0.5
bias = -1.0
context = "1 + 1"
weights = { a = 1.0, b = 4.0 }
voucher = { campaign = "c", discount_amount = 500 }

[[journeys]]
id = "second"
on = ["Product Viewed"]
when = 'event.category == "shoes" and sum("Order Completed", of="amount", within="1d") > 10'
priority = 90
alongside = true
score_min = 0.25
expires_after = "3h"
[[journeys.offers]]
id = "x"
channel = "email"
purpose = "service"
when = 'distinct("Product Viewed", of="category", every="1d") >= 2'
context = 'event.quantity'
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> CompiledPolicies:
    file = tmp_path_factory.mktemp("policies") / "two.toml"
    file.write_text(TWO, encoding="utf-8")
    return load_policies([file], secret=SECRET, native=False)


def test_streams_are_shared_and_as_small_as_is_exact(two: CompiledPolicies) -> None:
    view, order = CODE_BY_NAME["Product Viewed"], CODE_BY_NAME["Order Completed"]
    rows = {tuple(map(int, row[[9, 1, 0]])): row for row in two.streams}
    assert len(rows) == len(two.streams) == 5
    views = rows[view, plan.BY_PRODUCT, plan.COUNT]
    assert views[plan.STREAM_K] == 5
    assert views[plan.STREAM_WINDOW_MS] == 0  # one atom asks for ever
    assert views[plan.STREAM_SLOTS] == KEYED_SLOTS_BROWSING
    assert views[plan.STREAM_AREA_WORDS] == 1 + KEYED_SLOTS_BROWSING + KEYED_SLOTS_BROWSING * 5
    money = rows[order, plan.BY_NONE, plan.SUM]
    assert money[plan.STREAM_FIELD] == record.AMOUNT
    assert money[plan.STREAM_CURRENCY] == 1 + 676 * 9 + 26 * 15 + 24
    assert money[plan.STREAM_ENTRY_WORDS] == 64
    kinds = rows[view, plan.BY_NONE, plan.TUMBLE_DISTINCT]
    assert (kinds[plan.STREAM_K], kinds[plan.STREAM_ENTRY_WORDS]) == (2, 4)
    assert kinds[plan.STREAM_WINDOW_MS] == 86_400_000
    sent = rows[plan.SENT_TYPE, plan.BY_NONE, plan.COUNT]
    assert (sent[plan.STREAM_K], sent[plan.STREAM_WINDOW_MS]) == (3, 7 * 86_400_000)


def test_areas_follow_the_header_without_gaps(two: CompiledPolicies) -> None:
    offset = plan.HEADER_WORDS
    for row in two.streams:
        assert row[plan.STREAM_OFFSET] == offset
        offset += int(row[plan.STREAM_AREA_WORDS])
    assert offset <= two.row_words < offset + 8
    assert two.row_words % 8 == 0


def of_type(start: np.ndarray, values: np.ndarray, name: str) -> list[int]:
    code = CODE_BY_NAME[name]
    assert len(start) == plan.TYPES + 1
    return [int(value) for value in values[start[code] : start[code + 1]]]


def test_indexes_by_event_type(two: CompiledPolicies) -> None:
    assert of_type(two.trigger_start, two.trigger, "Product Viewed") == [0, 1]
    assert of_type(two.trigger_start, two.trigger, "Order Completed") == [0]
    assert two.trigger_start[-1] == len(two.trigger) == 3
    listening = of_type(two.listen_start, two.listen, "Product Viewed")
    assert [int(two.streams[s, plan.STREAM_TYPE]) for s in listening] == [CODE_BY_NAME["Product Viewed"]] * 2
    assert all(two.streams[s, plan.STREAM_TYPE] < plan.SENT_TYPE for s in two.listen)
    located = of_type(two.locate_start, two.locate, "Order Completed")
    assert all(two.streams[s, plan.STREAM_BY] == plan.BY_PRODUCT for s in located)
    assert sorted(int(two.streams[s, plan.STREAM_TYPE]) for s in located) == [3, plan.SENT_TYPE]


def test_journeys_and_limits(two: CompiledPolicies) -> None:
    assert two.journeys[:, plan.JOURNEY_PRIORITY].tolist() == [10, 90]
    assert two.journeys[:, plan.JOURNEY_ALONGSIDE].tolist() == [0, 1]
    assert two.journeys_f[:, plan.JOURNEY_F_SCORE_MIN].tolist() == [0.0, 0.25]
    assert [j.expires_after_ms for j in two.journey_infos] == [86_400_000, 3 * 3_600_000]
    assert [(j.model_name, j.model_version) for j in two.journey_infos] == [("m", "7"), ("", "")]
    assert two.limits[:, plan.LIMIT_TIMES].tolist() == [1, 3, 1]
    assert two.limits[:, plan.LIMIT_CHARGES].tolist() == [1, 0, 1]  # the first two share a stream
    assert two.limits[0, plan.LIMIT_STREAM] == two.limits[1, plan.LIMIT_STREAM]
    assert two.journeys[0, plan.JOURNEY_SENT_STREAMS] == 2
    assert two.journeys[:, plan.JOURNEY_LIMITS_END].tolist() == [3, 3]


def test_weights_are_feature_major(two: CompiledPolicies) -> None:
    assert two.weights.tolist() == [0.0, 1.0, 2.0, 4.0]
    assert two.journeys[0, plan.JOURNEY_FEATURES_COUNT] == 2
    assert len(two.features) == 2


def test_offers_and_slots(two: CompiledPolicies) -> None:
    assert two.slots == (("email", "default"), ("web", "top"))
    assert two.offers[:, plan.OFFER_SLOT].tolist() == [1, 0, 0]
    assert two.offers[:, plan.OFFER_JOURNEY].tolist() == [0, 0, 1]
    assert two.offers[:, plan.OFFER_TIE_RANK].tolist() == [2, 1, 0]  # priority, then offer id
    assert two.offers[:, plan.OFFER_CONSENT].tolist() == [-1, 0, CHANNELS.index("email") * 2 + 1]
    assert two.offers[:, plan.OFFER_CONSENT_LEAST].tolist() == [1, 1, 1]
    assert (two.offers[:, plan.OFFER_WHEN] >= 0).tolist() == [False, False, True]
    assert (two.offers[:, plan.OFFER_CONTEXT] >= 0).tolist() == [False, False, True]
    assert two.offers_f[:, plan.OFFER_F_CONTEXT].tolist() == [1.0, 2.0, 1.0]
    assert two.offers_f[1].tolist() == [3.0, 0.5, 2.0, -1.0]
    assert two.offers[:, plan.OFFER_CURRENCY].tolist() == [0, 1 + 676 * 9 + 26 * 15 + 24, 0]
    voucher = two.offer_infos[1].voucher
    assert voucher is not None
    assert voucher.discount_amount_minor == 500  # JPY has no minor units
    zero = np.uint64(0)
    assert two.slot_hash.tolist() == [
        hash_text("email/default", zero, zero),
        hash_text("web/top", zero, zero),
    ]
    assert two.journey_hash.tolist() == [hash_text(j.id, zero, zero) for j in two.journey_infos]


def test_text_is_hashed_with_the_secret(two: CompiledPolicies) -> None:
    tests = [n for program in two.programs for n in ir.walk(program) if isinstance(n, ir.EventIs)]
    assert tests == [ir.EventIs(record.CATEGORY, (hash_text("shoes", *key_words(SECRET)),))]


def test_tables_do_not_depend_on_the_order_of_files() -> None:
    files = sorted(SHIPPED.glob("*.toml"))
    one = load_policies(files, secret=SECRET, native=False)
    other = load_policies([*reversed(files), SHIPPED], secret=SECRET, native=False)
    for item in dataclasses.fields(CompiledPolicies):
        a, b = getattr(one, item.name), getattr(other, item.name)
        same = np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b
        assert same, item.name


def test_tables_are_words_in_c_order() -> None:
    compiled = load_policies(secret=SECRET, native=False)
    for item in dataclasses.fields(CompiledPolicies):
        value = getattr(compiled, item.name)
        if isinstance(value, np.ndarray):
            assert value.flags.c_contiguous, item.name
            kinds = (np.uint8,) if item.name in ("watch", "lookup_types") else (np.int64, np.float64)
            assert value.dtype in kinds, item.name
    assert not compiled.program_address.any()


def test_the_shipped_policies_compile_quickly_and_then_come_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGUE_CACHE_DIR", str(tmp_path))
    cold = load_policies(secret=SECRET)
    assert cold.native is not None
    assert not cold.native.from_cache
    assert cold.program_address.all()
    began = time.perf_counter()
    warm = load_policies(secret=SECRET)
    seconds = time.perf_counter() - began
    assert warm.native is not None
    assert warm.native.from_cache
    assert seconds < 0.5  # 0.02 on an idle machine
    (kept,) = (tmp_path / "policies").iterdir()
    kept.write_bytes(kept.read_bytes()[:-1])
    again = load_policies(secret=SECRET)
    assert again.native is not None
    assert not again.native.from_cache  # a damaged file is not run


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SEGUE_CACHE_DIR", os.fspath(tmp_path / "file"))
    assert load_policies(secret=SECRET).program_address.all()


def test_what_counts_as_consent_is_declared_once_for_all_files(tmp_path: Path) -> None:
    (tmp_path / "two.toml").write_text(TWO)
    (tmp_path / "consent.toml").write_text(
        'policy = "consent"\nversion = 1\n'
        '[[purposes]]\nid = "service"\nunknown = "granted"\n'
        '[[purposes]]\nid = "marketing"\nunknown = "withheld"\n'
    )
    policies = load_policies([tmp_path], secret=SECRET, native=False)
    assert policies.offers[:, plan.OFFER_CONSENT_LEAST].tolist() == [1, 1, 0]
    alone = load_policies([tmp_path / "two.toml"], secret=SECRET, native=False)
    assert policies.layout_digest == alone.layout_digest  # saved state fits both
    assert policies.digest != alone.digest
    text = render(check(policies))
    assert "service: granted where nothing is known" in text
    assert "marketing: withheld where nothing is known" in text
    assert "(consent email service, granted if unknown" in text
    assert "if unknown" not in render(check(alone))


def test_the_report(two: CompiledPolicies) -> None:
    report = check(two)
    (policy,) = report.policies
    assert policy.triggers == policy.events == ("Order Completed", "Product Viewed")
    assert policy.state_bytes == report.state_bytes == int(two.streams[:, plan.STREAM_AREA_WORDS].sum()) * 8
    assert policy.slots == ("email/default", "web/top")
    assert policy.offers[2].consent == "email service"
    shipped = check(load_policies(secret=SECRET, native=False))
    assert sum(p.state_bytes for p in shipped.policies) > shipped.state_bytes  # they share streams
    text = render(shipped)
    assert "3 times of Product Viewed by product within 7d" in text
    assert "lapsed-category-coupon version 2" in text
    assert "voucher accessory-10" in text


def test_without_machine_code_the_virtual_machine_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("no such processor")

    monkeypatch.setattr("segue.policy.load.compile_native", refuse)
    compiled = load_policies(secret=SECRET)
    assert not compiled.program_address.any()
    assert "no such processor" in render(check(compiled))
