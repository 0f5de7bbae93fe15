"""Windows, joins and patterns (B4, B5, B6), waits, sessions, segments and stages: rows by hand, for each rule a stream
on which it acts and one on which it does not. Each test asks the reference alone first; then Segue must say the same.

In the drawings the numbers are minutes, the letters events.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from segue.limits import DAY_MS, HOUR_MS, MINUTE_MS
from tests.reference.choice import Seeded
from tests.reference.decoding import DecodeSettings, decode
from tests.reference.engine import Reference, Settings
from tests.reference.policies import read_policies

MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)  # a Monday
ARRIVAL_MS = int(MIDNIGHT.timestamp()) * 1000 + 100 * DAY_MS
VIEW, ADD, ORDER, CART = "Product Viewed", "Product Added", "Order Completed", "Cart Viewed"
ASK = "Coupon Entered"  # the event that asks
SEND = """
[[journeys.offers]]
id = "o"
channel = "web"
"""


ASKED = "reference"


@pytest.fixture(autouse=True, params=["reference", "segue"])
def _asked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ASKED", request.param)


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """These policies leave no object files behind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGUE_CACHE_DIR", str(tmp_path_factory.mktemp("objects")))
        yield


@dataclass
class Rows:
    """A stream by hand: one event a call, times in minutes after MIDNIGHT."""

    lines: list[bytes] = field(default_factory=list)

    def __call__(self, kind: str, minutes: float, customer: str = "anna", **fields: Any) -> Rows:
        moment = MIDNIGHT + timedelta(milliseconds=round(minutes * MINUTE_MS))
        event = {
            "id": f"e{len(self.lines)}",
            "type": kind,
            "time": moment.isoformat(timespec="milliseconds"),
            "userId": customer,
            **fields,
        }
        self.lines.append(
            json.dumps({name: value for name, value in event.items() if value is not None}).encode()
        )
        return self

    def until(self, minutes: float) -> Rows:
        """Somebody else's event: the clock stands here at last."""
        return self("page", minutes, "somebody else")

    @property
    def payload(self) -> bytes:
        return b"\n".join(self.lines)


def policy(text: str) -> str:
    return f'policy = "p"\nversion = 1\ncurrency = "EUR"\n{text}'


def asking(when: str, more: str = "") -> str:
    """A journey that says whether a condition holds when ASK comes."""
    return policy(f"{more}\n[[journeys]]\nid = \"j\"\non = [\"{ASK}\"]\nwhen = '''{when}'''\n{SEND}")


def run(text: str, rows: Rows, **settings: Any) -> Reference:
    """The reference after the rows; where Segue is asked too, it has said the same."""
    chosen = Settings(**settings)
    reference = Reference(read_policies([text], chosen.secret), chosen, verify=True)
    decoded = decode([rows.payload], DecodeSettings(ARRIVAL_MS))
    assert decoded.dead == []
    reference.run(decoded.events, decoded.clock_ms)
    if ASKED == "segue":
        from tests.reference.test_segue_agrees import check

        for seed in range(3):
            check([text], [rows.payload], chosen, Seeded(seed), native=seed == 1)
    return reference


def sent(text: str, rows: Rows, **settings: Any) -> list[tuple[float, int, str]]:
    """(minute, step, product) of every action."""
    start_ms = int(MIDNIGHT.timestamp()) * 1000
    return [
        ((action.time_ms - start_ms) / MINUTE_MS, action.step, action.product)
        for action in run(text, rows, **settings).actions
    ]


def holds(when: str, rows: Rows, more: str = "") -> bool:
    """Whether the condition held for the last row, which is an ASK."""
    return bool(sent(asking(when, more), rows))


def changes(text: str, rows: Rows, **settings: Any) -> list[tuple[float, str, str]]:
    """(minute, name, change) of every change."""
    start_ms = int(MIDNIGHT.timestamp()) * 1000
    return [
        ((change.time_ms - start_ms) / MINUTE_MS, change.name, change.change)
        for change in run(text, rows, **settings).changes
    ]


# --- B4: windows --------------------------------------------------------------------------------------


