"""Segue against the reference: the same to the bit, however the input is cut, interleaved and sharded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from segue import limits
from segue.events.batch import Origin, string_of
from segue.events.decode import Decoder
from segue.events.names import CODE_BY_NAME
from segue.limits import DAY_MS, LATENESS_MS_DEFAULT
from segue.policy.compiled import CompiledPolicies
from segue.policy.load import load_policies
from segue.reference.world import ReferenceWorld
from segue.state.shard import EngineSettings
from segue_kernels import record
from tests.reference import random_events, random_policies, strategies
from tests.reference.choice import Choice, Seeded
from tests.reference.compare import (
    action_rows,
    change_rows,
    credit_rows,
    decision_rows,
    difference,
    expected_actions,
    expected_changes,
    expected_credits,
    expected_decisions,
    expected_withdrawn,
    withdrawn_rows,
)
from tests.reference.consent import run_watched
from tests.reference.decoding import DecodeSettings, decode, looking_into
from tests.reference.engine import EXPIRED, HELD, Reference, Settings
from tests.reference.event import Event
from tests.reference.hashing import KINDS, customer_hash, field_hash, message_hash, signed
from tests.reference.history import currency_code
from tests.reference.pipeline import run_segue
from tests.reference.policies import read_policies
from tests.reference.quiet import HOLDING
from tests.reference.tables import ALONG_THE_WAY
from tests.reference.taking_back import TAKING_BACK

DECODING = DecodeSettings(arrival_ms=random_events.ARRIVAL_MS)
BOUNDS = ("session_bound_met", "waits_refused", "held_refused")
COUNTED = (
    *("events", "duplicates", "quarantined_events", "quarantines", "customers_merged"),
    *("waits_armed", "timers_fired", "erasures", "erased_events", "held", "held_replaced", "held_expired"),
    *("held_reached", "withdrawn", "outstanding_dropped"),
)
QUICK = settings(
    max_examples=40,
    deadline=None,
    # shrinking a stream event by event takes minutes: the first failure is short enough to read
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(autouse=True, scope="module")
def no_version_is_given_up() -> Iterator[None]:
    """What lies beyond the bound is not the law's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "TABLE_VERSIONS_MAX", 1 << 20)
        yield


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Random policies leave no object files behind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGUE_CACHE_DIR", str(tmp_path_factory.mktemp("objects")))
        yield


def decoder(secret: bytes, scanner: bool = True, fields: tuple[tuple[str, str, str], ...] = ()) -> Decoder:
    return Decoder(secret, "EUR", DECODING.arrival_ms, LATENESS_MS_DEFAULT, fields, scanner=scanner)


def world_of(policies: CompiledPolicies, secret: bytes) -> ReferenceWorld:
    """A world whose tables come along the way."""
    return ReferenceWorld("UTC", policies.lookups, policies.lookup_fields, ALONG_THE_WAY, secret)


def compiled(texts: Sequence[str], secret: bytes, native: bool) -> CompiledPolicies:
    with TemporaryDirectory() as folder:
        for n, text in enumerate(texts):
            Path(folder, f"{n}.toml").write_text(text)
        return load_policies([folder], secret=secret, native=native)


def check(
    texts: Sequence[str], payloads: Sequence[bytes], chosen: Settings, choice: Choice, native: bool
) -> Reference:
    """Run both and compare all that must agree."""
    policies = compiled(texts, chosen.secret, native)
    reference = Reference(read_policies(texts, chosen.secret), chosen, verify=True)
    decoded = decode(payloads, looking_into(DECODING, reference.policies.fields))
    run_watched(reference, decoded.events, decoded.clock_ms)
    engine = EngineSettings(
        secret=chosen.secret,
        shards=choice.pick((1, 2, 5)),
        retention_ms=chosen.retention_ms,
        rate_per_minute_max=chosen.rate_events_per_minute_max,
        quarantine_ms=chosen.quarantine_ms,
        sample_share=1.0,
        customers_per_shard_max=1 << 12,
        pool_words_per_shard_max=1 << 22,
    )
    world = world_of(policies, chosen.secret)
    reader = decoder(chosen.secret, fields=policies.lookup_fields)
    outcome = run_segue(payloads, policies, reader, engine, choice, world=world)
    assert len(outcome.dead) == len(decoded.dead)
    assert len(outcome.late) == len(decoded.late)
    assert outcome.about_nobody == reference.counters["reference_events"]
    if any(outcome.counters[name] for name in BOUNDS):
        return reference  # what lies beyond a bound that was met is not the law's
    assert difference(change_rows(outcome.changes), expected_changes(reference)) == ""
    assert difference(credit_rows(outcome.joins), expected_credits(reference)) == ""
    decisions = decision_rows(outcome.decisions, reference.journeys, numbers=True)
    assert difference(decisions, expected_decisions(reference, numbers=True)) == ""
    assert difference(action_rows(outcome.actions), expected_actions(reference)) == ""
    assert difference(withdrawn_rows(outcome.withdrawn), expected_withdrawn(reference)) == ""
    for name in COUNTED:
        assert outcome.counters[name] == reference.counters[name], name
    return reference


