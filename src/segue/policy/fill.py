"""Checked policies → the tables of segue_kernels/plan.py.

Law: nothing here refuses a policy but for the bounds of a deployment (slots, streams, bytes a customer); the tables
depend on the rows alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from typing import Any, cast

import msgspec
import numpy as np

from segue.errors import PolicyError
from segue.events.hashing import hash_text
from segue.events.names import ACTIVITY_CODES, CHANNELS, CODE_BY_NAME
from segue.limits import SLOTS_MAX
from segue.policy import ir
from segue.policy.assemble import assemble
from segue.policy.compiled import (
    TABLE_NAMES,
    CampaignInfo,
    CapInfo,
    CompiledPolicies,
    Float64Array,
    Int64Array,
    JourneyInfo,
    OfferInfo,
    QuietInfo,
    Uint8Array,
)
from segue.policy.gather import Names, match_stream
from segue.policy.interpret import interpret_constant
from segue.policy.model import STEP
from segue.policy.native import NativePrograms
from segue.policy.plan import Layout, checks_of, lay_out, session_stream
from segue.policy.rows import CapRow, JourneyRow, QuietRow, Rows
from segue_kernels import plan

ALL_CODES = tuple(CODE_BY_NAME.values())


Compile = Callable[[Sequence[ir.Node], Layout], tuple[NativePrograms | None, str]]


def fill_tables(rows: Rows, compile_programs: Compile | None) -> CompiledPolicies:
    """The tables of these rows; `compile_programs` gives machine code, or none and why."""
    programs = tuple(rows.programs)
    layout = lay_out(rows.needs())
    assembled = assemble(programs, layout)
    compiled, problem = compile_programs(programs, layout) if compile_programs else (None, "")
    slots = _slots(rows)
    journeys, journeys_f, limits, features, weights, waits = _journey_tables(rows, layout)
    offers, offers_f = _offer_tables(rows, layout, slots)
    listen_start, listen = _grouped(_listening(layout), plan.TYPES)
    trigger_start, trigger = _grouped(
        [(code, j) for j, journey in enumerate(rows.journeys) for code in journey.types], plan.TYPES
    )
    locate_start, locate = _grouped(_located_by_type(rows, layout, programs), plan.TYPES)
    journey_locate_start, journey_locate = _grouped(
        [(j, s) for j, row in enumerate(rows.journeys) for s in _keyed(row, True, layout, programs)],
        len(rows.journeys),
    )
    change_start, change = _grouped(
        [(code, j) for j, journey in enumerate(rows.journeys) for code in journey.changes],
        2 * len(rows.segments) + len(rows.stages),
    )
    session_ends, session_start, session = _session_tables(rows, layout)
    join_start, join = _grouped([(row.right, i) for i, row in enumerate(rows.joins)], plan.TYPES)
    caps, cap_start, cap, charge_start, charge = _cap_tables(rows, layout)
    goal_start, goal = _grouped(
        [(code, j) for j, journey in enumerate(rows.journeys) for code in journey.goals], plan.TYPES
    )
    names = rows.names
    return CompiledPolicies(
        streams=layout.streams,
        listen_start=listen_start,
        listen=listen,
        trigger_start=trigger_start,
        trigger=trigger,
        locate_start=locate_start,
        locate=locate,
        journey_locate_start=journey_locate_start,
        journey_locate=journey_locate,
        journeys=journeys,
        journeys_f=journeys_f,
        offers=offers,
        offers_f=offers_f,
        discounts=_discounts(rows),
        limits=limits,
        caps=caps,
        cap_start=cap_start,
        cap=cap,
        charge_start=charge_start,
        charge=charge,
        quiet=_quiet(rows),
        goal_start=goal_start,
        goal=goal,
        features=features,
        weights=weights,
        slot_hash=_hashes(f"{channel}/{placement}" for channel, placement in slots),
        journey_hash=_hashes(row.journey.id for row in rows.journeys),
        offer_hash=_hashes(row.offer.id for row in rows.offers),
        program_start=assembled.program_start,
        code=assembled.code,
        constants=assembled.constants,
        program_address=np.zeros(len(programs), dtype=np.int64) if compiled is None else compiled.address,
        waits=waits,
        watch=_watch(rows, programs),
        segments=_table([[when] for when in rows.segments], plan.SEGMENT_WORDS),
        stages=_table([[row.from_stages, row.when] for row in rows.stages], plan.STAGE_WORDS),
        checks=_checks(rows, programs, layout),
        change_start=change_start,
        change=change,
        session_ends=session_ends,
        session_start=session_start,
        session=session,
        moments=_moments(layout),
        lookups=_lookups(names),
        lookup_types=_lookup_types(rows, programs),
        joins=_joins(rows, layout),
        join_start=join_start,
        join=join,
        row_words=layout.row_words,
        policies=tuple(rows.policies),
        journey_infos=tuple(_journey_info(row) for row in rows.journeys),
        offer_infos=tuple(
            OfferInfo(o.id, row.journey, o.variant, o.channel, o.placement, o.purpose, row.voucher)
            for row in rows.offers
            for o in (row.offer,)
        ),
        slots=tuple(slots),
        segment_ids=tuple(names.segments),
        stage_ids=tuple(names.stages),
        join_ids=tuple(names.joins),
        cap_infos=tuple(_cap_info(row) for row in rows.caps),
        campaign_infos=tuple(
            CampaignInfo(
                row.campaign.id,
                row.policy,
                row.path,
                row.campaign.title,
                row.campaign.stack_group,
                row.terms,
            )
            for row in rows.campaigns
        ),
        quiet_infos=tuple(_quiet_info(row) for row in rows.quiet),
        tables=names.tables,
        lookup_fields=tuple((*key, names.columns()[key[0]][key[1]]) for key in names.lookups),
        programs=programs,
        digest=_digest(rows),
        layout_digest=_layout_digest(rows, layout),
        native=compiled,
        native_problem=problem,
    )


def _digest(rows: Rows) -> str:
    parts = [(p.name, p.version, p.digest, p.currency) for p in rows.policies]
    return hashlib.sha256(msgspec.json.encode([*parts, *rows.models])).hexdigest()


def _layout_digest(rows: Rows, layout: Layout) -> str:
    """Of the streams, and of what bits of segments, the stage and pending waits refer to."""
    names = rows.names
    waiting = [(j, row.journey.id) for j, row in enumerate(rows.journeys) if row.kind == plan.ON_WAIT]
    meant = msgspec.json.encode((tuple(names.segments), tuple(names.stages), tuple(names.joins), waiting))
    return hashlib.sha256(layout.streams.tobytes() + meant).hexdigest()


def _slots(rows: Rows) -> list[tuple[str, str]]:
    """By channel in the order of the registry, then placement."""
    found = {(row.offer.channel, row.offer.placement) for row in rows.offers}
    if len(found) > SLOTS_MAX:
        raise PolicyError(STEP, f"there are {len(found)} slots; at most {SLOTS_MAX}", "use fewer placements")
    return sorted(found, key=lambda slot: (CHANNELS.index(slot[0]), slot[1]))


def _journey_info(row: JourneyRow) -> JourneyInfo:
    used = row.journey.model
    on = row.journey.on
    return JourneyInfo(
        id=row.journey.id,
        kind=row.kind,
        steps=max(1, len(row.waits_ms)),
        policy=row.policy,
        types=tuple(name for name in on if "(" not in name),
        changes=tuple(name for name in on if "(" in name),
        expires_after_ms=row.expires_after_ms,
        goals=tuple(row.journey.goal),
        model_name=used.name if used else "",
        model_version=(used.version or "") if used else "",
        feature_names=tuple(feature.name for feature in used.features) if used else (),
    )


def _cap_info(row: CapRow) -> CapInfo:
    return CapInfo(
        id=row.cap.id,
        policy=row.policy,
        path=row.path,
        times=row.cap.times,
        window=row.window,
        contacts=row.contacts,
        channels=tuple(row.cap.channels or ()),
        purposes=tuple(row.cap.purposes or ()),
    )


def _quiet_info(row: QuietRow) -> QuietInfo:
    return QuietInfo(
        id=row.quiet.id,
        policy=row.policy,
        path=row.path,
        contacts=row.contacts,
        from_ms=row.from_ms,
        to_ms=row.to_ms,
        days=row.days,
        holds=row.holds,
    )


def _quiet(rows: Rows) -> Int64Array:
    return _table(
        [[row.contacts, row.from_ms, row.to_ms, row.days, row.holds] for row in rows.quiet], plan.QUIET_WORDS
    )


def _cap_tables(
    rows: Rows, layout: Layout
) -> tuple[Int64Array, Int64Array, Int64Array, Int64Array, Int64Array]:
    """Caps, and for each contact the caps that such a send is under and the streams it is written to."""
    caps = _table(
        [[layout.index[row.stream], row.cap.times, row.window, row.contacts] for row in rows.caps],
        plan.CAP_WORDS,
    )
    counted = [
        (c, i) for c in range(plan.CONTACTS) for i, row in enumerate(rows.caps) if row.contacts >> c & 1
    ]
    charged = {(contact, int(caps[i, plan.CAP_STREAM])) for contact, i in counted}
    return caps, *_grouped(counted, plan.CONTACTS), *_grouped(charged, plan.CONTACTS)


def _journey_tables(
    rows: Rows, layout: Layout
) -> tuple[Int64Array, Float64Array, Int64Array, Int64Array, Float64Array, Int64Array]:
    journeys = np.zeros((len(rows.journeys), plan.JOURNEY_WORDS), dtype=np.int64)
    journeys_f = np.zeros((len(rows.journeys), plan.JOURNEY_F_WORDS), dtype=np.float64)
    limits: list[list[int]] = []
    features: list[int] = []
    weights: list[float] = []
    waits: list[int] = []
    gaps_ms = rows.gaps_ms()
    offer = 0
    for i, row in enumerate(rows.journeys):
        own = row.journey.offers
        charged: set[ir.Stream] = set()
        journeys[i, plan.JOURNEY_POLICY] = row.policy
        journeys[i, plan.JOURNEY_WHEN] = row.when
        journeys[i, plan.JOURNEY_OFFERS_START] = offer
        journeys[i, plan.JOURNEY_OFFERS_END] = offer + len(own)
        journeys[i, plan.JOURNEY_PRIORITY] = row.journey.priority
        journeys[i, plan.JOURNEY_ALONGSIDE] = row.journey.alongside
        journeys[i, plan.JOURNEY_FEATURES_START] = len(features)
        journeys[i, plan.JOURNEY_FEATURES_COUNT] = len(row.features)
        journeys[i, plan.JOURNEY_WEIGHTS_START] = len(weights)
        journeys[i, plan.JOURNEY_LIMITS_START] = len(limits)
        for stream, times, window_ms in row.limits:
            limits.append([layout.index[stream], times, window_ms, stream not in charged])
            charged.add(stream)
        journeys[i, plan.JOURNEY_LIMITS_END] = len(limits)
        journeys[i, plan.JOURNEY_SENT_STREAMS] = len(charged)
        journeys[i, plan.JOURNEY_KIND] = row.kind
        journeys[i, plan.JOURNEY_BY] = row.by
        journeys[i, plan.JOURNEY_RESTART] = row.journey.restart
        journeys[i, plan.JOURNEY_STILL] = row.still
        journeys[i, plan.JOURNEY_WAITS_START] = len(waits)
        waits += row.waits_ms
        journeys[i, plan.JOURNEY_WAITS_END] = len(waits)
        if row.kind == plan.ON_SESSION:
            journeys[i, plan.JOURNEY_SESSION] = gaps_ms.index(row.gap_ms)
        journeys_f[i, plan.JOURNEY_F_SCORE_MIN] = row.journey.score_min
        features += row.features
        if row.journey.model is not None:
            for feature in row.journey.model.features:
                weights += [float(o.weights.get(feature.name, 0.0)) for o in own]
        offer += len(own)
    return (
        journeys,
        journeys_f,
        _table(limits, plan.LIMIT_WORDS),
        np.array(features, dtype=np.int64),
        np.array(weights, dtype=np.float64),
        np.array(waits, dtype=np.int64),
    )


def _offer_tables(
    rows: Rows, layout: Layout, slots: list[tuple[str, str]]
) -> tuple[Int64Array, Float64Array]:
    offers = np.zeros((len(rows.offers), plan.OFFER_WORDS), dtype=np.int64)
    offers_f = np.zeros((len(rows.offers), plan.OFFER_F_WORDS), dtype=np.float64)

    def tie(i: int) -> tuple[int, str, str]:
        journey = rows.journeys[rows.offers[i].journey].journey
        return -journey.priority, rows.offers[i].offer.id, journey.id

    rank = {i: place for place, i in enumerate(sorted(range(len(rows.offers)), key=tie))}
    slot_index = {slot: i for i, slot in enumerate(slots)}
    computed = 0  # discounts so far
    for i, row in enumerate(rows.offers):
        offers[i, plan.OFFER_JOURNEY] = row.journey
        offers[i, plan.OFFER_SLOT] = slot_index[row.offer.channel, row.offer.placement]
        offers[i, plan.OFFER_WHEN] = row.when
        offers[i, plan.OFFER_APPLICABLE] = row.applicable
        offers[i, plan.OFFER_SUITABLE] = row.suitable
        offers[i, plan.OFFER_TIE_RANK] = rank[i]
        offers[i, plan.OFFER_CONSENT] = row.consent
        offers[i, plan.OFFER_CONTACT] = row.contact
        offers[i, plan.OFFER_CONSENT_LEAST] = row.offer.purpose not in rows.names.granted
        offers[i, plan.OFFER_CONTEXT] = row.context
        offers[i, plan.OFFER_EXPIRES_MS] = rows.journeys[row.journey].expires_after_ms
        offers[i, plan.OFFER_TAKE_BACK_MS] = row.take_back_ms
        offers[i, plan.OFFER_CURRENCY] = row.currency
        offers[i, plan.OFFER_CAMPAIGN] = row.campaign + 1
        offers[i, plan.OFFER_DISCOUNT] = -1
        if row.discount is not None:
            offers[i, plan.OFFER_DISCOUNT] = computed
            computed += 1
        offers[i, plan.OFFER_ITEMS_STREAM] = -1
        if row.items is not None:
            offers[i, plan.OFFER_ITEMS_STREAM] = layout.index[row.items.stream]
            offers[i, plan.OFFER_ITEMS_MAX] = row.items.up_to
            offers[i, plan.OFFER_ITEMS_WINDOW] = row.items.window
        offers_f[i, plan.OFFER_F_VALUE] = row.offer.value
        offers_f[i, plan.OFFER_F_LEVER] = row.offer.lever
        offers_f[i, plan.OFFER_F_CONTEXT] = row.context_constant
        offers_f[i, plan.OFFER_F_BIAS] = row.offer.bias
    return offers, offers_f


def _discounts(rows: Rows) -> Int64Array:
    """In the order of the offers that have one."""
    found = [row.discount for row in rows.offers if row.discount is not None]
    return _table([[d.program, d.scale, d.min, d.max, d.step] for d in found], plan.DISCOUNT_WORDS)


# --- who hears, reads and watches what --------------------------------------------------------------------


def _listening(layout: Layout) -> list[tuple[int, int]]:
    """(event type, stream) for all streams that events feed."""
    pairs: list[tuple[int, int]] = []
    for stream, i in layout.index.items():
        if stream.type == plan.ANY_TYPE:
            pairs += [(code, i) for code in ACTIVITY_CODES]
        elif stream.type < plan.SENT_TYPE:
            pairs.append((stream.type, i))
    return pairs


def _keyed(row: JourneyRow, fires: bool, layout: Layout, trees: Sequence[ir.Node]) -> set[int]:
    """The keyed streams that a journey reads when it fires (limits too), or when one of its events comes."""
    programs = row.programs if fires else row.on_event
    streams = {atom.stream for program in programs for atom in ir.atoms(trees[program])}
    if fires or row.kind != plan.ON_WAIT:
        streams |= {stream for stream, _, _ in row.limits}
    return {layout.index[stream] for stream in streams if stream.by}


def _located_by_type(rows: Rows, layout: Layout, trees: Sequence[ir.Node]) -> list[tuple[int, int]]:
    """(event type, keyed stream) for all that the type's journeys may read by product or category."""
    pairs: set[tuple[int, int]] = set()
    for row in rows.journeys:
        keyed = _keyed(row, False, layout, trees)
        pairs |= {(code, stream) for code in row.types for stream in keyed}
    return sorted(pairs)