def test_tumbling_and_sliding_windows() -> None:
    # 59  61     an hour ends at 60: the aligned window holds one view, the sliding one both
    # v   v?
    rows = Rows()(VIEW, 59)(VIEW, 61)(ASK, 61)
    assert not holds(f'count("{VIEW}", every="1h") >= 2', rows)
    assert holds(f'count("{VIEW}", within="1h") >= 2', rows)
    assert holds(f'count("{VIEW}", every="1h") >= 2', Rows()(VIEW, 60)(VIEW, 61)(ASK, 61))


def test_session_window_holds_what_hangs_together() -> None:
    # 0  29  58  87     gaps of 29 minutes: one session
    rows = Rows()(VIEW, 0)(VIEW, 29)(VIEW, 58)(ASK, 87)
    assert holds(f'count("{VIEW}", session="30m") >= 3', rows)
    # 0  29      60     31 minutes of silence: a new session
    rows = Rows()(VIEW, 0)(VIEW, 29)(VIEW, 60.001)(ASK, 61)
    assert not holds(f'count("{VIEW}", session="30m") >= 2', rows)
    assert holds(f'count("{VIEW}", session="32m") >= 3', rows)


def test_late_event_joins_two_sessions() -> None:
    # 0   20   24 ......  a gap of 12 minutes splits; what came at 8 but arrives late bridges it
    apart = Rows()(VIEW, 0)(VIEW, 12)(ASK, 12)
    joined = Rows()(VIEW, 0)(VIEW, 12)(CART, 8)(ASK, 12)
    assert not holds(f'count("{VIEW}", session="10m") >= 2', apart)
    assert holds(f'count("{VIEW}", session="10m") >= 2', joined)


def test_consent_and_mail_that_arrives_are_no_session() -> None:
    rows = Rows()(VIEW, 0)("Email Delivered", 20)(ASK, 40)
    assert not holds(f'exists("{VIEW}", session="30m")', rows)
    assert holds(f'exists("{VIEW}", session="30m")', Rows()(VIEW, 0)("Email Opened", 20)(ASK, 40))


def test_decayed_number_halves() -> None:
    rows = Rows()(VIEW, 0)(VIEW, 0)(ASK, 60)
    assert holds(f'decayed("{VIEW}", half_life="1h") >= 0.99', rows)
    assert not holds(f'decayed("{VIEW}", half_life="1h") >= 1.01', rows)
    assert not holds(f'decayed("{VIEW}", half_life="1h") > 0.001', Rows()(VIEW, 0)(ASK, 60 * 24))


def test_sums_distinct_and_recency_in_a_window() -> None:
    rows = Rows()(ORDER, 0, amount=30)(ORDER, 50, amount=12.5)(ASK, 60)
    assert not holds(f'sum("{ORDER}", of="amount", within="1h") > 12.5', rows)
    assert holds(f'sum("{ORDER}", of="amount", within="61m") == 42.5', rows)
    rows = Rows()(VIEW, 0, product_id="a")(VIEW, 5, product_id="b")(VIEW, 6, product_id="b")(ASK, 10)
    assert holds(f'distinct("{VIEW}", of="product", within="30m") == 2', rows)
    assert not holds(f'distinct("{VIEW}", of="product", within="5m") == 2', rows)
    assert holds(f'recency("{VIEW}") == duration("4m")', rows)


def test_by_product_and_by_category() -> None:
    rows = Rows()(VIEW, 0, product_id="a", category="x")(VIEW, 1, product_id="b", category="x")
    rows(ASK, 2, product_id="b", category="x")
    assert not holds(f'count("{VIEW}", by="product") >= 2', rows)
    assert holds(f'count("{VIEW}", by="category") >= 2', rows)


def test_source_of_an_event() -> None:
    rows = Rows()(VIEW, 0, source="web")(VIEW, 1, source="app")(ASK, 2)
    assert holds(f'count("{VIEW}", source="app") == 1', rows)
    assert not holds(f'exists("{VIEW}", source="till")', rows)


def test_first_last_and_age() -> None:
    rows = Rows()(ORDER, 10, amount=7)(ORDER, 8, amount=5)(ORDER, 30, amount=9)(ASK, 60)
    assert holds(f'first("{ORDER}", of="amount") == 5 and last("{ORDER}", of="amount") == 9', rows)
    assert holds(f'age("{ORDER}") == duration("52m")', rows)


