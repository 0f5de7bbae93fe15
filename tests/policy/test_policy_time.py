"""Waits, sessions, changes, segments, stages, joins and reference tables: files become the kernels' tables."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segue.errors import PolicyError
from segue.events.hashing import hash_text, key_words
from segue.events.names import ACTIVITY_CODES, CODE_BY_NAME
from segue.limits import DAY_MS, HOUR_MS, MINUTE_MS
from segue.policy import ir
from segue.policy.check import check, render
from segue.policy.compiled import CompiledPolicies
from segue.policy.expression import compile_condition
from segue.policy.load import load_policies
from segue.policy.scope import Scope
from segue_kernels import plan, record

SECRET = bytes(range(16))

JOURNEYS = """
policy = "a-journeys"
version = 1

[[journeys]]
id = "cart"
on = ["Product Added"]
when = 'event.price > 10 and not exists("Order Completed", by="product", within="1d")'
wait = ["30m", "24h", "72h"]
by = "product"
restart = true
still = 'absent("Order Completed", by="product") and not segment("loyal")'
limits = [{ times = 1, within = "7d", by = "category" }]
[journeys.model]
name = "m"
version = "1"
features = [{ name = "step", value = 'step' }, { name = "margin", value = 'catalogue.margin' }]
[[journeys.offers]]
id = "remind"
channel = "email"
steps = [1, 3]
when = 'stock.quantity > 0'
items = { recent = "Product Viewed", session = "30m", up_to = 3 }
[[journeys.offers]]
id = "voucher"
channel = "email"
steps = [1, 2, 3]
items = { recent = "Product Viewed", within = "7d" }

[[journeys]]
id = "farewell"
session = "30m"
when = 'count("Product Viewed", session="30m") >= 3'
[[journeys.offers]]
id = "mail"
channel = "email"
items = { recent = "Product Added", calendar = "week" }

[[journeys]]
id = "welcome"
on = ['entered("loyal")', "Loyalty Enrolled", 'left("lapsing")', "stage('decision')"]
when = 'exists("Product Viewed", by="category")'
[[journeys.offers]]
id = "hello"
channel = "web"

[[journeys]]
id = "later"
on = ["Order Completed"]
when = 'True'
wait = "14d"
[[journeys.offers]]
id = "review"
channel = "email"

[[joins]]
id = "click-order"
left = "Email Link Clicked"
right = "Order Completed"
within = "7d"

[[joins]]
id = "action-order"
left = "action"
right = "Order Completed"
within = "3d"
up_to = 2

[[joins]]
id = "reminded"
left = 'action("cart")'
right = "Order Completed"
within = "2d"
by = "product"
"""

PEOPLE = """
policy = "b-people"
version = 1

[[segments]]
id = "loyal"
when = 'count("Order Completed", within="365d") >= 3 and joined("click-order", within="90d") >= 1'
[[segments]]
id = "lapsing"
when = 'recency("Order Completed") > duration("90d") and exists("Order Completed")'

[[stages]]
id = "new"
when = 'not exists("Product Viewed", within="180d") and exists("Product Viewed")'
from = ["interest", "decision"]
[[stages]]
id = "interest"
when = 'count("Product Viewed", within="30d") >= 2'
[[stages]]
id = "decision"
when = 'exists("Checkout Started", within="7d") or segment("loyal")'
from = ["new", "interest"]

