"""A run that is cut anywhere, saved, restored and continued decides what the undisturbed one does, to the bit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from segue.limits import DAY_MS
from segue.policy.compiled import CompiledPolicies
from segue.reference.world import ReferenceWorld
from segue.state.delta import merge_deltas
from segue.state.shard import EngineSettings
from tests.reference import random_events, random_policies, strategies
from tests.reference.choice import Choice, Seeded
from tests.reference.engine import Settings
from tests.reference.pipeline import Outcome, Parts, run_segue
from tests.reference.test_segue_agrees import compiled, decoder, world_of
from tests.state.saving import Journal, said, whole

QUICK = settings(
    max_examples=20,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
# what an index that grew, or entries that were dropped before they were asked for, may change
# how the state lies in memory, and so when the sweep may take a row that nobody would miss
# of who was erased the profile is wiped when it is saved: his timers that are due and have not fired find nothing then
UNLIKE = ("keys_spilled", "keys_loaded", "spilled_now", "timers_now", "customers_evicted", "unknown_keys")


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Random policies leave no object files behind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGUE_CACHE_DIR", str(tmp_path_factory.mktemp("objects")))
        yield


def told(rows: Sequence[dict[str, Any]]) -> list[bytes]:
    """Rows in an order of their own: that of customers whose timers are due at once is not the law's."""
    return sorted(msgspec.json.encode(one, order="deterministic") for one in rows)


def outcome_of(outcome: Outcome) -> dict[str, Any]:
    return {
        "actions": told(outcome.actions),
        "decisions": told(outcome.decisions),
        "changes": told(outcome.changes),
        "joins": told(outcome.joins),
        "counters": {name: n for name, n in outcome.counters.items() if name not in UNLIKE},
    }


def check(texts: Sequence[str], payloads: Sequence[bytes], chosen: Settings, seed: int, percent: int) -> int:
    """Run it undisturbed and cut after so many of a hundred batches; how often it was cut."""
    policies: CompiledPolicies = compiled(texts, chosen.secret, native=False)
    engine = EngineSettings(
        secret=chosen.secret,
        shards=Seeded(seed).pick((1, 2, 3)),
        retention_ms=chosen.retention_ms,
        rate_per_minute_max=chosen.rate_events_per_minute_max,
        quarantine_ms=chosen.quarantine_ms,
        sample_share=1.0,
        customers_per_shard_max=1 << 12,
        pool_words_per_shard_max=1 << 22,
    )

    def make_world() -> ReferenceWorld:
        world = world_of(policies, chosen.secret)
        world.keep_updates()
        return world

    whole_run = run_segue(
        payloads,
        policies,
        decoder(chosen.secret, fields=policies.lookup_fields),
        engine,
        Seeded(seed),
        world=make_world(),
    )
    journal = Journal(make_world, policies, engine, len(payloads))
    cuts: Choice = Seeded(seed + 1)
    count = 0

    def cut(parts: Parts) -> Parts:
        nonlocal count
        if count > 0 and not cuts.chance(percent):
            return parts
        count += 1
        journal.save(parts)
        if cuts.chance(50):
            return parts
        again = journal.restored()
        if cuts.chance(30):
            check_deltas(journal, parts)
        return again

    cut_run = run_segue(
        payloads,
        policies,
        decoder(chosen.secret, fields=policies.lookup_fields),
        engine,
        Seeded(seed),
        world=make_world(),
        after_batch=cut,
    )
    expected, got = outcome_of(whole_run), outcome_of(cut_run)
    for name, rows in expected.items():
        assert got[name] == rows, name
    return count


def check_deltas(journal: Journal, parts: Parts) -> None:
    """The deltas merged say what a delta of all rows does."""
    engines = [engine for engine, _ in parts.known] + [shard.engine for shard in parts.anonymous]
    again = journal.new_parts()
    fresh = [engine for engine, _ in again.known] + [shard.engine for shard in again.anonymous]
    other = journal.new_parts()
    others = [engine for engine, _ in other.known] + [shard.engine for shard in other.anonymous]
    for engine, one, two in zip(engines, fresh, others, strict=True):
        assert engine.state.take_dirty().tolist() == []
        one.state.restore(merge_deltas(journal.deltas[engine.part]))
        two.state.restore(replace(whole(engine.state), rest=journal.deltas[engine.part][-1].rest))
        assert said(whole(one.state)) == said(whole(two.state))


@QUICK
@given(strategies.policies(), strategies.streams(), strategies.settings(), st.integers(0, 1 << 30))
def test_short_streams(texts: list[str], payloads: list[bytes], chosen: Settings, seed: int) -> None:
    check(texts, payloads, chosen, seed, 40)


# 5: a journey that asks for the profile of who was erased, which is wiped when it is saved
@pytest.mark.parametrize("seed", [*range(5), *range(6, 13)])
def test_long_streams(seed: int) -> None:
    choice = Seeded(seed)
    texts = [random_policies.policy(choice, f"policy-{n}", stages=n == 0, caps=False) for n in range(3)]
    make = (random_events.world, random_events.crowd, random_events.bazaar)[seed % 3]
    payloads = random_events.stream(choice, make(choice), 800)
    chosen = Settings(
        rate_events_per_minute_max=choice.pick((12, 1_000)), retention_ms=choice.pick((2, 400)) * DAY_MS
    )
    assert check(texts, payloads, chosen, seed, 40) > 0