@pytest.mark.parametrize(
    ("zone", "seen_at", "asked_at", "same_day"),
    [
        ("Europe/Berlin", 22 * 60 + 59, 23 * 60 + 1, False),  # midnight there is 23:00 UTC
        ("Europe/Berlin", 23 * 60, 24 * 60 + 10, True),
        ("UTC", 22 * 60 + 59, 23 * 60 + 1, True),
        ("America/New_York", 4 * 60 + 59, 5 * 60, False),
        ("Asia/Kathmandu", 18 * 60 + 14, 18 * 60 + 15, False),  # 5 hours and 45 minutes ahead
    ],
)
def test_local_day(zone: str, seen_at: int, asked_at: int, same_day: bool) -> None:
    rows = Rows()(VIEW, seen_at, timezone=zone)(ASK, asked_at)
    assert holds(f'exists("{VIEW}", calendar="day")', rows) == same_day


def test_local_days_with_23_and_25_hours() -> None:
    # New York goes forward on 8 March (day 6 here): its 8th has 23 hours, 05:00 UTC to 04:00 UTC
    day = 24 * 60
    spring = Rows()(VIEW, 6 * day + 5 * 60, timezone="America/New_York")
    assert holds(f'exists("{VIEW}", calendar="day")', spring(ASK, 7 * day + 4 * 60 - 1))
    spring = Rows()(VIEW, 6 * day + 5 * 60, timezone="America/New_York")
    assert not holds(f'exists("{VIEW}", calendar="day")', spring(ASK, 7 * day + 4 * 60))
    # Lord Howe goes back by half an hour on 5 April: 13:00 UTC of the 4th (day 33) to 13:30 UTC of the 5th
    autumn = Rows()(VIEW, 33 * day + 13 * 60, timezone="Australia/Lord_Howe")
    assert holds(f'exists("{VIEW}", calendar="day")', autumn(ASK, 34 * day + 13 * 60 + 29))
    autumn = Rows()(VIEW, 33 * day + 13 * 60, timezone="Australia/Lord_Howe")
    assert not holds(f'exists("{VIEW}", calendar="day")', autumn(ASK, 34 * day + 13 * 60 + 30))


def test_week_begins_on_monday_and_month_on_the_first() -> None:
    day = 24 * 60
    rows = Rows()(VIEW, 6 * day)(ASK, 7 * day - 1)
    assert holds(f'exists("{VIEW}", calendar="week")', rows)
    rows = Rows()(VIEW, 6 * day)(ASK, 7 * day)
    assert not holds(f'exists("{VIEW}", calendar="week")', rows)
    assert holds(f'exists("{VIEW}", calendar="month")', rows)
    assert not holds(f'exists("{VIEW}", calendar="month")', Rows()(VIEW, 29 * day)(ASK, 30 * day))


def test_the_last_zone_heard_of_holds() -> None:
    rows = Rows()(VIEW, 23 * 60, timezone="UTC")(CART, 23 * 60 + 1, timezone="Europe/Berlin")(
        ASK, 24 * 60 + 5
    )
    assert holds(f'exists("{VIEW}", calendar="day")', rows)
    rows = Rows()(CART, 1, timezone="Europe/Berlin")(VIEW, 23 * 60, timezone="UTC")(ASK, 24 * 60 + 5)
    assert not holds(f'exists("{VIEW}", calendar="day")', rows)


# --- B5: joins ----------------------------------------------------------------------------------------

VIEW_ORDER = """
[[joins]]
id = "bought"
left = "Product Viewed"
right = "Order Completed"
within = "1h"
by = "product"
"""


def credits(join: str, rows: Rows) -> list[tuple[str, float, float]]:
    """(event, minute of the right side, minute of the left side) of every credit."""
    start_ms = int(MIDNIGHT.timestamp()) * 1000
    return [
        (credit.event, (credit.right_ms - start_ms) / MINUTE_MS, (credit.left_ms - start_ms) / MINUTE_MS)
        for credit in run(asking("True", join), rows).credits
    ]


def test_an_order_credits_the_latest_view_of_its_product_once() -> None:
    rows = Rows()(VIEW, 0, product_id="a")(VIEW, 10, product_id="a")(VIEW, 20, product_id="b")
    rows(ORDER, 30, product_id="a")(ORDER, 40, product_id="a")(ORDER, 50, product_id="a")
    assert credits(VIEW_ORDER, rows) == [("e3", 30, 10), ("e4", 40, 0)]


