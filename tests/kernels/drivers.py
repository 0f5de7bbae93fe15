"""What the kernel tests share: inlined helpers as kernels that Python can call, shards and plans by hand.

SEGUE_TEST_EXAMPLES bounds the number of Hypothesis examples: interpreted kernels are a hundred times slower.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import HealthCheck, settings

from segue.decide.engine import ShardEngine
from segue.reference.world import empty_world
from segue.routing.arrivals import Released
from segue.state.shard import EngineSettings, ShardState
from segue_kernels import plan, record
from segue_kernels import row as row_layout
from segue_kernels.customers import find_customer, forget_behaviour, free_row, mark_dirty, must_stay
from segue_kernels.decide import charge_limits, limit_reached
from segue_kernels.ids import forget_ids, remember, seen_before
from segue_kernels.jit import kernel
from segue_kernels.keyed import forget_spilled, move_spilled, slot_entry
from segue_kernels.pool import free_block, take_block
from segue_kernels.row import NAME_INLINE_BYTES
from segue_kernels.score import logits, propensity
from segue_kernels.shard import ALONE_WORDS
from segue_kernels.windows import add_key, add_time, add_value, join_entry, tumble, tumble_key

Words = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

EXAMPLES_MAX = int(os.environ.get("SEGUE_TEST_EXAMPLES", "1000"))
DAY_MS = 86_400_000
START_MS = 1_750_000_000_000 // DAY_MS * DAY_MS
TYPE_A, TYPE_B = 1, 2
CONSENT_TYPE, UNSUBSCRIBE_TYPE = 60, 61


def quick(examples: int) -> settings:
    """Hypothesis settings for a test of kernels."""
    return settings(
        max_examples=min(examples, EXAMPLES_MAX),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


# --- inlined helpers ----------------------------------------------------------------------------------


@kernel
def add(words: Words, at: int, kind: int, k: int, window: int, time: int, value: int, after: int) -> int:
    if kind == plan.COUNT:
        add_time(words, at, k, time)
    elif kind == plan.SUM:
        return add_value(words, at, k, time, value, after)
    elif kind == plan.TUMBLE_COUNT or kind == plan.TUMBLE_SUM:
        tumble(words, at, window, time, value)
    elif kind == plan.DISTINCT:
        add_key(words, at, k, time, value)
    else:
        tumble_key(words, at, k, window, time, value)
    return 0


@kernel
def join(words: Words, at: int, other: Words, other_at: int, kind: int, k: int, window: int, now: int) -> int:
    return join_entry(words, at, other, other_at, kind, k, window, now)


@kernel
def add_to_key(
    shard: Any, streams: Words, row: int, base: int, s: int, key: int, time: int, now: int
) -> None:
    at = slot_entry(shard, streams, row, base, s, key, now, True)
    add_time(shard.rows, at, streams[s, plan.STREAM_K], time)


@kernel
def locate(shard: Any, streams: Words, row: int, base: int, s: int, key: int, now: int) -> int:
    return slot_entry(shard, streams, row, base, s, key, now, False)


@kernel
def move(shard: Any, streams: Words, row_words: int, lateness: int, steps: int) -> None:
    move_spilled(shard, streams, row_words, lateness, steps)


@kernel
def forget_keys(shard: Any, streams: Words, base: int, sent_too: bool) -> None:
    forget_spilled(shard, streams, base, sent_too)


@kernel
def forget(shard: Any, tables: Any, base: int) -> None:
    forget_behaviour(shard, tables, base)


@kernel
def free(shard: Any, tables: Any, row: int, row_words: int) -> None:
    free_row(shard, tables, row, row_words)


@kernel
def stays(shard: Any, tables: Any, base: int, now: int) -> bool:
    return must_stay(shard, tables, base, now)


@kernel
def find(shard: Any, row_words: int, lo: int, hi: int) -> int:
    return find_customer(shard, row_words, lo, hi)


@kernel
def mark(shard: Any, row: int) -> None:
    mark_dirty(shard, row)


@kernel
def take_id(shard: Any, base: int, message: int, now: int, horizon: int, capacity: int) -> int:
    """-1: a duplicate; else how many ids that still counted it pushed out."""
    if seen_before(shard, base, message, now, horizon):
        return -1
    return remember(shard, base, message, now, horizon, capacity)


@kernel
def drop_ids(shard: Any, base: int) -> None:
    forget_ids(shard, base)


@kernel
def take(pool: Words, meta: Words, words: int) -> int:
    return take_block(pool, meta, words)


@kernel
def give_back(pool: Words, meta: Words, at: int, words: int) -> None:
    free_block(pool, meta, at, words)


NO_ALONE = np.zeros((0, ALONE_WORDS), np.int64)


@kernel
def reached(
    shard: Any,
    tables: Any,
    alone: Words,
    row: int,
    base: int,
    now: int,
    product: int,
    category: int,
    ahead: bool,
) -> bool:
    return limit_reached(shard, tables, alone, 0, row, base, now, product, category, ahead)


@kernel
def charge(shard: Any, tables: Any, row: int, base: int, now: int, product: int, category: int) -> None:
    charge_limits(shard, tables, 0, row, base, now, now, product, category)


@kernel
def score(
    offers_f: npt.NDArray[np.float64],
    first: int,
    count: int,
    weights: npt.NDArray[np.float64],
    at: int,
    feature: npt.NDArray[np.float64],
    features: int,
    logit: npt.NDArray[np.float64],
) -> None:
    logits(offers_f, first, count, weights, at, feature, features, logit)


@kernel
def logistic(logit: float) -> float:
    return propensity(logit)


# --- plans and shards ---------------------------------------------------------------------------------


def entry_words(kind: int, k: int) -> int:
    """Words of an entry, as segue_kernels.plan says."""
    sizes = {
        plan.COUNT: k,
        plan.SUM: 2 * k,
        plan.TUMBLE_COUNT: 2,
        plan.TUMBLE_SUM: 2,
        plan.DISTINCT: 2 * k,
        plan.TUMBLE_DISTINCT: 2 + k,
        plan.DECAY: 1 + plan.DECAY_EPOCHS,
        plan.FIRST: 2,
        plan.SESSIONS: 1 + 2 * k,
        plan.LEFT: 3 * k,
    }
    return sizes[kind]


def stream(kind: int, **columns: int) -> dict[str, int]:
    """A stream of the plan; what is not given: unkeyed, three entries, a day, of type A."""
    defaults = {"by": 0, "k": 3, "window_ms": DAY_MS, "slots": 2, "field": 0, "currency": 0, "type": TYPE_A}
    return {"kind": kind, **defaults, **columns}


def tables(
    streams: Sequence[dict[str, int]], limits: Sequence[tuple[int, int, int, int]] = (), **given: Any
) -> SimpleNamespace:
    """A plan by hand: each stream listens to its type, one journey has the limits, no programs."""
    rows = np.zeros((len(streams), plan.STREAM_WORDS), np.int64)
    offset = plan.HEADER_WORDS
    for row, of in zip(rows, streams, strict=True):
        words = entry_words(of["kind"], of["k"])
        slots = of["slots"] if of["by"] else 0
        row[plan.STREAM_KIND], row[plan.STREAM_BY], row[plan.STREAM_OFFSET] = of["kind"], of["by"], offset
        row[plan.STREAM_K], row[plan.STREAM_SLOTS] = of["k"], slots
        row[plan.STREAM_WINDOW_MS] = of["window_ms"]
        row[plan.STREAM_FIELD], row[plan.STREAM_CURRENCY] = of["field"], of["currency"]
        row[plan.STREAM_ENTRY_WORDS], row[plan.STREAM_TYPE] = words, of["type"]
        row[plan.STREAM_SOURCE], row[plan.STREAM_FLAGS] = of.get("source", 0), of.get("flags", 0)
        row[plan.STREAM_WIDTH_MS] = of.get("width_ms", 0)
        row[plan.STREAM_AREA_WORDS] = 1 + slots + slots * words if of["by"] else words
        offset += int(row[plan.STREAM_AREA_WORDS])
    types = rows[:, plan.STREAM_TYPE]
    heard = np.where(types < plan.SENT_TYPE, types, -1)  # sends are not events
    listen = [np.flatnonzero(heard == kind) for kind in range(plan.TYPES)]
    journeys = np.zeros((1, plan.JOURNEY_WORDS), np.int64)
    journeys[0, plan.JOURNEY_LIMITS_END] = len(limits)
    nothing = np.zeros(plan.TYPES + 1, np.int64)
    made: dict[str, Any] = {
        "streams": rows,
        "listen_start": np.cumsum([0, *map(len, listen)]).astype(np.int64),
        "listen": np.concatenate(listen).astype(np.int64),
        "trigger_start": nothing,
        "trigger": np.zeros(0, np.int64),
        "locate_start": nothing.copy(),
        "locate": np.zeros(0, np.int64),
        "journeys": journeys,
        "journeys_f": np.zeros((1, plan.JOURNEY_F_WORDS)),
        "offers": np.zeros((0, plan.OFFER_WORDS), np.int64),
        "offers_f": np.zeros((0, plan.OFFER_F_WORDS)),
        "limits": np.array(limits, np.int64).reshape(len(limits), plan.LIMIT_WORDS),
        "features": np.zeros(0, np.int64),
        "weights": np.zeros(0),
        "slot_hash": np.zeros(1, np.int64),
        "journey_hash": np.zeros(1, np.int64),
        "program_start": np.zeros(1, np.int64),
        "code": np.zeros((0, plan.CODE_WORDS), np.int64),
        "constants": np.zeros(0),
        "program_address": np.zeros(0, np.int64),
        **no_extras(),
        "row_words": -(-offset // plan.ROW_ALIGN_WORDS) * plan.ROW_ALIGN_WORDS,
    }
    made["journey_locate_start"] = np.zeros(len(given.get("journeys", journeys)) + 1, np.int64)
    made.update(given)
    for name in ("segment", "stage", "join"):
        made.setdefault(f"{name}_ids", tuple(f"{name}-{n}" for n in range(len(made[f"{name}s"]))))
    infos = tuple(SimpleNamespace(id=f"journey-{n}") for n in range(len(made["journeys"])))
    made.setdefault("journey_infos", infos)
    of = made["offers"][:, plan.OFFER_JOURNEY].tolist()
    made.setdefault(
        "offer_infos", tuple(SimpleNamespace(id=f"offer-{n}", journey=j) for n, j in enumerate(of))
    )
    return SimpleNamespace(**made)


def no_extras() -> dict[str, Any]:
    """The tables of policies without caps, waits, segments, stages, sessions, joins and lookups."""
    return {
        "journey_locate_start": np.zeros(1, np.int64),
        "journey_locate": np.zeros(0, np.int64),
        "discounts": np.zeros((0, plan.DISCOUNT_WORDS), np.int64),
        "caps": np.zeros((0, plan.CAP_WORDS), np.int64),
        "cap_start": np.zeros(plan.CONTACTS + 1, np.int64),
        "cap": np.zeros(0, np.int64),
        "charge_start": np.zeros(plan.CONTACTS + 1, np.int64),
        "charge": np.zeros(0, np.int64),
        "quiet": np.zeros((0, plan.QUIET_WORDS), np.int64),
        "goal_start": np.zeros(plan.TYPES + 1, np.int64),
        "goal": np.zeros(0, np.int64),
        "offer_hash": np.zeros(0, np.int64),
        "waits": np.zeros(0, np.int64),
        "watch": np.zeros(plan.TYPES, np.uint8),
        "segments": np.zeros((0, plan.SEGMENT_WORDS), np.int64),
        "stages": np.zeros((0, plan.STAGE_WORDS), np.int64),
        "checks": np.zeros((0, plan.CHECK_WORDS), np.int64),
        "change_start": np.zeros(1, np.int64),
        "change": np.zeros(0, np.int64),
        "session_ends": np.zeros((0, plan.SESSION_WORDS), np.int64),
        "session_start": np.zeros(1, np.int64),
        "session": np.zeros(0, np.int64),
        "moments": np.zeros((0, plan.MOMENT_WORDS), np.int64),
        "lookups": np.zeros((0, plan.LOOKUP_WORDS), np.int64),
        "lookup_types": np.zeros(plan.TYPES, np.uint8),
        "joins": np.zeros((0, plan.JOIN_WORDS), np.int64),
        "join_start": np.zeros(plan.TYPES + 1, np.int64),
        "join": np.zeros(0, np.int64),
    }


def engine_settings(**given: Any) -> EngineSettings:
    """Settings with small reservations."""
    defaults: dict[str, Any] = {
        "secret": bytes(range(16)),
        "customers_per_shard_max": 1 << 12,
        "pool_words_per_shard_max": 1 << 21,
        "sample_share": 1.0,
        "shards": 1,
    }
    return EngineSettings(**{**defaults, **given})


def state_of(streams: Sequence[dict[str, int]], **given: Any) -> ShardState:
    """A shard with these streams and no customers."""
    return state_for(tables(streams), **given)


def state_for(made: SimpleNamespace, **given: Any) -> ShardState:
    """A shard for a plan made by hand."""
    chosen = engine_settings(**given)
    words = chosen.words(made.row_words, CONSENT_TYPE, UNSUBSCRIBE_TYPE)
    return ShardState(made, chosen, words, empty_world())


def engine_of(made: SimpleNamespace, **given: Any) -> ShardEngine:
    """An engine that runs a plan made by hand."""
    return ShardEngine(made, engine_settings(**given))


# --- records ------------------------------------------------------------------------------------------


def key_of(customer: int) -> tuple[int, int]:
    """A customer's 128-bit hash: any bits, and different for each number."""
    mixed = (customer * 0x9E3779B97F4A7C15 + 0x1234567) & (2**64 - 1)
    high = ((mixed ^ (mixed >> 29)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    return _signed(mixed), _signed(high)


def _signed(word: int) -> int:
    return word - 2**64 if word >= 2**63 else word


def records_of(events: Iterable[dict[str, int]], names: Sequence[bytes] = ()) -> tuple[Words, Bytes]:
    """Records and text of events: time and, by choice, customer (number), message, product, category, kind,
    type, flags, price, amount, quantity, currency, consent, clock, sequence, source. names[customer] is the
    identifier.
    """
    given = list(events)
    records = np.zeros((len(given), record.RECORD_WORDS), np.int64)
    text = b""
    for n, (row, event) in enumerate(zip(records, given, strict=True)):
        customer = event.get("customer", 0)
        row[record.TIME] = event["time"]
        row[record.CLOCK] = event.get("clock", event["time"])
        row[record.CUSTOMER_LO], row[record.CUSTOMER_HI] = key_of(customer)
        row[record.MESSAGE_LO] = event.get("message", n + 1)
        row[record.PRODUCT], row[record.CATEGORY] = event.get("product", 0), event.get("category", 0)
        row[record.PRICE], row[record.AMOUNT] = event.get("price", 0), event.get("amount", 0)
        row[record.CODE] = event.get("consent", 0)
        row[record.SOURCE] = event.get("source", 0)
        row[record.SEQUENCE] = event.get("sequence", n)
        flags = event.get("flags", 0) | event.get("kind", record.KIND_USER)
        low = event.get("type", TYPE_A) | flags << 8
        row[record.PACK] = low | event.get("currency", 0) << 16 | event.get("quantity", 1) << 32
        name = names[customer] if 0 <= customer < len(names) else b""
        row[record.HEAP] = len(text) << 32 | len(name)
        text += name
    return records, np.frombuffer(text, np.uint8)


def released(records: Words, text: Bytes) -> Released:
    """Rows as the merge hands them to an engine."""
    return Released(records, text)


def name_of(state: ShardState, row: int) -> bytes:
    """The identifier that a row keeps."""
    base = row * state.row_words
    words = state.arrays.rows
    length = int(words[base + row_layout.FLAGS] >> row_layout.FLAG_NAME_SHIFT) & 0xFF
    at = base + row_layout.NAME
    if length > NAME_INLINE_BYTES:
        words, at = state.arrays.pool, int(words[at])
    return words[at : at + (length + 7) // 8].astype("<i8").tobytes()[:length]


def meta(state: ShardState, word: int) -> int:
    """A word of the shard's meta array (segue_kernels/row.py)."""
    return int(state.arrays.meta[word])
