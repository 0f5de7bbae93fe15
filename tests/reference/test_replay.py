"""After a crash: nothing that was decided is missing, nothing is sent twice, and no cap is passed.

A run is cut at some batch (its state is saved there), goes on, sends a part of what it decides, and crashes. The state
is built anew by running up to the cut (and out of what is saved there), the receipts of what was sent are charged, and
all batches since the cut are decided once more.

    batches   0 1 2 3 4 5 6 7 8 9
    first run ──────cut─────✗          sent: up to the cut, and a prefix of what was decided since (the tail)
    replay          cut────────────    outputs of both = those of a run that nothing disturbed
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from segue.actions.encode import ActionEncoder
from segue.decide.decisions import Decisions, Words
from segue.events.decode import Decoder
from segue.limits import LATENESS_MS_DEFAULT
from segue.policy.compiled import CompiledPolicies
from segue.policy.load import load_policies
from segue.routing.packet import SourceBatch
from segue.state.shard import EngineSettings
from segue_kernels import receipt
from segue_kernels.shard import CAP, HELD, LIMIT
from tests.reference import random_events, random_policies
from tests.reference.caps import Who, caps_passed
from tests.reference.choice import Seeded
from tests.reference.compare import (
    action_rows,
    change_rows,
    credit_rows,
    decision_rows,
    difference,
    withdrawn_rows,
)
from tests.reference.journeys import Policies
from tests.reference.pipeline import Outcome, source_batches
from tests.reference.policies import read_policies
from tests.reference.quiet import HOLDING, sent_in_quiet
from tests.reference.replay import Run, Seen, limits_passed, receipts_of
from tests.reference.taking_back import TAKING_BACK

SECRET = bytes(range(16))
ACTIONS_MIN = 30
CHANNELS = ("web", "push")  # idempotent: sent before what is transactional


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Random policies leave no object files behind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGUE_CACHE_DIR", str(tmp_path_factory.mktemp("objects")))
        yield


@dataclass
class Case:
    """Policies and the batches of a stream, whose events' ids and times are all different."""

    choice: Seeded
    compiled: CompiledPolicies
    policies: Policies
    settings: EngineSettings
    batches: list[list[SourceBatch]]  # by partition
    travels: bool  # whether anybody names a time zone
    erased: frozenset[str]  # identifiers of who asks for erasure

    def zone_of(self, _who: Who) -> str | None:
        """The time zone in which somebody ever was."""
        return None if self.travels else "UTC"

    def run(self, merged: bool) -> Run:
        return Run(self.compiled, self.settings, len(self.batches), merged)

    def encoder(self) -> ActionEncoder:
        return ActionEncoder(self.compiled)

    def interleaved(self, taken: Sequence[SourceBatch] = ()) -> list[SourceBatch]:
        """All batches but those taken, each partition's in order; the partitions as it happens."""
        known = {(batch.partition, batch.batch) for batch in taken}
        queues = [[b for b in queue if (b.partition, b.batch) not in known] for queue in self.batches]
        order = []
        while any(queues):
            order.append(self.choice.pick([queue for queue in queues if queue]).pop(0))
        return order


def case_of(seed: int, erasures: bool, partitions: int = 2) -> Case:
    """The first of some random cases in which enough is sent."""
    for n in range(50):
        case = random_case(seed + 1_000 * n, erasures, partitions)
        run = case.run(merged=True)
        decided = all_of([run.push(batch) for batch in case.interleaved()])
        if sum(len(one.actions) for one in decided) >= ACTIONS_MIN:
            return case
    raise AssertionError("nothing is sent")