def test_an_order_out_of_time_or_of_another_product_credits_nothing() -> None:
    assert credits(VIEW_ORDER, Rows()(VIEW, 0, product_id="a")(ORDER, 60, product_id="a")) == []
    assert credits(VIEW_ORDER, Rows()(VIEW, 0.001, product_id="a")(ORDER, 60, product_id="a")) != []
    assert credits(VIEW_ORDER, Rows()(VIEW, 0, product_id="a")(ORDER, 5, product_id="b")) == []
    assert credits(VIEW_ORDER, Rows()(VIEW, 0, product_id="a")(ORDER, 5)) == []


def test_lines_of_an_order_match_one_by_one() -> None:
    rows = Rows()(VIEW, 0, product_id="a")(VIEW, 1, product_id="b")
    rows(ORDER, 5, products=[{"product_id": "a"}, {"product_id": "c"}, {"product_id": "b"}])
    assert credits(VIEW_ORDER, rows) == [("e2", 5, 0), ("e2", 5, 1)]


def test_a_late_view_takes_nothing_back() -> None:
    rows = Rows()(ORDER, 5, product_id="a")(VIEW, 3, product_id="a")
    assert credits(VIEW_ORDER, rows) == []
    # but an order that comes late finds the view that was there before it
    assert credits(VIEW_ORDER, Rows()(VIEW, 3, product_id="a")(CART, 6)(ORDER, 5, product_id="a")) != []


def test_an_offer_and_its_redemption() -> None:
    text = policy(
        f"""
[[joins]]
id = "redeemed"
left = 'action("offer")'
right = "{ASK}"
within = "2h"
[[journeys]]
id = "offer"
on = ["{CART}"]
when = 'True'
{SEND}
[[journeys]]
id = "thanks"
on = ["{ASK}"]
when = 'joined("redeemed", within="1m") >= 1'
{SEND}
"""
    )
    assert sent(text, Rows()(CART, 0)(ASK, 119)(ASK, 119.5)) == [(0, 1, ""), (119, 1, ""), (119.5, 1, "")]
    assert sent(text, Rows()(CART, 0)(ASK, 120)) == [(0, 1, "")]
    found = run(text, Rows()(CART, 0)(ASK, 119)(ASK, 119.5)).credits
    assert [credit.event for credit in found] == ["e1"]


def test_price_and_stock_as_of_now() -> None:
    def price(rows: Rows, minutes: float, amount: float) -> Rows:
        return rows("Price Updated", minutes, None, product_id="a", price=amount)  # type: ignore[arg-type]

    cheaper = asking("price.amount < event.price")
    assert sent(cheaper, price(Rows(), 0, 9.99)(ASK, 1, product_id="a", price=12)) != []
    assert sent(cheaper, price(Rows(), 0, 12)(ASK, 1, product_id="a", price=12)) == []
    assert sent(cheaper, price(price(Rows(), 0, 9), 1, 20)(ASK, 2, product_id="a", price=12)) == []
    assert sent(cheaper, price(Rows()(ASK, 0, product_id="a", price=12), 1, 9)) != []  # unknown: 0
    rows = Rows()("Inventory Updated", 0, None, product_id="a", store_id="s", quantity=2)  # type: ignore[arg-type]
    assert holds("stock.quantity == 2", rows(ASK, 1, product_id="a", store_id="s"))
    rows = Rows()("Inventory Updated", 0, None, product_id="a", store_id="s", quantity=2)  # type: ignore[arg-type]
    assert not holds("stock.quantity == 2", rows(ASK, 1, product_id="a", store_id="t"))


def test_a_timer_sees_the_prices_that_had_arrived_at_its_row() -> None:
    # 0    30     32   32    32     the price of minute 29 arrives between the views of minute 32: whose wait ends
    # a..  due    v..  price v..    with a view before it does not see it; tables are those of all shards
    text = policy(
        f"""
[[journeys]]
id = "j"
on = ["{ADD}"]
when = "True"
wait = "30m"
still = "price.amount > event.price"
{SEND}
"""
    )
    rows = Rows()("Price Updated", 0, None, product_id="a", price=9)  # type: ignore[arg-type]
    customers = [f"c{n}" for n in range(8)]
    for customer in customers:
        rows(ADD, 0, customer, product_id="a", price=12)
    for customer in customers[:4]:
        rows(VIEW, 32, customer)
    rows("Price Updated", 29, None, product_id="a", price=20)  # type: ignore[arg-type]
    for customer in customers[4:]:
        rows(VIEW, 32, customer)
    actions = run(text, rows.until(60)).actions
    assert [action.customer[1] for action in actions] == customers[4:]