def _customer_programs(rows: Rows) -> list[int]:
    """The programs of segments and stages."""
    return sorted({*rows.segments, *(row.when for row in rows.stages)} - {-1})


def _watch(rows: Rows, trees: Sequence[ir.Node]) -> Uint8Array:
    """1 for every event type that may change a segment or stage by coming."""
    codes: set[int] = set()
    for program in _customer_programs(rows):
        tree = trees[program]
        if _looks_up(tree):
            codes |= set(ALL_CODES)  # a table changes without an event of the customer
        for atom in ir.atoms(tree):
            codes |= _codes_of(rows, atom.stream)
            window = ir.window_asked(atom)
            if window <= -plan.WINDOW_SESSION_MS_MIN:
                codes |= set(ACTIVITY_CODES)
            elif window < 0:
                codes |= set(ALL_CODES)  # any event may bring another time zone
        if interpret_constant(_on_nothing(tree)):
            codes |= set(ALL_CODES)  # it holds for somebody of whom nothing is known: from the first event on
    watch = np.zeros(plan.TYPES, dtype=np.uint8)
    watch[sorted(codes)] = 1
    return watch


def _codes_of(rows: Rows, stream: ir.Stream) -> set[int]:
    """The event types that feed a stream."""
    if stream.type == plan.ANY_TYPE:
        return set(ACTIVITY_CODES)
    if stream.type >= plan.JOIN_TYPE:
        return {rows.joins[stream.type - plan.JOIN_TYPE].right}
    return {stream.type} if stream.type < plan.SENT_TYPE else set()


