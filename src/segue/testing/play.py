"""One example through decoder, packets, shards and encoder, in this process: what Segue says about it.

The same code as in a flow, without Bytewax: one partition, one shard, one batch, then time moves to the example's end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from segue.actions.encode import ActionEncoder
from segue.decide.decisions import Decisions
from segue.decide.engine import ShardEngine
from segue.errors import PolicyError, SourceError
from segue.events.batch import Origin
from segue.events.decode import Decoder
from segue.events.money import EXPONENTS
from segue.identity.anonymous import AnonymousShard
from segue.limits import DAY_MS, LATENESS_MS_DEFAULT
from segue.outputs import CHANGES, DECISIONS, JOINS, LEDGER
from segue.policy.compiled import CompiledPolicies
from segue.policy.examples import STEP, Example, messages, offset_text
from segue.reference.world import ReferenceWorld, types_for_all
from segue.routing.arrivals import Arrivals
from segue.routing.packet import ROW_BITS, Place, SourceBatch, packets
from segue.settings import Settings
from segue.state.shard import EngineSettings
from segue.vouchers.keys import EVERY_CAMPAIGN, KEY_BYTES, Keyring, VoucherKey
from segue.vouchers.rankings import Answering, Asking
from segue_kernels.ledger import CHANGE_WORDS
from segue_kernels.shard import REASON_NAMES

_CUSTOMERS_MAX = 1 << 12
_POOL_WORDS_MAX = 1 << 20
_KEYS = Keyring({EVERY_CAMPAIGN: (VoucherKey(0, 0, bytes(KEY_BYTES)),)})  # codes of examples are nobody's


@dataclass(frozen=True, slots=True)
class Candidate:
    """An offer that a decision looked at. `score` is what it came to, 0 where that was not reached."""

    journey: str
    offer: str
    channel: str
    reason: str
    score: float


@dataclass(slots=True)
class Played:
    """What came out, times in ms after the example's start.

    actions    as their messages, with `at_ms`, and `discount`: what the voucher takes off, in percent or major units,
               and `campaign`: whose voucher was granted, None if none was
    withdrawn  what takes actions back, as its messages, with `at_ms`
    decisions  (at_ms, candidates) of each row of the decision log
    changes, joins  rows of these outputs, with `at_ms`
    unused     events that were not used, and why
    """

    actions: list[dict[str, Any]] = field(default_factory=list)
    withdrawn: list[dict[str, Any]] = field(default_factory=list)
    decisions: list[tuple[int, list[Candidate]]] = field(default_factory=list)
    changes: list[dict[str, Any]] = field(default_factory=list)
    joins: list[dict[str, Any]] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)


def play(example: Example, policies: CompiledPolicies, secret: bytes, at: str = "`$") -> Played:
    """Everything that is said about this example by its end.

    secret  the deployment's, and the policies'
    at      where the example stands, for messages: the file and the path in it
    """
    settings = EngineSettings(
        secret=secret,
        shards=1,
        sample_share=1.0,
        customers_per_shard_max=_CUSTOMERS_MAX,
        pool_words_per_shard_max=_POOL_WORDS_MAX,
    )
    played = Played()
    batch = _batch(example, policies, secret, played)
    end_ms = example.start_ms + example.end_ms
    encoder = ActionEncoder(policies)
    world = _world(example, policies, at)
    decided = _granted(_decide(batch, policies, settings, world, end_ms), policies)
    for name, payload in encoder.encode(decided):
        if name == LEDGER:
            continue
        _take(name, payload, example.start_ms, policies, played)
    for told in (played.actions, played.withdrawn):
        told.sort(key=lambda each: (each["at_ms"], each["customer_id"]))
    return played


def _granted(decided: list[Decisions], policies: CompiledPolicies) -> list[Decisions]:
    """The same, as a ledger answers in which no voucher is granted yet."""
    if not policies.campaign_infos:
        return decided
    asking, owner = Asking(policies), Answering(policies, _KEYS, np.zeros((0, CHANGE_WORDS), np.int64))
    settled = []
    for decisions in decided:
        asked = asking.rankings(decisions)
        settled.append(asking.settled(decisions, None if asked is None else owner.answer(asked)))
    return settled


def _world(example: Example, policies: CompiledPolicies, at: str) -> ReferenceWorld:
    """The example's tables, as a run reads them. Raises PolicyError for rows that a run could not read."""
    with TemporaryDirectory() as folder:
        files = {name: f"{folder}/{name}.jsonl" for name in example.tables}
        for name, path in files.items():
            Path(path).write_bytes(msgspec.json.Encoder().encode_lines(example.tables[name]))
        try:
            return ReferenceWorld.of(Settings(tables=files), policies)
        except SourceError as error:
            found = error.found
            for name, path in files.items():
                found = found.replace(f'"{path}"', f"{at}.tables.{name}`")
            raise PolicyError(STEP, found, error.hint) from None