# --- B6: patterns -------------------------------------------------------------------------------------


def test_sequence() -> None:
    when = f'sequence("{VIEW}", "{ADD}", "{CART}", within="1h")'
    assert holds(when, Rows()(VIEW, 0)(ADD, 10)(CART, 20)(ASK, 30))
    assert not holds(when, Rows()(ADD, 0)(VIEW, 10)(CART, 20)(ASK, 30))
    assert not holds(when, Rows()(VIEW, 0)(ADD, 10)(CART, 20)(ASK, 60))
    assert holds(when, Rows()(ADD, 0)(VIEW, 5)(ADD, 10)(CART, 10)(ASK, 30))


def test_a_sequence_with_the_same_event_twice_needs_two() -> None:
    when = f'sequence("{VIEW}", "{ADD}", "{VIEW}")'
    assert not holds(when, Rows()(VIEW, 0)(ADD, 0)(ASK, 1))
    assert holds(when, Rows()(VIEW, 0)(ADD, 1)(VIEW, 2)(ASK, 3))


def test_not_between() -> None:
    when = f'sequence("{ADD}", "{CART}", without="{ORDER}", within="1d")'
    assert holds(when, Rows()(ADD, 0)(CART, 10)(ORDER, 20)(ASK, 30))
    assert not holds(when, Rows()(ADD, 0)(ORDER, 5)(CART, 10)(ASK, 30))
    assert holds(when, Rows()(ADD, 0)(CART, 1)(ORDER, 5)(CART, 10)(ASK, 30))


def test_any_of_and_repetition() -> None:
    when = f'count(any_of("{VIEW}", "{CART}"), within="30m") >= 3'
    assert holds(when, Rows()(VIEW, 0)(CART, 1)(VIEW, 2)(ASK, 3))
    assert not holds(when, Rows()(VIEW, 0)(CART, 1)(ADD, 2)(ASK, 3))


ABANDONED = policy(
    f"""
[[journeys]]
id = "abandoned"
on = ["{ADD}"]
when = 'True'
wait = "30m"
by = "product"
still = 'absent("{ORDER}", by="product")'
{SEND}
"""
)


def test_absence_after_a_delay() -> None:
    # 0                 30
    # a                 !
    assert sent(ABANDONED, Rows()(ADD, 0, product_id="a").until(60)) == [(30, 1, "a")]
    assert sent(ABANDONED, Rows()(ADD, 0, product_id="a")(ORDER, 29, product_id="a").until(60)) == []
    assert sent(ABANDONED, Rows()(ADD, 0, product_id="a")(ORDER, 29, product_id="b").until(60)) != []


def test_an_order_at_the_very_moment_still_counts() -> None:
    # what is due at 30 fires after all that happened at 30
    assert sent(ABANDONED, Rows()(ADD, 0, product_id="a")(ORDER, 30, product_id="a").until(60)) == []
    assert sent(ABANDONED, Rows()(ADD, 0, product_id="a")(ORDER, 30.001, product_id="a").until(60)) != []


def test_a_late_order_is_waited_for() -> None:
    rows = Rows()(ADD, 0, product_id="a").until(34)(ORDER, 29.5, product_id="a").until(60)
    assert sent(ABANDONED, rows) == []
    rows = Rows()(ADD, 0, product_id="a").until(36)(ORDER, 31, product_id="a").until(60)
    assert sent(ABANDONED, rows) == [(30, 1, "a")]


def test_nothing_is_due_before_the_input_says_so() -> None:
    assert sent(ABANDONED, Rows()(ADD, 0, product_id="a").until(29.999)) == []
    assert sent(ABANDONED, Rows()(ADD, 0, product_id="a").until(30)) == [(30, 1, "a")]