def _on_nothing(node: ir.Node) -> ir.Node:
    """The tree for a customer without history: in no segment, and at the first stage."""
    match node:
        case ir.Recency() | ir.Age():
            return ir.Number(plan.RECENCY_NEVER)
        case ir.Nth() | ir.Latest():
            return ir.Number(-1.0)
    if isinstance(node, (*ir.ATOM_TYPES, ir.InSegment, ir.InStage, ir.Lookup, ir.LookupIs)):
        return ir.Number(0.0)
    changed = {
        item.name: _on_nothing(value)
        for item in fields(node)
        for value in (getattr(node, item.name),)
        if isinstance(value, ir.NODE_TYPES)
    }
    return cast(ir.Node, replace(cast(Any, node), **changed)) if changed else node


def _looks_up(tree: ir.Node) -> bool:
    return any(isinstance(node, (ir.Lookup, ir.LookupIs)) for node in ir.walk(tree))


def _lookup_types(rows: Rows, trees: Sequence[ir.Node]) -> Uint8Array:
    """1 for every event type of whose journeys some program reads a table when such an event comes."""
    reads = [_looks_up(tree) for tree in trees]
    types = np.zeros(plan.TYPES, dtype=np.uint8)
    for row in rows.journeys:
        if any(reads[program] for program in row.on_event):
            types[list(row.types)] = 1
    return types