def random_case(seed: int, erasures: bool, partitions: int, texts: Sequence[str] = ()) -> Case:
    """A random stream under these policies, or random ones."""
    choice = Seeded(seed)
    texts = texts or [random_policies.policy(choice, f"policy-{n}", stages=n == 0) for n in range(3)]
    world = (random_events.world, random_events.crowd, random_events.bazaar)[seed % 3](choice)
    world = replace(world, partitions=partitions)
    payloads = []
    erased: set[str] = set()
    told: set[str] = set()
    times: set[int] = (
        set()
    )  # all different: of what waits since the same moment the decisions have the same id
    for messages in random_events.messages(choice, world, 300):
        kept = []
        for message in messages:
            gone = message["type"] == "Profile Erasure Requested" and not erasures
            if seed % 3 == 0:
                message.pop("timezone", None)
            if message["id"] not in told and not gone:
                told.add(message["id"])
                if message["type"] == "Profile Erasure Requested":
                    erased |= {
                        message[name] for name in ("userId", "loyaltyId", "anonymousId") if name in message
                    }
                while message["time"] in times:
                    message["time"] += 1
                times.add(message["time"])
                kept.append(message)
        payloads.append(b"\n".join(random_events.lines(choice, kept)))
    with TemporaryDirectory() as folder:
        for n, text in enumerate(texts):
            Path(folder, f"{n}.toml").write_text(text)
        compiled = load_policies([folder], secret=SECRET, native=False)
    decoder = Decoder(SECRET, "EUR", random_events.ARRIVAL_MS, LATENESS_MS_DEFAULT, compiled.lookup_fields)
    settings = EngineSettings(
        SECRET, shards=2, customers_per_shard_max=1 << 12, pool_words_per_shard_max=1 << 21
    )
    batches = [source_batches(p, n, decoder, choice, Outcome()) for n, p in enumerate(payloads)]
    return Case(
        choice, compiled, read_policies(texts, SECRET), settings, batches, seed % 3 != 0, frozenset(erased)
    )


def all_of(steps: Sequence[Sequence[Decisions]]) -> list[Decisions]:
    return [one for step in steps for one in step]