def test_a_wait_armed_by_a_late_event_fires_at_once() -> None:
    text = ABANDONED.replace('"30m"', '"2m"')
    assert sent(text, Rows()(VIEW, 10)(ADD, 7, product_id="a")(ORDER, 11, product_id="a")) == [(10, 1, "a")]
    assert sent(text, Rows()(VIEW, 10)(ADD, 8, product_id="a")(ORDER, 11, product_id="a")) == [(10, 1, "a")]
    assert sent(text, Rows()(VIEW, 10)(ADD, 9, product_id="a")(ORDER, 10, product_id="a")) == []


def test_restart() -> None:
    text = ABANDONED.replace('by = "product"\n', "")
    rows = Rows()(ADD, 0, product_id="a")(ADD, 20, product_id="b").until(60)
    assert sent(text, rows) == [(30, 1, "a")]
    restarted = text.replace("still", "restart = true\nstill")
    assert sent(restarted, rows) == [(50, 1, "b")]
    late = Rows()(ADD, 20, product_id="b")(ADD, 16, product_id="a").until(60)
    assert sent(restarted, late) == [(50, 1, "b")]


STEPS = ABANDONED.replace('"30m"', '["30m", "24h", "72h"]')


def test_steps() -> None:
    day = 24 * 60
    rows = Rows()(ADD, 0, product_id="a").until(5 * day)
    assert sent(STEPS, rows) == [(30, 1, "a"), (day, 2, "a"), (3 * day, 3, "a")]
    rows = Rows()(ADD, 0, product_id="a")(ORDER, 100, product_id="a").until(5 * day)
    assert sent(STEPS, rows) == [(30, 1, "a")]
    only = STEPS.replace('channel = "web"', 'channel = "web"\nsteps = [2]')
    assert sent(only, Rows()(ADD, 0, product_id="a").until(5 * day)) == [(day, 2, "a")]


def test_every_line_waits_by_itself() -> None:
    lines = [{"product_id": "a"}, {}, {"product_id": "b"}, {"product_id": "a"}]
    text = ABANDONED.replace(f'on = ["{ADD}"]', f'on = ["{ORDER}"]').replace(
        f'absent("{ORDER}"', f'absent("{VIEW}"'
    )
    found = sent(text, Rows()(ORDER, 0, products=lines)(VIEW, 1, product_id="b").until(60))
    assert found == [(30, 1, "a")]
    assert len(sent(text, Rows()(ORDER, 0, products=lines).until(60))) == 2


def test_waits_follow_who_somebody_turns_out_to_be() -> None:
    rows = Rows()(ADD, 0, None, anonymousId="x", product_id="a")  # type: ignore[arg-type]
    rows("identify", 10, anonymousId="x").until(60)
    found = run(ABANDONED, rows).actions
    assert [(action.customer, action.trigger) for action in found] == [(("user", "anna"), "e0")]
    rows = Rows()(ADD, 0, None, anonymousId="x", product_id="a")  # type: ignore[arg-type]
    rows("identify", 10, anonymousId="x")(ORDER, 20, product_id="a").until(60)
    assert run(ABANDONED, rows).actions == []
    rows = Rows()(ADD, 0, None, anonymousId="x", product_id="a")  # type: ignore[arg-type]
    rows("identify", 36, anonymousId="x").until(60)
    assert [action.customer for action in run(ABANDONED, rows).actions] == [("anonymous", "x")]


def test_retention_drops_waits() -> None:
    text = ABANDONED.replace('"30m"', '"3d"')
    rows = Rows()(ADD, 0, product_id="a").until(5 * 24 * 60)
    assert sent(text, rows, retention_ms=2 * DAY_MS) == []
    assert sent(text, rows, retention_ms=3 * DAY_MS) == [(3 * 24 * 60, 1, "a")]


def test_nothing_comes_due_in_quarantine() -> None:
    rows = Rows()(ADD, 0, product_id="a")
    for second in range(3):
        rows(VIEW, 25 + second / 60)
    assert sent(ABANDONED, rows.until(200), rate_events_per_minute_max=2, quarantine_ms=HOUR_MS) == []
    assert sent(ABANDONED, rows, rate_events_per_minute_max=3, quarantine_ms=HOUR_MS) == [(30, 1, "a")]


# --- ends of sessions ---------------------------------------------------------------------------------

SESSION = policy(
    f"""
[[journeys]]
id = "recap"
session = "30m"
when = 'count("{VIEW}", session="30m") >= 2'
{SEND}items = {{ recent = "{VIEW}", session = "30m", up_to = 2 }}
"""
)