[[tables]]
name = "catalogue"
fields = { brand = "text", margin = "number" }
unknown = { brand = "none", margin = 0.25 }
"""


def load(folder: Path, *texts: str) -> CompiledPolicies:
    for i, text in enumerate(texts):
        (folder / f"{i}.toml").write_text(text, encoding="utf-8")
    return load_policies([folder], secret=SECRET, native=False)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> CompiledPolicies:
    return load(tmp_path_factory.mktemp("time"), JOURNEYS, PEOPLE)


def stream(compiled: CompiledPolicies, index: int) -> tuple[int, ...]:
    """(type, by, kind, field, width)"""
    row = compiled.streams[index]
    columns = (plan.STREAM_TYPE, plan.STREAM_BY, plan.STREAM_KIND, plan.STREAM_FIELD, plan.STREAM_WIDTH_MS)
    return tuple(int(row[column]) for column in columns)


def group(start: np.ndarray, values: np.ndarray, index: int) -> list[int]:
    return [int(value) for value in values[start[index] : start[index + 1]]]


def code(name: str) -> int:
    return CODE_BY_NAME[name]


def test_kinds_waits_and_steps(both: CompiledPolicies) -> None:
    assert [info.kind for info in both.journey_infos] == [
        plan.ON_WAIT,
        plan.ON_SESSION,
        plan.ON_EVENT,
        plan.ON_WAIT,
    ]
    assert both.journeys[:, plan.JOURNEY_KIND].tolist() == [info.kind for info in both.journey_infos]
    assert [info.steps for info in both.journey_infos] == [3, 1, 1, 1]
    cart, farewell, _, later = both.journeys
    waits = both.waits[cart[plan.JOURNEY_WAITS_START] : cart[plan.JOURNEY_WAITS_END]]
    assert waits.tolist() == [30 * MINUTE_MS, 24 * HOUR_MS, 72 * HOUR_MS]
    assert both.waits[later[plan.JOURNEY_WAITS_START] : later[plan.JOURNEY_WAITS_END]].tolist() == [
        14 * DAY_MS
    ]
    assert farewell[plan.JOURNEY_WAITS_START] == farewell[plan.JOURNEY_WAITS_END]
    assert (cart[plan.JOURNEY_BY], cart[plan.JOURNEY_RESTART]) == (plan.BY_PRODUCT, 1)
    assert (later[plan.JOURNEY_BY], later[plan.JOURNEY_RESTART], later[plan.JOURNEY_STILL]) == (0, 0, -1)
    still = both.programs[cart[plan.JOURNEY_STILL]]
    assert {ir.Since, ir.InSegment} <= {type(node) for node in ir.walk(still)}


def test_waiting_journeys_are_triggered_by_the_events_that_begin_them(both: CompiledPolicies) -> None:
    assert group(both.trigger_start, both.trigger, code("Product Added")) == [0]
    assert group(both.trigger_start, both.trigger, code("Loyalty Enrolled")) == [2]
    assert group(both.trigger_start, both.trigger, code("Order Completed")) == [3]


def test_what_is_located_when_a_wait_begins_and_when_it_is_over(both: CompiledPolicies) -> None:
    def keyed(indexes: list[int]) -> set[tuple[int, ...]]:
        return {stream(both, index)[:2] for index in indexes}

    order = code("Order Completed"), plan.BY_PRODUCT
    assert keyed(group(both.locate_start, both.locate, code("Product Added"))) == {order}
    fires = keyed(group(both.journey_locate_start, both.journey_locate, 0))
    assert fires == {order, (plan.SENT_TYPE, plan.BY_CATEGORY)}
    views = {(code("Product Viewed"), plan.BY_CATEGORY)}
    assert keyed(group(both.journey_locate_start, both.journey_locate, 2)) == views
    assert keyed(group(both.locate_start, both.locate, code("Loyalty Enrolled"))) == views
    assert group(both.journey_locate_start, both.journey_locate, 1) == []


def test_changes_trigger_journeys(both: CompiledPolicies) -> None:
    assert both.segment_ids == ("loyal", "lapsing")
    assert both.stage_ids == ("new", "interest", "decision")
    codes = [group(both.change_start, both.change, change) for change in range(7)]
    # loyal entered, left; lapsing entered, left; new, interest, decision
    assert codes == [[2], [], [], [2], [], [], [2]]
    assert len(both.change_start) == 8
    assert both.journey_infos[2].types == ("Loyalty Enrolled",)
    assert both.journey_infos[2].changes == ('entered("loyal")', 'left("lapsing")', "stage('decision')")


def test_session_ends(both: CompiledPolicies) -> None:
    assert both.session_ends[:, plan.SESSION_GAP_MS].tolist() == [30 * MINUTE_MS]
    sessions = both.session_ends[0, plan.SESSION_STREAM]
    assert stream(both, sessions) == (plan.ANY_TYPE, 0, plan.SESSIONS, 0, 30 * MINUTE_MS)
    assert group(both.session_start, both.session, 0) == [1]
    assert both.journeys[1, plan.JOURNEY_SESSION] == 0
    for activity in ACTIVITY_CODES:
        assert sessions in group(both.listen_start, both.listen, activity)
    assert sessions not in group(both.listen_start, both.listen, code("Email Delivered"))


def test_moments_are_those_of_programs_and_lists(both: CompiledPolicies) -> None:
    assert both.moments[:, plan.MOMENT_WINDOW].tolist() == [-30 * MINUTE_MS, plan.WINDOW_WEEK]
    assert both.moments[:, plan.MOMENT_STREAM].tolist() == [both.session_ends[0, plan.SESSION_STREAM], -1]


def test_lists_of_products(both: CompiledPolicies) -> None:
    remind, voucher, mail, hello, _ = both.offers
    assert stream(both, remind[plan.OFFER_ITEMS_STREAM]) == (
        code("Product Viewed"),
        0,
        plan.DISTINCT,
        record.PRODUCT,
        0,
    )
    assert remind[plan.OFFER_ITEMS_STREAM] == voucher[plan.OFFER_ITEMS_STREAM]
    assert both.streams[remind[plan.OFFER_ITEMS_STREAM], plan.STREAM_K] == 5
    assert both.streams[remind[plan.OFFER_ITEMS_STREAM], plan.STREAM_FLAGS] & plan.STREAM_FLAG_NAMES
    listed = [plan.OFFER_ITEMS_MAX, plan.OFFER_ITEMS_WINDOW]
    assert remind[listed].tolist() == [3, -30 * MINUTE_MS]
    assert voucher[listed].tolist() == [5, 7 * DAY_MS]
    assert mail[listed].tolist() == [5, plan.WINDOW_WEEK]
    assert hello[plan.OFFER_ITEMS_STREAM] == -1


def test_offers_of_steps(both: CompiledPolicies) -> None:
    first = both.programs[both.offers[0, plan.OFFER_WHEN]]
    steps = ir.Or(ir.Compare("==", ir.Step(), ir.Number(1.0)), ir.Compare("==", ir.Step(), ir.Number(3.0)))
    assert isinstance(first, ir.And)
    assert first.left == steps
    assert both.offers[1, plan.OFFER_WHEN] == -1  # for all its steps


def test_joins(both: CompiledPolicies) -> None:
    assert both.join_ids == ("click-order", "action-order", "reminded")
    click, action, reminded = both.joins
    order = code("Order Completed")
    assert both.joins[:, plan.JOIN_RIGHT_TYPE].tolist() == [order] * 3
    assert both.joins[:, plan.JOIN_LEFT_JOURNEY].tolist() == [-1, -2, 0]
    assert both.joins[:, plan.JOIN_BY].tolist() == [0, 0, plan.BY_PRODUCT]
    assert both.joins[:, plan.JOIN_WITHIN_MS].tolist() == [7 * DAY_MS, 3 * DAY_MS, 2 * DAY_MS]
    assert group(both.join_start, both.join, order) == [0, 1, 2]
    clicked = code("Email Link Clicked")
    assert stream(both, click[plan.JOIN_LEFT_STREAM])[:3] == (clicked, 0, plan.LEFT)
    assert stream(both, action[plan.JOIN_LEFT_STREAM])[:3] == (plan.JOIN_TYPE + 1, 0, plan.LEFT)
    assert stream(both, reminded[plan.JOIN_LEFT_STREAM])[:3] == (
        plan.JOIN_TYPE + 2,
        plan.BY_PRODUCT,
        plan.LEFT,
    )
    assert both.streams[both.joins[:, plan.JOIN_LEFT_STREAM], plan.STREAM_K].tolist() == [8, 2, 8]
    assert click[plan.JOIN_LEFT_STREAM] in group(both.listen_start, both.listen, clicked)
    assert stream(both, click[plan.JOIN_COUNT_STREAM])[:3] == (plan.JOIN_TYPE, 0, plan.COUNT)
    assert (action[plan.JOIN_COUNT_STREAM], reminded[plan.JOIN_COUNT_STREAM]) == (-1, -1)
    fed = [both.joins[j, plan.JOIN_LEFT_STREAM] for j in (1, 2)]
    assert not set(fed) & set(both.listen.tolist())


def test_joins_of_one_event_do_not_share_what_waits(tmp_path: Path) -> None:
    twice = PEOPLE.replace('and joined("click-order", within="90d") >= 1', "") + "".join(
        f'[[joins]]\nid = "{name}"\nleft = "Product Viewed"\nright = "Order Completed"\nwithin = "1d"\n'
        for name in ("x", "y")
    )
    compiled = load(tmp_path, twice)
    assert len(set(compiled.joins[:, plan.JOIN_LEFT_STREAM].tolist())) == 2


def test_tables_and_lookups(both: CompiledPolicies) -> None:
    assert [table.name for table in both.tables] == ["catalogue", "price", "stock", "profile"]
    assert [[f.name for f in table.fields] for table in both.tables] == [
        ["brand", "margin"],
        ["amount"],
        ["quantity"],
        [],
    ]
    assert both.tables[0].fields[0].unknown == hash_text("none", *key_words(SECRET))
    # in the order of first use, those of a table behind each other
    assert both.lookups[:, :3].tolist() == [
        [plan.TABLE_CATALOGUE, plan.VERSION_FIELDS, 250_000],
        [plan.TABLE_STOCK, plan.VERSION_FIELDS, 0],
    ]
    assert both.lookup_fields == (("catalogue", "margin", "number"), ("stock", "quantity", "number"))
    assert not both.lookup_types.any()  # they are read when a wait is over, not when an event comes


def test_versions_have_their_fields_where_the_kernels_look() -> None:
    from segue_kernels import tables

    assert plan.VERSION_FIELDS == tables.VERSION_FIELDS


def test_segments_stages_and_what_is_watched(both: CompiledPolicies) -> None:
    assert both.segments.shape == (2, plan.SEGMENT_WORDS)
    assert both.stages[:, plan.STAGE_FROM].tolist() == [0b110, 0b001, 0b011]
    assert (both.stages[:, plan.STAGE_WHEN] >= 0).all()
    read = {"Order Completed", "Product Viewed", "Checkout Started"}
    assert set(np.flatnonzero(both.watch).tolist()) == {code(name) for name in read}
    kinds = set(both.checks[:, plan.CHECK_KIND].tolist())
    assert {plan.CHECK_LEAVES_LAST, plan.CHECK_AGE} <= kinds
    for row in both.checks:
        assert 0 <= row[plan.CHECK_STREAM] < len(both.streams)


ONE_SEGMENT = 'policy = "p"\nversion = 1\n[[segments]]\nid = "s"\nwhen = {}\n{}'
PROFILE = '[[tables]]\nname = "profile"\nfields = {{ tier = "text" }}'


def watched(folder: Path, when: str, more: str = "") -> set[int]:
    compiled = load(folder, ONE_SEGMENT.format(f"'''{when}'''", more.format()))
    return set(np.flatnonzero(compiled.watch).tolist())


def test_what_may_change_by_any_event_is_watched_on_all(tmp_path: Path) -> None:
    every = set(CODE_BY_NAME.values())
    order = {code("Order Completed")}
    assert watched(tmp_path, 'exists("Order Completed")') == order
    assert watched(tmp_path, 'count("Order Completed", session="30m") >= 1') == {*ACTIVITY_CODES}
    assert watched(tmp_path, 'exists("Order Completed", calendar="day")') == every  # another time zone
    assert watched(tmp_path, 'profile.tier == "gold" and exists("Order Completed")', PROFILE) == every
    assert watched(tmp_path, 'not exists("Order Completed")') == every  # holds from the first event on
    assert watched(tmp_path, 'recency("Order Completed") > duration("9d")') == every


def test_lookups_where_an_event_decides(tmp_path: Path) -> None:
    journey = """
