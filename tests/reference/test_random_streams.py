"""The generators keep their promises, and what holds of every run of the reference holds of random ones."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.reference import random_events, random_policies, strategies
from tests.reference.choice import Seeded
from tests.reference.compare import difference, expected_actions, expected_decisions
from tests.reference.consent import run_watched
from tests.reference.decoding import DecodeSettings, decode, looking_into
from tests.reference.engine import NOT_APPLICABLE, NOT_SUITABLE, SUPPRESSED, WON, Reference, Settings
from tests.reference.policies import read_policies, scope_of

DECODING = DecodeSettings(arrival_ms=random_events.ARRIVAL_MS)
QUICK = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def run(texts: list[str], payloads: list[bytes], chosen: Settings) -> Reference:
    reference = Reference(read_policies(texts, chosen.secret), chosen, verify=True)
    decoded = decode(payloads, looking_into(DECODING, reference.policies.fields))
    run_watched(reference, decoded.events, decoded.clock_ms)
    return reference


@QUICK
@given(strategies.policies(), strategies.streams(), strategies.settings())
def test_a_decision_has_one_winner_or_none(texts: list[str], payloads: list[bytes], chosen: Settings) -> None:
    reference = run(texts, payloads, chosen)
    for decision in reference.decisions:
        won = [candidate for candidate in decision.candidates if candidate.reason == WON]
        assert won == ([] if decision.winner is None else [decision.winner])
    slots = Counter((d.customer, d.message, d.now_ms, d.slot) for d in reference.decisions)
    assert set(slots.values()) <= {1}
    assert len(reference.actions) == sum(d.winner is not None for d in reference.decisions)


@QUICK
@given(strategies.streams(), st.data())
def test_borders_cut_all_rows(payloads: list[bytes], data: st.DataObject) -> None:
    rows = sum(payload.count(b"\n") + 1 for payload in payloads)
    sizes = data.draw(strategies.borders(rows))
    assert sum(sizes) == rows
    assert min(sizes) > 0


@pytest.mark.parametrize("seed", range(20))
def test_random_policies_load(seed: int, tmp_path: Path) -> None:
    from segue.policy.load import load_policies

    texts = random_policies.policies(Seeded(seed))
    for n, text in enumerate(texts):
        (tmp_path / f"{n}.toml").write_text(text)
    secret = Settings().secret
    compiled = load_policies([tmp_path], secret=secret, native=False)
    assert [info.id for info in compiled.journey_infos] == [
        j.id for j in read_policies(texts, secret).journeys
    ]


def test_random_streams_reach_every_rule() -> None:
    """Streams of some length have late and dead lines, duplicates, merges, timers, changes, credits and refusals."""
    found: Counter[str] = Counter()
    reasons: Counter[int] = Counter()
    for seed in range(12):
        choice = Seeded(seed)
        world = replace(random_events.world(choice), anonymous=3, partitions=2)
        decoded = decode(random_events.stream(choice, world, 400), DECODING)
        texts = [text for n in range(4) for text in _named(seed, n)]
        reference = Reference(read_policies(texts, Settings().secret), Settings(), verify=True)
        run_watched(reference, decoded.events, decoded.clock_ms)
        found += reference.counters
        found["dead"] += len(decoded.dead)
        found["late"] += len(decoded.late)
        found["actions"] += len(reference.actions)
        found["credits"] += len(reference.credits)
        found["by waits"] += sum(action.step > 1 for action in reference.actions)
        found["without an event"] += sum(not decision.trigger for decision in reference.decisions)
        found["items"] += sum(bool(action.items) for action in reference.actions)
        found.update(f"{change.change} {bool(change.event)}" for change in reference.changes)
        found.update(event.timezone for event in decoded.events)
        reasons.update(c.reason for d in reference.decisions for c in d.candidates)
    names = (
        *("dead", "late", "duplicates", "customers_merged", "actions", "credits", "by waits", "items"),
        *(
            "erasures",
            "erased_events",
            "without an event",
            "timers_fired",
            "waits_armed",
            "entered True",
            "left True",
            "stage True",
        ),
        *("entered False", "left False", "Europe/Berlin", "America/New_York"),
    )
    assert [name for name in names if not found[name]] == []
    assert len(reasons) >= 8
    assert reasons[SUPPRESSED]
    assert reasons[NOT_APPLICABLE]
    assert reasons[NOT_SUITABLE]


def _named(seed: int, n: int) -> list[str]:
    return [random_policies.policy(Seeded(100 * seed + n), f"policy-{n}", stages=n == 0)]


def test_a_difference_is_told() -> None:
    choice = Seeded(1)
    payloads = random_events.stream(choice, random_events.world(choice), 200)
    reference = run(_named(3, 0) + _named(4, 1), payloads, Settings())
    for rows in (expected_actions(reference), expected_decisions(reference, numbers=True)):
        assert rows
        assert difference(rows, rows) == ""
        less = Counter(dict(list(rows.items())[1:]))
        assert difference(less, rows).startswith("missing: 1")


@pytest.mark.parametrize("seed", range(30))
def test_random_expressions_compile(seed: int) -> None:
    from segue.policy.expression import compile_condition, compile_number

    scope = scope_of("EUR", Settings().secret)
    choice = Seeded(seed)
    for _ in range(20):
        compile_condition(random_policies.condition(choice, 3), scope)
        compile_number(random_policies.number(choice, 3), scope)