def test_the_end_of_a_session() -> None:
    rows = Rows()(VIEW, 0, product_id="a")(VIEW, 20, product_id="b")(VIEW, 25, product_id="a").until(60)
    assert sent(SESSION, rows) == [(55, 1, "")]
    assert [action.items for action in run(SESSION, rows).actions] == [("a", "b")]
    assert sent(SESSION, Rows()(VIEW, 0).until(60)) == []
    assert sent(SESSION, Rows()(VIEW, 0)(VIEW, 20).until(49.9)) == []


def test_a_session_goes_on() -> None:
    rows = Rows()(VIEW, 0)(VIEW, 20)(VIEW, 50)(VIEW, 81)(VIEW, 82).until(200)
    assert sent(SESSION, rows) == [(80, 1, ""), (112, 1, "")]


# --- segments and stages ------------------------------------------------------------------------------


def segment(when: str) -> str:
    """A segment, and journeys on entering and leaving it."""
    return policy(
        f"""
[[segments]]
id = "s"
when = '''{when}'''
[[journeys]]
id = "hello"
on = ['entered("s")']
when = 'segment("s")'
{SEND}
[[journeys]]
id = "goodbye"
on = ['left("s")']
when = 'not segment("s")'
{SEND}
"""
    )


def test_a_segment_is_entered_by_an_event_and_left_by_time() -> None:
    text = segment(f'count("{VIEW}", within="30m") >= 2')
    rows = Rows()(VIEW, 0)(VIEW, 10).until(60)
    assert changes(text, rows) == [(10, "s", "entered"), (30, "s", "left")]
    assert sent(text, rows) == [(10, 1, ""), (30, 1, "")]
    found = run(text, rows).changes
    assert [change.event for change in found] == ["e1", ""]
    assert changes(text, Rows()(VIEW, 0)(VIEW, 30).until(60)) == []


def test_silence_enters_a_segment() -> None:
    text = segment(f'recency("{VIEW}") > duration("1h") and exists("{VIEW}")')
    rows = Rows()(VIEW, 0)(VIEW, 40)(VIEW, 200).until(210)
    assert changes(text, rows) == [(100 + 1 / MINUTE_MS, "s", "entered"), (200, "s", "left")]
    assert changes(text, Rows()(VIEW, 0)(VIEW, 40)(VIEW, 100).until(100)) == []


def test_a_local_day_ends() -> None:
    text = segment(f'exists("{VIEW}", calendar="day")')
    rows = Rows()(VIEW, 600, timezone="Europe/Berlin").until(3 * 24 * 60)
    assert changes(text, rows) == [(600, "s", "entered"), (23 * 60, "s", "left")]


def test_a_session_ends_for_a_segment() -> None:
    text = segment(f'exists("{VIEW}", session="30m")')
    rows = Rows()(VIEW, 0)(CART, 20).until(60)
    assert changes(text, rows) == [(0, "s", "entered"), (50 + 1 / MINUTE_MS, "s", "left")]


def test_an_aligned_window_ends() -> None:
    text = segment(f'count("{VIEW}", every="1h") >= 2')
    assert changes(text, Rows()(VIEW, 50)(VIEW, 55).until(100)) == [(55, "s", "entered"), (60, "s", "left")]
    assert changes(text, Rows()(VIEW, 50)(VIEW, 61).until(200)) == []


DAY = 24 * 60  # minutes


def two_segments(first: str, second: str) -> str:
    """All segments are looked at whenever one of them may change by time alone."""
    return policy(
        f"[[segments]]\nid = \"f\"\nwhen = '''{first}'''\n[[segments]]\nid = \"s\"\nwhen = '''{second}'''"
    )


STEADY = f'decayed("{ASK}", half_life="8m") >= 0.9'  # no longer after 75 seconds; looked at once a day


def test_an_aligned_window_that_took_nothing_in_does_not_end() -> None:
    first = f'sum("{VIEW}", of="amount", every="1h") > 5'
    rows = Rows()(ASK, 50)(VIEW, 51, amount=1).until(DAY + 1)
    assert changes(two_segments(first, STEADY), rows) == [(50, "s", "entered"), (60, "s", "left")]
    rows = Rows()(ASK, 50)(VIEW, 51).until(DAY + 1)
    assert changes(two_segments(first, STEADY), rows) == [(50, "s", "entered"), (DAY, "s", "left")]
    first = f'distinct("{VIEW}", of="category", every="1h") > 5'
    assert changes(two_segments(first, STEADY), rows) == [(50, "s", "entered"), (DAY, "s", "left")]