@QUICK
@given(
    strategies.policies(), strategies.streams(), strategies.settings(), st.integers(0, 1 << 30), st.booleans()
)
def test_short_streams(
    texts: list[str], payloads: list[bytes], chosen: Settings, seed: int, native: bool
) -> None:
    check(texts, payloads, chosen, Seeded(seed), native)


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_long_streams(seed: int, native: bool) -> None:
    choice = Seeded(seed)
    texts = [random_policies.policy(choice, f"policy-{n}", stages=n == 0) for n in range(3)]
    make = (random_events.world, random_events.crowd, random_events.bazaar)[seed % 3]
    payloads = random_events.stream(choice, make(choice), 800)
    chosen = Settings(
        rate_events_per_minute_max=choice.pick((12, 1_000)), retention_ms=choice.pick((2, 400)) * DAY_MS
    )
    check(texts, payloads, chosen, choice, native)


@pytest.mark.parametrize("seed", range(12))
def test_streams_of_which_much_is_held(seed: int) -> None:
    choice = Seeded(500 + seed)
    make = (random_events.world, random_events.crowd, random_events.bazaar)[seed % 3]
    payloads = random_events.stream(choice, make(choice), 800)
    texts = [HOLDING, random_policies.policy(choice, "policy", stages=False)]
    reference = check(texts, payloads, Settings(), choice, native=False)
    assert reference.counters["held"] > 10
    reasons = Counter(c.reason for decision in reference.decisions for c in decision.candidates)
    assert reasons[HELD] == reference.counters["held"]
    assert reasons[EXPIRED] == reference.counters["held_expired"]


@pytest.mark.parametrize("seed", range(4))
def test_streams_of_which_much_is_taken_back(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """For every reason; once with room for a single action of a customer."""
    choice = Seeded(700 + seed)
    most = (1, 16)[seed % 2]
    monkeypatch.setattr(limits, "OUTSTANDING_PER_CUSTOMER_MAX", most)
    make = (random_events.world, random_events.crowd, random_events.bazaar)[seed % 3]
    payloads = random_events.stream(choice, make(choice), 800)
    texts = [TAKING_BACK, random_policies.policy(choice, "policy", stages=False)]
    reference = check(texts, payloads, Settings(outstanding_per_customer_max=most), choice, native=False)
    reasons = Counter(one.reason for one in reference.withdrawn)
    assert reasons.keys() >= {"suppressed", "goal", "expired", "erased"}
    assert most > 1 or reference.counters["outstanding_dropped"] > 0


def expected_records(event: Event, secret: bytes) -> list[tuple[int, ...]]:
    """Words of the event's records that decoding fills: pack without flags, identifiers, fields, money."""
    items = [
        (event.product, event.category, event.price_minor, event.amount_minor, event.quantity),
        *((n.product, n.category, n.price_minor, n.amount_minor, n.quantity) for n in event.lines),
    ]
    rows = []
    for product, category, price, amount, quantity in items:
        kind = KINDS.index(event.kind)
        customer = customer_hash(kind, event.customer, secret) if event.customer else (0, 0)
        keys = (field_hash(product, secret), field_hash(category, secret))
        if event.anonymous:
            low, high = customer_hash(2, event.anonymous, secret)
            keys = (signed(low), signed(high))
        rows.append(
            (
                event.time_ms,
                event.clock_ms,
                *map(signed, customer),
                *map(signed, message_hash(event.id, secret)),
                *keys,
                field_hash(event.store, secret),
                field_hash(event.source, secret),
                price,
                amount,
                CODE_BY_NAME[event.type],
                currency_code(event.currency),
                quantity,
                (event.partition << 48) | event.row,
            )
        )
    return rows


WORDS = (
    *(record.TIME, record.CLOCK, record.CUSTOMER_LO, record.CUSTOMER_HI),
    *(record.MESSAGE_LO, record.MESSAGE_HI),
    *(record.PRODUCT, record.CATEGORY, record.STORE, record.SOURCE, record.PRICE, record.AMOUNT),
)


@QUICK
@given(strategies.streams(), st.booleans(), st.data())
def test_decoding(payloads: list[bytes], scanner: bool, data: st.DataObject) -> None:
    secret = Settings().secret
    for partition, payload in enumerate(payloads):
        expected = decode([b""] * partition + [payload], DECODING)
        words = np.frombuffer(payload, np.uint8)
        rows: list[tuple[int, ...]] = []
        names: list[tuple[str, str]] = []
        dead = late = start = row = 0
        clock = -1
        reader = decoder(secret, scanner)
        while start < len(words):
            rows_max = data.draw(st.sampled_from((1, 3, 1_000)))
            decoded, start = reader.json_lines(words, start, rows_max, Origin("-"))
            events = decoded.events
            clock = reader.stamp(decoded, clock, partition, row)
            row += events
            dead += len(decoded.dead)
            late += len(decoded.late)
            for i, words_of in enumerate(decoded.records.tolist()):
                pack = words_of[record.PACK]
                quantity = (pack >> 32) & 0xFFFFF
                packed = (pack & 0xFF, (pack >> 16) & 0xFFFF, quantity, words_of[record.SEQUENCE])
                rows.append((*(words_of[word] for word in WORDS), *packed))
                if not (pack >> 8) & record.FLAG_IS_LINE:
                    names.append((string_of(decoded, i, 0), string_of(decoded, i, 1)))
        assert rows == [r for event in expected.events for r in expected_records(event, secret)]
        assert names == [(event.customer, event.id) for event in expected.events]
        assert dead == len(expected.dead)
        assert late == len(expected.late)
