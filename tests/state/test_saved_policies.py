"""State under changed policies: a policy that stays decides as if it had always been alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from segue.decide.engine import ShardEngine
from segue.events.names import CODE_BY_NAME
from segue.limits import DAY_MS, HOUR_MS
from segue.policy.compiled import CompiledPolicies
from segue.reference.world import ReferenceWorld, merge_worlds
from segue.state.delta import ShardDelta, merge_deltas
from segue.state.shard import EngineSettings
from segue_kernels.shard import HELD, NO_CONSENT, SUPPRESSED, WON
from tests.kernels.drivers import START_MS, engine_settings, records_of, released
from tests.reference import random_events, random_policies, strategies
from tests.reference.choice import Choice, Drawn, Seeded
from tests.reference.engine import Settings
from tests.reference.pipeline import Outcome, Parts, run_segue
from tests.reference.test_segue_agrees import compiled, decoder, world_of
from tests.state.saving import Journal
from tests.state.test_saved_law import told

QUICK = settings(
    max_examples=15,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
ELSEWHERE = "elsewhere"  # placement of all that comes and goes
NOT_ITS_OWN = (
    "journeys",
    "reasons",
    "propensities",
    "contexts",
    "scores",
)  # of a logged decision: numbers among all policies


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Random policies leave no object files behind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGUE_CACHE_DIR", str(tmp_path_factory.mktemp("objects")))
        yield


def passing(choice: Choice, name: str) -> str:
    """A policy that leaves others alone: it decides on events only, beside them and in slots of its own."""
    written = [f'policy = "{name}"', "version = 1", 'title = "Random"', 'currency = "EUR"']
    for number in range(choice.integer(1, 3)):
        lines = random_policies._journey(choice, f"{name}-{number}", random_policies.Reach(), timers=False)
        for line in lines:
            if line.startswith(("placement", "alongside")):
                continue
            written.append(line)
            if line.startswith("channel"):
                written.append(f'placement = "{ELSEWHERE}"')
            if line.startswith("id") and lines.index(line) == 1:
                written.append("alongside = true")
    return "\n".join(written) + "\n"


def own(outcome: Outcome) -> dict[str, list[bytes]]:
    """What the policy that stays has said."""
    decisions: list[dict[str, Any]] = [row for row in outcome.decisions if row["placement"] != ELSEWHERE]
    return {
        "actions": told([row for row in outcome.actions if ELSEWHERE not in str(row)]),
        "decisions": told(
            [{name: of for name, of in row.items() if name not in NOT_ITS_OWN} for row in decisions]
        ),
        "changes": told(outcome.changes),
        "joins": told(outcome.joins),
    }


def check(choice: Choice, payloads: list[bytes], chosen: Settings, seed: int, stays: str) -> None:
    # joins with whatever was sent by anybody are not its own, nor are caps
    stays = re.sub(r"left = 'action'", "left = 'Product Viewed'", stays)
    stays = re.sub(r"\[\[caps\]\]\n(?:(?!\[\[).*\n)+", "", stays)
    one, two = passing(choice, "policy-b"), passing(choice, "policy-c")
    sets = [[stays, one], [stays, two], [stays], [two, stays, one]]
    engine = EngineSettings(
        secret=chosen.secret,
        shards=2,
        retention_ms=chosen.retention_ms,
        rate_per_minute_max=chosen.rate_events_per_minute_max,
        quarantine_ms=chosen.quarantine_ms,
        customers_per_shard_max=1 << 12,
        pool_words_per_shard_max=1 << 22,
        sample_share=0.0,
    )
    all_of = [compiled(texts, chosen.secret, native=False) for texts in sets]

    fields = tuple(dict.fromkeys(field for policies in all_of for field in policies.lookup_fields))

    def world_for(policies: CompiledPolicies) -> ReferenceWorld:
        world = world_of(policies, chosen.secret)
        world.keep_updates()
        return world

    def run(first: CompiledPolicies, changing: bool) -> Outcome:
        choices, turn = Seeded(seed), 0
        journal = Journal(lambda: world_for(first), first, engine, len(payloads))

        def change(parts: Parts) -> Parts:
            nonlocal turn, journal
            if not changing or not choices.chance(40):
                return parts
            journal.save(parts)
            if not choices.chance(50):
                return parts
            turn += 1
            policies = all_of[turn % len(all_of)]
            others = Journal(lambda: world_for(policies), policies, engine, len(payloads))
            again = others.new_parts()
            assert again.world is not None
            others.worlds = [merge_worlds(journal.worlds)]
            again.world.restore(others.worlds[0])
            for one, arrivals in again.known:
                one.restore(merge_deltas(journal.deltas[one.part]))
                arrivals.restore(journal.arrivals[one.part], one.state.carry_history)
            for shard in again.anonymous:
                shard.restore(merge_deltas(journal.deltas[shard.engine.part]))
            # the old deltas stay: what is saved next is all there is
            others.deltas = journal.deltas
            journal = others
            return again

        return run_segue(
            payloads,
            first,
            decoder(chosen.secret, fields=fields),
            engine,
            Seeded(seed),
            world=world_for(first),
            after_batch=change,
        )

    expected, got = own(run(all_of[2], changing=False)), own(run(all_of[0], changing=True))
    for name, rows in expected.items():
        assert got[name] == rows, name


@QUICK
@given(st.data(), strategies.streams(), st.integers(0, 1 << 30))
def test_short_streams(data: st.DataObject, payloads: list[bytes], seed: int) -> None:
    choice = Drawn(data.draw)
    check(choice, payloads, Settings(), seed, random_policies.policy(choice, "policy-a"))


@pytest.mark.parametrize("seed", range(8))
def test_long_streams(seed: int) -> None:
    choice = Seeded(seed)
    stays = random_policies.policy(choice, "policy-a")
    payloads = random_events.stream(choice, random_events.world(choice), 500)
    check(choice, payloads, Settings(retention_ms=400 * DAY_MS), seed, stays)


ASKS = """
policy = "asks"
version = 1
[[journeys]]
id = "asks"
on = ["Cart Viewed"]
when = 'True'
[[journeys.offers]]
id = "mail"
channel = "email"
"""
SILENCE = """
[[purposes]]
id = "marketing"
unknown = "granted"
"""


def test_what_counts_where_nothing_is_known_is_not_saved() -> None:
    """Another declaration holds from its first decision on, for what was and was not said before."""
    saved: list[ShardDelta] = []
    found = []
    for turn, text in enumerate((ASKS, ASKS + SILENCE, ASKS)):
        engine = ShardEngine(compiled([text], Settings().secret, False), engine_settings())
        if saved:
            assert engine.restore(merge_deltas(saved)) == []
        said = {"customer": 1, "type": CODE_BY_NAME["Email Bounced"]}
        asked = [{"customer": customer, "type": CODE_BY_NAME["Cart Viewed"]} for customer in (0, 1)]
        events = [said, *asked] if turn == 0 else asked
        given = [
            {**event, "time": START_MS + turn, "message": 10 * turn + n} for n, event in enumerate(events, 1)
        ]
        parts = engine.process(released(*records_of(given)))
        found.append([int(reason) for part in parts for reason in part.reasons])
        saved.append(engine.save())
    assert found == [[NO_CONSENT, SUPPRESSED], [WON, SUPPRESSED], [NO_CONSENT, SUPPRESSED]]


NIGHT = """
[[quiet_hours]]
id = "night"
from = "21:00"
to = "08:00"
then = "hold"
"""
OTHER = """
policy = "another"
version = 1
[[journeys]]
id = "another"
on = ["Coupon Entered"]
when = 'True'
[[journeys.offers]]
id = "text"
channel = "sms"
"""
GONE = ASKS.replace('id = "mail"', 'id = "other"')


@pytest.mark.parametrize(
    ("texts", "kept", "found", "gone"),
    [
        ([OTHER, ASKS + SILENCE + NIGHT], 1, [WON], 0),  # its journey has another number
        ([ASKS + SILENCE], 0, [], 0),  # nothing of its journey is held any more: called off
        ([ASKS + SILENCE + NIGHT.replace("08:00", "09:00")], 1, [], 0),  # quiet for longer: held until then
        ([GONE + SILENCE + NIGHT], 1, [], 1),  # no such offer any more
    ],
)
def test_what_is_held_under_changed_policies(
    texts: list[str], kept: int, found: list[int], gone: int
) -> None:
    secret = Settings().secret
    evening_ms = START_MS - START_MS % DAY_MS + 22 * HOUR_MS
    engine = ShardEngine(compiled([ASKS + SILENCE + NIGHT], secret, False), engine_settings())
    asked = [{"type": CODE_BY_NAME["Cart Viewed"], "time": evening_ms, "message": 1}]
    (held,) = engine.process(released(*records_of(asked)))
    assert held.reasons.tolist() == [HELD]
    saved = engine.save()
    engine = ShardEngine(compiled(texts, secret, False), engine_settings())
    engine.restore(saved)
    assert engine.state.counters()["waits_now"] == kept
    parts, done = engine.advance(evening_ms + 10 * HOUR_MS + 1)
    assert done
    assert [int(reason) for part in parts for reason in part.reasons] == found
    assert engine.state.counters()["held_gone"] == gone
    waits = 0 if found or gone else kept
    assert engine.state.counters()["waits_now"] == waits
    parts, _ = engine.advance(evening_ms + 11 * HOUR_MS + 1)
    assert sum(len(part.actions) for part in parts) == waits