def test_what_came_too_late_for_its_window_has_no_age() -> None:
    first = f'recency("{VIEW}", within="1m") > duration("30m")'
    rows = Rows()(ASK, 50)(CART, 51)(VIEW, 50.5).until(DAY + 1)
    assert (51.5, "s", "left") in changes(two_segments(first, STEADY), rows)
    rows = Rows()(ASK, 50)(CART, 51)(VIEW, 49).until(DAY + 1)
    assert (DAY, "s", "left") in changes(two_segments(first, STEADY), rows)


def test_of_the_last_step_of_a_sequence_only_the_newest_leaves() -> None:
    rows = Rows()(CART, 0)(CART, 10)(ASK, 58).until(DAY)
    text = two_segments(f'sequence("{VIEW}", "{CART}", within="1h")', STEADY)
    assert changes(text, rows)[-1] == (70, "s", "left")


def test_an_idle_visitor_brings_nothing_to_look_at() -> None:
    rows = Rows()(VIEW, 0, None, anonymousId="x")(ASK, 3 * DAY + 10)  # type: ignore[arg-type]
    rows("identify", 3 * DAY + 12, anonymousId="x").until(4 * DAY + 10)
    text = two_segments(f'count("{VIEW}") >= 2', STEADY)
    assert changes(text, rows, retention_ms=2 * DAY_MS)[-1] == (4 * DAY, "s", "left")
    assert changes(text, rows, retention_ms=4 * DAY_MS)[-1] == (3 * DAY + 12, "s", "left")


def test_a_consent_later_than_the_lateness_counts_as_of_the_watermark() -> None:
    # it may not see whether the sweep has been here
    text = policy(f'[[journeys]]\nid = "j"\non = ["Consent Changed"]\nwhen = "True"\n{SEND}')
    given = {"channel": "email", "granted": True, "id": "c"}
    for days, expected in ((5, [(1, 1, ""), (5 * DAY - 5, 1, "")]), (0.5, [(1, 1, "")])):
        rows = Rows()(VIEW, 0)("Consent Changed", 1, **given).until(days * DAY)
        assert sent(text, rows("Consent Changed", 1, **given), retention_ms=2 * DAY_MS) == expected


STAGES = policy(
    f"""
[[stages]]
id = "new"
[[stages]]
id = "shopper"
when = 'exists("{ORDER}")'
[[stages]]
id = "lapsed"
from = ["shopper"]
when = 'recency("{ORDER}") >= duration("1h")'
[[stages]]
id = "back"
from = ["lapsed"]
when = 'exists("{ORDER}", within="1h")'
[[journeys]]
id = "miss-you"
on = ['stage("lapsed")']
when = 'stage("lapsed")'
{SEND}
"""
)


def test_stages() -> None:
    rows = Rows()(VIEW, 0)(ORDER, 10)(ORDER, 30)(VIEW, 50).until(100)
    assert changes(STAGES, rows) == [(10, "shopper", "stage"), (90, "lapsed", "stage")]
    assert [action.stage for action in run(STAGES, rows).actions] == ["lapsed"]
    rows(ORDER, 120).until(130)
    assert changes(STAGES, rows)[2:] == [(120, "back", "stage")]
    assert changes(STAGES, Rows()(VIEW, 0).until(500)) == []


def test_whoever_is_known_brings_segments_along() -> None:
    text = segment(f'count("{VIEW}", within="1h") >= 2')
    rows = Rows()(VIEW, 0, None, anonymousId="x")(VIEW, 5)("identify", 10, anonymousId="x").until(20)  # type: ignore[arg-type]
    assert changes(text, rows) == [(10, "s", "entered")]


def test_forgetting_says_nothing() -> None:
    text = segment(f'exists("{VIEW}", within="30d")')
    rows = Rows()(VIEW, 0).until(60 * 24 * 60)
    assert changes(text, rows, retention_ms=2 * DAY_MS) == [(0, "s", "entered")]
    assert changes(text, rows, retention_ms=40 * DAY_MS)[1:] == [(30 * 24 * 60, "s", "left")]