def told_the_same(case: Case, found: Seen, expected: Seen) -> None:
    """But to who is erased, who may get less: what an identifier was sent when the erasure had made it nobody's again
    is charged before the replay comes to its first link (PROTOCOL.md)."""
    journeys = case.policies.journeys

    def others(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [row for row in rows if row["customer_id"] not in case.erased]

    assert difference(action_rows(others(found.actions)), action_rows(others(expected.actions))) == ""
    taken_back = withdrawn_rows(others(found.withdrawn))
    assert difference(taken_back, withdrawn_rows(others(expected.withdrawn))) == ""
    rows = decision_rows(others(found.decisions), journeys)
    assert difference(rows, decision_rows(others(expected.decisions), journeys)) == ""


def said(case: Case, decided: Sequence[Decisions]) -> Seen:
    seen = Seen()
    seen.read(case.encoder(), decided)
    return seen


def sent_at_once(case: Case, decided: Sequence[Decisions]) -> Seen:
    """What idempotent channels got of these decisions, the rest of which was lost."""
    seen = said(case, decided)
    return Seen(
        actions=[action for action in seen.actions if action["channel"] in CHANNELS],
        withdrawn=[one for one in seen.withdrawn if one["channel"] in CHANNELS],
    )


@pytest.mark.parametrize("merged", [True, False])
@pytest.mark.parametrize("seed", range(9))
def test_the_same_interleaving_says_the_same(seed: int, merged: bool) -> None:
    """Also where actions of idempotent channels were sent, and what was decided before and with them was lost."""
    says_the_same(case_of(seed, erasures=seed % 2 == 0), merged, may_pass=seed % 2 == 0)


def says_the_same(case: Case, merged: bool, may_pass: bool) -> None:
    """may_pass: who is erased gets as much again."""
    order = case.interleaved()
    undisturbed = case.run(merged)
    steps = [undisturbed.push(batch) for batch in order]
    expected = said(case, all_of(steps))
    passed = limits_passed(expected.actions, case.policies.journeys)
    passed += caps_passed(expected.actions, case.policies, case.zone_of)
    assert passed == [] or may_pass
    for _ in range(3):
        cut = case.choice.integer(0, len(order) - 1)
        crash = case.choice.integer(cut, len(order))
        since = all_of(steps[cut:crash])
        sent = case.choice.integer(0, len(since))
        tail = since[:sent]
        alone = since[sent : sent + case.choice.integer(0, len(since))]
        receipts = receipts_of(alone, case.compiled, CHANNELS)
        lost = sent_at_once(case, alone)
        receipts = np.concatenate([receipts_of(tail, case.compiled), receipts])
        replay = case.run(merged)
        for batch in order[:cut]:
            replay.push(batch)
        charged = replay.charge(shuffled(case, receipts))
        assert charged == sum(len(one.actions) for one in tail)
        replay = replay.saved()  # and a second crash, before anything is decided again
        again = [replay.push(batch) for batch in order[cut:]]
        seen = said(case, [*all_of(steps[:cut]), *tail, *all_of(again)])
        seen.add(lost)
        told_the_same(case, seen, expected)
        # changes and credits are told again: their own ids tell repeats apart
        since_cut, told = said(case, all_of(steps[cut:])), said(case, all_of(again))
        assert difference(change_rows(told.changes), change_rows(since_cut.changes)) == ""
        assert difference(credit_rows(told.joins), credit_rows(since_cut.joins)) == ""
        counters = replay.counters()
        assert counters["pending_now"] == counters["pending_forgotten"] == 0
        assert (counters["replayed_logged"], counters["offers_unknown"]) == (len(lost.actions), 0)


def shuffled(case: Case, receipts: Words) -> Words:
    """Topics are read back one after the other: in no order of their own."""
    order = list(range(len(receipts)))
    order.sort(key=lambda _: case.choice.integer(0, 1 << 30))
    return np.ascontiguousarray(receipts[order])


@pytest.mark.parametrize("seed", range(20, 29))
def test_two_crashes_in_a_row(seed: int) -> None:
    survives_two_crashes(case_of(seed, erasures=False))


@pytest.mark.parametrize("seed", range(80, 92))
def test_two_crashes_with_limits_by_product(seed: int) -> None:
    case = random_case(seed, False, 2, [LIMITED])
    run = case.run(merged=True)
    decided = said(case, all_of([run.push(batch) for batch in case.interleaved()]))
    assert sum(row["reasons"].count(LIMIT) for row in decided.decisions) > 0
    for _ in range(3):
        survives_two_crashes(case)


@pytest.mark.parametrize("seed", range(200, 209))
def test_what_was_held_is_held_again(seed: int) -> None:
    case = random_case(seed, False, 2, [HOLDING])
    run = case.run(merged=True)
    decided = said(case, all_of([run.push(batch) for batch in case.interleaved()]))
    assert sum(row["reasons"].count(HELD) for row in decided.decisions) > 5
    assert sent_in_quiet(decided.actions, case.policies, case.zone_of) == []
    for merged in (True, False):
        says_the_same(case, merged, may_pass=False)
    survives_two_crashes(case)
    for partly in (True, False):
        sends_nothing_twice(case, partly)


@pytest.mark.parametrize("seed", range(300, 304))
def test_what_was_taken_back_is_taken_back_once(seed: int) -> None:
    case = random_case(seed, seed % 2 == 0, 2, [TAKING_BACK])
    run = case.run(merged=True)
    decided = said(case, all_of([run.push(batch) for batch in case.interleaved()]))
    assert len({one["reason"] for one in decided.withdrawn}) > 1
    for merged in (True, False):
        says_the_same(case, merged, may_pass=True)
    if seed % 2:
        survives_two_crashes(case)
        for partly in (True, False):
            sends_nothing_twice(case, partly)


def survives_two_crashes(case: Case) -> None:
    """The second one before or after a further save, which keeps what is pending. In the first one actions of
    idempotent channels are sent and not logged; the row that the second run logs of one does not say what it is about.
    """
    order = case.interleaved()
    undisturbed = case.run(merged=False)
    steps = [undisturbed.push(batch) for batch in order]
    expected = said(case, all_of(steps))
    cut = case.choice.integer(0, len(order) // 2)
    since = all_of(steps[cut:])
    sent_first = case.choice.integer(0, len(since))
    first = since[:sent_first]
    alone = since[sent_first : sent_first + case.choice.integer(0, len(since))]
    lost = sent_at_once(case, alone)
    receipts = np.concatenate(
        [receipts_of(first, case.compiled), receipts_of(alone, case.compiled, CHANNELS)]
    )

    second = case.run(merged=False)
    for batch in order[:cut]:
        second.push(batch)
    second.charge(receipts)
    saved = case.choice.integer(cut, len(order) - 1)
    to_saved = [second.push(batch) for batch in order[cut:saved]]
    sequences = [engine.sequence for engine in second.engines()]
    pending = [engine.pending_words().copy() for engine in second.engines()]
    more = all_of([second.push(batch) for batch in order[saved:]])
    more = more[: case.choice.integer(0, len(more))]
    both = np.concatenate([receipts, receipts_of([*all_of(to_saved), *more], case.compiled)])

    for from_saved in (False, True):
        third = case.run(merged=False)
        for batch in order[:cut]:
            third.push(batch)
        if from_saved:
            third.charge(receipts)
            for batch in order[cut:saved]:
                third.push(batch)
            assert [engine.sequence for engine in third.engines()] == sequences
            for engine, rows in zip(third.engines(), pending, strict=True):
                assert sorted(engine.pending_words().tolist()) == sorted(rows.tolist())
                forget(engine)
                engine.restore_pending(rows)
        third.charge(shuffled(case, both))
        again = all_of([third.push(batch) for batch in order[saved if from_saved else cut :]])
        seen = said(case, [*all_of(steps[:cut]), *first, *all_of(to_saved), *more, *again])
        seen.add(lost)
        told_the_same(case, seen, expected)
        assert third.counters()["pending_now"] == 0


def forget(engine: object) -> None:
    """As an engine that was built anew has nothing pending."""
    from segue.decide.engine import ShardEngine
    from segue_kernels.row import PENDING_NOW

    assert isinstance(engine, ShardEngine)
    engine.state.replay.pending[:] = 0
    engine.state.arrays.meta[PENDING_NOW] = 0


@pytest.mark.parametrize("partly", [False, True])
@pytest.mark.parametrize("seed", range(40, 52))
def test_another_interleaving_sends_nothing_twice(seed: int, partly: bool) -> None:
    """partly: the last of what was sent are actions of idempotent channels, whose log rows were lost."""
    sends_nothing_twice(case_of(seed, erasures=False, partitions=case_partitions(seed)), partly)


def sends_nothing_twice(case: Case, partly: bool) -> None:
    journeys = case.policies.journeys
    for _ in range(3):
        order = case.interleaved()
        cut = case.choice.integer(0, len(order) - 1)
        first = case.run(merged=False)
        before = all_of([first.push(batch) for batch in order[:cut]])
        since = all_of([first.push(batch) for batch in order[cut:]])
        sent = case.choice.integer(0, len(since))
        tail = since[:sent]
        receipts = receipts_of(tail, case.compiled)
        alone: list[Decisions] = []
        if partly:
            alone = since[sent : sent + case.choice.integer(1, 3)]
            receipts = np.concatenate([receipts, receipts_of(alone, case.compiled, CHANNELS)])

        replay = case.run(merged=False)
        for batch in order[:cut]:
            replay.push(batch)
        replay.charge(shuffled(case, receipts))
        again = all_of([replay.push(batch) for batch in case.interleaved(order[:cut])])

        seen = said(case, [*before, *tail, *again])
        seen.add(sent_at_once(case, alone))
        assert most(one["action_id"] for one in seen.withdrawn) <= 1
        assert {one["action_id"] for one in seen.withdrawn} <= {one["action_id"] for one in seen.actions}
        assert most(action["decision_id"] for action in seen.actions) <= 1
        assert most(row["decision_id"] for row in seen.decisions) <= 1
        assert limits_passed(seen.actions, journeys) == []
        assert caps_passed(seen.actions, case.policies, case.zone_of) == []
        logged = {row["decision_id"]: row["winner"] for row in seen.decisions}
        for action in seen.actions:
            # of an action whose trigger decides nothing in the other order there is no row in the log
            assert logged.get(action["decision_id"], action["offer"]) == action["offer"]


# journeys that would send with every event, limited by what it is about
LIMITED = """
policy = "limited"
version = 1
[[journeys]]
id = "product"
on = ["Product Viewed", "Product Added"]
when = "True"
limits = [{ times = 1, within = "1d", by = "product" }]
[[journeys.offers]]
id = "o"
channel = "web"
[[journeys]]
id = "category"
on = ["Product Viewed", "Product Clicked", "Order Completed"]
when = "True"
alongside = true
limits = [{ times = 2, within = "6h", by = "category" }]
[[journeys.offers]]
id = "o"
channel = "web"
placement = "hero"
"""

# journeys that would send with every event, under caps that all of them share
CAPPED = """
policy = "capped"
version = 1
[[caps]]
id = "web"
times = 1
within = "1d"
channels = ["web"]
[[caps]]
id = "all"
times = 3
within = "1d"
[[caps]]
id = "day"
times = 7
calendar = "day"
channels = ["web", "till"]
[[caps]]
id = "month"
times = 40
calendar = "month"
purposes = ["marketing"]
"""
for n, (slot, start) in enumerate(
    (
        ('channel = "web"', 'on = ["Product Viewed", "Product Added", "page"]'),
        ('channel = "web"\nplacement = "hero"', 'on = ["Product Viewed", "Order Completed"]'),
        (
            'channel = "till"\npurpose = "service"',
            'on = ["Cart Viewed", "Product Viewed"]\nwait = ["20s", "1h"]',
        ),
        ('channel = "web"\nplacement = "late"', 'on = ["Product Viewed"]\nwait = "30m"\nrestart = true'),
    )
):
    CAPPED += f"""
[[journeys]]
id = "j{n}"
{start}
alongside = true
when = "True"
[[journeys.offers]]
id = "o"
{slot}
"""


@pytest.mark.parametrize("partly", [False, True])
@pytest.mark.parametrize("seed", range(60, 67))
def test_caps_of_several_journeys_hold(seed: int, partly: bool) -> None:
    case = random_case(seed, False, case_partitions(seed), [CAPPED])
    run = case.run(merged=True)
    decided = said(case, all_of([run.push(batch) for batch in case.interleaved()]))
    assert sum(row["reasons"].count(CAP) for row in decided.decisions) > 30
    says_the_same(case, merged=partly, may_pass=False)
    sends_nothing_twice(case, partly)


def test_caps_outlive_a_change_of_policies() -> None:
    """Under other ids, beside a new cap, and of a journey that is gone: also what was read back after a crash."""
    sent = {seed: sent_after_a_change(seed) for seed in range(70, 76)}
    assert sum(map(bool, sent.values())) >= 3, sent


def sent_after_a_change(seed: int) -> int:
    """How many actions went out after crashes with changed policies; none of them passed a cap."""
    case = random_case(seed, False, case_partitions(seed), [CAPPED])
    text = CAPPED.replace('id = "web"', 'id = "on-web"').replace('id = "all"', 'id = "each"')
    text = text.replace(
        "[[caps]]", '[[caps]]\nid = "new"\ntimes = 1\nwithin = "1h"\nchannels = ["email"]\n[[caps]]', 1
    )
    text = text.partition('[[journeys]]\nid = "j3"')[0].replace('id = "j0"', 'id = "j9"')
    with TemporaryDirectory() as folder:
        Path(folder, "p.toml").write_text(text)
        changed = load_policies([folder], secret=SECRET, native=False)
    both = replace(case.policies, journeys=[*case.policies.journeys, *read_policies([text], SECRET).journeys])
    encoder = ActionEncoder(changed)
    more = 0
    for _ in range(5):
        order = case.interleaved()
        cut = case.choice.integer(1, len(order) - 1)
        crash = case.choice.integer(cut, (cut + len(order)) // 2)
        first = case.run(merged=False)
        before = all_of([first.push(batch) for batch in order[:cut]])
        going_on = first.saved(changed)
        since = all_of([first.push(batch) for batch in order[cut:crash]])
        sent = case.choice.integer(0, len(since))
        alone = since[sent : sent + case.choice.integer(0, 3)]
        receipts = [receipts_of(since[:sent], case.compiled), receipts_of(alone, case.compiled, CHANNELS)]
        going_on.charge(shuffled(case, np.concatenate(receipts)))
        again = all_of([going_on.push(batch) for batch in case.interleaved(order[:cut])])
        seen = said(case, [*before, *since[:sent]])
        seen.actions += [action for action in said(case, alone).actions if action["channel"] in CHANNELS]
        known = len(seen.actions)
        seen.read(encoder, again)
        assert caps_passed(seen.actions, both, case.zone_of) == [], seed
        more += len(seen.actions) - known
    return more


def case_partitions(seed: int) -> int:
    return 2 + seed % 2


def most(ids: Iterator[str]) -> int:
    return max(Counter(ids).values(), default=0)


def test_receipts_that_the_state_knows_of_are_left_out() -> None:
    case = case_of(0, erasures=False)
    run = case.run(merged=True)
    decided = all_of([run.push(batch) for batch in case.interleaved()])
    receipts = receipts_of(decided, case.compiled)
    assert len(receipts)
    assert run.charge(receipts) == 0
    assert run.counters()["pending_now"] == 0
    fresh = case.run(merged=True)
    receipts[:, receipt.RECEIPT_PART] = 99
    assert fresh.charge(receipts) == 0
    assert fresh.counters()["customers"] == 0