# --- small tables -----------------------------------------------------------------------------------------


def _session_tables(rows: Rows, layout: Layout) -> tuple[Int64Array, Int64Array, Int64Array]:
    """A row for each gap whose end is a trigger, and the journeys it triggers."""
    gaps = rows.gaps_ms()
    ends = np.zeros((len(gaps), plan.SESSION_WORDS), dtype=np.int64)
    pairs = []
    for j, row in enumerate(rows.journeys):
        if row.kind == plan.ON_SESSION:
            end = gaps.index(row.gap_ms)
            ends[end, plan.SESSION_STREAM] = layout.index[session_stream(row.gap_ms)]
            ends[end, plan.SESSION_GAP_MS] = row.gap_ms
            pairs.append((end, j))
    return ends, *_grouped(pairs, len(gaps))


def _checks(rows: Rows, trees: Sequence[ir.Node], layout: Layout) -> Int64Array:
    """What says when a segment or stage may change by time alone, each once."""
    found = {
        tuple(map(int, row))
        for program in _customer_programs(rows)
        for row in checks_of(trees[program], layout)
    }
    return _table([list(row) for row in sorted(found)], plan.CHECK_WORDS)


def _moments(layout: Layout) -> Int64Array:
    table = []
    for window in layout.moments:
        stream = -1
        if window <= -plan.WINDOW_SESSION_MS_MIN:
            stream = layout.index[session_stream(-window)]
        table.append([window, stream])
    return _table(table, plan.MOMENT_WORDS)