def _batch(example: Example, policies: CompiledPolicies, secret: bytes, played: Played) -> SourceBatch:
    told = messages(example)
    payload = np.frombuffer(msgspec.json.Encoder().encode_lines(told), np.uint8)
    arrival_ms = example.start_ms + max(example.end_ms, 0) + DAY_MS
    decoder = Decoder(
        secret, policies.policies[0].currency, arrival_ms, LATENESS_MS_DEFAULT, policies.lookup_fields
    )
    rows = 1 + sum(1 + len(message.get("products", ())) for message in told)
    decoded, end = decoder.json_lines(payload, 0, rows, Origin(example.name))
    assert end == len(payload)
    clock = decoder.stamp(decoded, -1, 0, 0)
    for letter in decoded.dead:
        played.unused.append(f"event {_number(letter.raw)}: {letter.reason}")
    for late in decoded.late:
        played.unused.append(
            f"event {_number(late.raw)}: it came {offset_text(late.delay_ms)} after its time"
        )
    place: Place = (clock, (0 << ROW_BITS) | decoded.events)
    return SourceBatch(0, 0, (-1, 0), place, decoded)


def _number(raw: bytes) -> str:
    number: str = msgspec.json.decode(raw)["id"]
    return number


def _decide(
    batch: SourceBatch,
    policies: CompiledPolicies,
    settings: EngineSettings,
    world: ReferenceWorld,
    end_ms: int,
) -> list[Decisions]:
    """Anonymous shard first, what it passes on with the rest; then time moves until what is due at the end is done."""
    known, arrivals = ShardEngine(policies, settings, world), Arrivals(1, settings.lateness_ms)
    anonymous = AnonymousShard(0, policies, settings, 1, world)
    addressed, _ = packets(batch, 1, 1, types_for_all(policies))
    for destination, packet in addressed:
        (arrivals if destination == 0 else anonymous.arrivals).push(packet)
    decided, passed = anonymous.process()
    for _, packet in passed:
        arrivals.push(packet)
    released = arrivals.release()
    if released is not None and len(released.records):
        decided += known.process(released)
    for engine in (anonymous.engine, known):
        done = False
        while not done:
            fired, done = engine.advance(end_ms + 1)
            decided += fired
    return decided


def _take(
    name: str, payload: bytes | pa.RecordBatch, start_ms: int, policies: CompiledPolicies, played: Played
) -> None:
    if isinstance(payload, bytes):
        for line in payload.splitlines():
            action = msgspec.json.decode(line)
            if action["kind"] == "withdrawn":
                played.withdrawn.append({**action, "at_ms": _ms(action["time"]) - start_ms})
                continue
            at_ms = _ms(action["time"]) - start_ms
            voucher = action["voucher"]
            granted = voucher["campaign_id"] if voucher is not None and voucher["code"] else None
            played.actions.append(
                {**action, "at_ms": at_ms, "discount": _discount(voucher), "campaign": granted}
            )
        return
    rows = payload.set_column(
        payload.schema.get_field_index("time"), "time", payload.column("time").cast(pa.int64())
    ).to_pylist()
    if name == DECISIONS:
        played.decisions += [(row["time"] - start_ms, _candidates(row, policies)) for row in rows]
    elif name == CHANGES:
        played.changes += [{**row, "at_ms": row["time"] - start_ms} for row in rows]
    elif name == JOINS:
        played.joins += [{**row, "at_ms": row["time"] - start_ms} for row in rows]


def _candidates(row: dict[str, Any], policies: CompiledPolicies) -> list[Candidate]:
    """The offers of the row's journeys in its slot, in their order, with their reasons."""
    offers = [
        offer
        for offer in policies.offer_infos
        if offer.journey in row["journeys"]
        and (offer.channel, offer.placement) == (row["channel"], row["placement"])
    ]
    return [
        Candidate(
            policies.journey_infos[offer.journey].id, offer.id, offer.channel, REASON_NAMES[reason], score
        )
        for offer, reason, score in zip(offers, row["reasons"], row["scores"], strict=True)
    ]


def _ms(time: str) -> int:
    return int(np.datetime64(time.removesuffix("Z"), "ms").astype(np.int64))


def _discount(voucher: dict[str, Any] | None) -> float | None:
    if voucher is None:
        return None
    minor: int | None = voucher["discount_amount_minor"]
    percent: float | None = voucher["discount_percent"]
    return percent if minor is None else minor / 10 ** EXPONENTS[voucher["currency"]]