[[journeys]]
id = "j"
on = [{}]
when = 'catalogue.margin > 1'
[[journeys.offers]]
id = "o"
channel = "web"
[[tables]]
name = "catalogue"
fields = {{ margin = "number" }}
"""
    text = ONE_SEGMENT.format("'exists(\"Order Completed\")'", "")
    on_event = load(tmp_path, text + journey.format('"Product Viewed"'))
    assert np.flatnonzero(on_event.lookup_types).tolist() == [code("Product Viewed")]
    # on a change the engine fills them for the journeys that it triggers
    on_change = load(tmp_path, text + journey.format("'entered(\"s\")'"))
    assert not on_change.lookup_types.any()


def test_the_order_of_files_and_of_fields_does_not_matter(tmp_path: Path, both: CompiledPolicies) -> None:
    other = load(tmp_path, PEOPLE, JOURNEYS)
    for item in dataclasses.fields(CompiledPolicies):
        a, b = getattr(both, item.name), getattr(other, item.name)
        if item.name == "policies":
            a, b = ([dataclasses.replace(p, path="") for p in policies] for policies in (a, b))
        same = np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b
        assert same, item.name


def test_a_policy_without_journeys_loads(tmp_path: Path) -> None:
    compiled = load(tmp_path, PEOPLE.replace('and joined("click-order", within="90d") >= 1', ""))
    assert not len(compiled.journeys)
    assert len(compiled.segments) == 2
    assert compiled.journey_locate_start.tolist() == [0]


def test_the_layout_digest_tells_what_rows_refer_to(tmp_path: Path, both: CompiledPolicies) -> None:
    renamed = load(tmp_path, JOURNEYS, PEOPLE.replace('"interest"', '"search"'))
    assert np.array_equal(renamed.streams, both.streams)
    assert renamed.layout_digest != both.layout_digest


def test_the_report_of_time(both: CompiledPolicies) -> None:
    text = render(check(both))
    for line in (
        'decides on  Loyalty Enrolled, Order Completed, Product Added, entered("loyal"), left("lapsing")',
        "cart: 30m, 1d and 3d after Product Added by product; begins anew with a further one",
        "farewell: when a session ends, 30m after the last thing done",
        "later: 14d after Order Completed",
        "segments  loyal, lapsing",
        "stages  new (the beginning, from interest or decision), interest (from new), decision (from new or",
        "click-order: Order Completed credits Email Link Clicked within 7d",
        "action-order: Order Completed credits any action within 3d",
        "reminded: Order Completed credits an action of cart by product within 2d",
        "catalogue: brand (text), margin (number)",
        "3 sessions apart by 30m",
        "2 unmatched left sides of action-order within 3d",
        "lists 3 of Product Viewed",
    ):
        assert line in text, f"{line}\n---\n{text}"
    report = check(both)
    assert report.policies[1].state_bytes > 0
    assert sum(p.state_bytes for p in report.policies) >= report.state_bytes


WORDS = (
    "1",
    '"x"',
    "[]",
    "{}",
    "true",
    "1979-05-27",
    "nan",
    "-1",
    "1e400",
    '"30m"',
    "['1d', '2d']",
    '"page"',
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_damaged_files_load_or_are_errors(tmp_path: Path, data: st.DataObject) -> None:
    texts = [JOURNEYS, PEOPLE]
    which = data.draw(st.integers(0, 1))
    lines = texts[which].split("\n")
    at = data.draw(st.integers(0, len(lines) - 1))
    change = data.draw(st.sampled_from(["drop", "twice", "swap", "name"]))
    if change == "drop":
        del lines[at]
    elif change == "twice":
        lines.insert(at, lines[at])
    elif change == "swap":
        lines[at] = lines[at].split("=")[0] + "= " + data.draw(st.sampled_from(WORDS))
    else:
        known = ["loyal", "lapsing", "new", "decision", "click-order", "cart", "Order Completed", "product"]
        lines[at] = re.sub(r'"[^"]+"', f'"{data.draw(st.sampled_from(known))}"', lines[at], count=1)
    texts[which] = "\n".join(lines)
    try:
        compiled = load(tmp_path, *texts)
    except PolicyError as error:
        _check_shown(error)
    else:
        assert render(check(compiled))


def _check_shown(error: PolicyError) -> None:
    assert ".toml" in str(error)
    assert error.hint


def test_scopes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What expressions may refer to depends on where they stand."""
    seen: dict[str, Scope] = {}

    def note(text: str, scope: Scope) -> ir.Node:
        seen[f"{Path(scope.file).name} {scope.path}"] = scope
        return compile_condition(text, scope)

    monkeypatch.setattr("segue.policy.load.compile_condition", note)
    load(tmp_path, JOURNEYS, PEOPLE)
    segment, stage = seen["1.toml $.segments[0].when"], seen["1.toml $.stages[1].when"]
    assert segment.customer_only
    assert stage.customer_only
    assert (segment.segments, segment.stages) == ({}, {})
    assert (stage.segments, stage.stages) == ({"loyal": 0, "lapsing": 1}, {})
    begins, over = seen["0.toml $.journeys[0].when"], seen["0.toml $.journeys[0].still"]
    assert (begins.waiting, over.waiting) == (False, True)
    assert seen["0.toml $.journeys[0].offers[0].when"].waiting
    assert not seen["0.toml $.journeys[1].offers[0].when"].waiting
    assert over.stages == {"new": 0, "interest": 1, "decision": 2}
    assert over.joins == {"click-order": 0, "action-order": 1, "reminded": 2}