def _lookups(names: Names) -> Int64Array:
    """The fields that are read: those of a table stand behind each other in its versions, in the order of first use."""
    table = []
    used = dict.fromkeys(TABLE_NAMES, 0)
    for name, column in names.lookups:
        index = TABLE_NAMES.index(name)
        (unknown,) = (item.unknown for item in names.tables[index].fields if item.name == column)
        table.append([index, plan.VERSION_FIELDS + used[name], unknown])
        used[name] += 1
    return _table(table, plan.LOOKUP_WORDS)


def _joins(rows: Rows, layout: Layout) -> Int64Array:
    joins = np.zeros((len(rows.joins), plan.JOIN_WORDS), dtype=np.int64)
    for i, row in enumerate(rows.joins):
        joins[i, plan.JOIN_LEFT_STREAM] = layout.index[row.stream]
        joins[i, plan.JOIN_LEFT_JOURNEY] = row.left.journey
        joins[i, plan.JOIN_RIGHT_TYPE] = row.right
        joins[i, plan.JOIN_BY] = row.stream.by
        joins[i, plan.JOIN_WITHIN_MS] = row.within_ms
        joins[i, plan.JOIN_COUNT_STREAM] = layout.index.get(match_stream(i), -1)
    return joins


def _table(rows: list[list[int]], words: int) -> Int64Array:
    return np.array(rows, dtype=np.int64).reshape(-1, words)


def _grouped(pairs: Iterable[tuple[int, int]], groups: int) -> tuple[Int64Array, Int64Array]:
    """(start int64[groups + 1], values) of (group, value) pairs: values of a group ascending."""
    ordered = sorted(pairs)
    start = np.zeros(groups + 1, dtype=np.int64)
    for group, _ in ordered:
        start[group + 1] += 1
    return np.cumsum(start), np.array([value for _, value in ordered], dtype=np.int64)


def _hashes(texts: Iterable[str]) -> Int64Array:
    zero = np.uint64(0)
    return np.array([hash_text(text, zero, zero) for text in texts], dtype=np.int64)