def test_the_definitions_of_the_language_page_load(tmp_path: Path) -> None:
    page = (Path(load_policies.__code__.co_filename).parent / "LANGUAGE.md").read_text(encoding="utf-8")
    described = page.split("## When a journey is decided")[1].split("## Expressions")[0]
    blocks = re.findall(r"(?:^    (?!\{).*\n)+", described, re.MULTILINE)  # an event is no definition
    text = re.sub(r"^    ", "", "\n".join(blocks), flags=re.MULTILINE)
    compiled = load(tmp_path, 'policy = "page"\nversion = 1\n' + text)
    assert [info.id for info in compiled.journey_infos] == [
        "cart-reminder",
        "seen-not-bought",
        "welcome-loyal",
    ]
    assert compiled.segment_ids == ("loyal", "lapsing")
    assert compiled.stage_ids == ("awareness", "consideration", "decision", "loyalty")
    assert compiled.join_ids == ("mail-order",)
    assert [table.name for table in compiled.tables if table.fields] == [
        *("catalogue", "price", "stock", "profile"),
    ]


def test_the_functions_of_the_language_page_compile(tmp_path: Path) -> None:
    page = (Path(load_policies.__code__.co_filename).parent / "LANGUAGE.md").read_text(encoding="utf-8")
    table = page.split("| function | value |")[1].split("What looks back")[0]
    shown = re.findall(r"`([a-z_0-9]+\(.*?\))`", table)
    assert len(shown) > 20
    named = {"event": '"Product Viewed"', ", ...": "", "x": "event.price", "y": "2"}
    for text in shown:
        call = re.sub(r"\bevent\b|, \.\.\.|\bx\b|\by\b", lambda found: named[found[0]], text)
        call = re.sub(
            r'"(?:A|B|C|X)"', lambda f: {"A": '"page"', "B": '"screen"'}.get(f[0][1], '"alias"'), call
        )
        call = call.replace('"event.price"', '"it"')
        offer = 'context = """(1 if ' + call + ' else 0)"""'
        if not call.startswith(("exists", "sequence", "absent", "segment", "stage")):
            offer = f"context = '{call}'"
        load(
            tmp_path,
            f"""
policy = "p"
version = 1
[[journeys]]
id = "j"
on = ["page"]
when = "True"
wait = "1d"
[[journeys.offers]]
id = "o"
channel = "web"
{offer}
[[segments]]
id = "it"
when = 'exists("page")'
[[stages]]
id = "it"
[[joins]]
id = "it"
left = "page"
right = "screen"
within = "1d"
""",
        )
