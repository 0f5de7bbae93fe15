"""What loaded policies ask of a deployment: events, time, state per customer, slots and offers (`segue check`).

State of a policy is what it would need alone; in all it is less, because policies share streams. Bytes are
those of the row: products and categories beyond the slots of a stream go to the shard's pool.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import numpy.typing as npt

from segue.events.money import EXPONENTS, code_letters
from segue.events.names import CHANNELS, type_name
from segue.events.time import time_text
from segue.limits import HELD_PER_CUSTOMER_MAX, HOUR_MS, MINUTE_MS, OUTSTANDING_PER_CUSTOMER_MAX
from segue.policy import ir
from segue.policy.compiled import (
    PERCENT_UNITS,
    TABLE_NAMES,
    CampaignInfo,
    CapInfo,
    CompiledPolicies,
    QuietInfo,
    contacts_text,
)
from segue.policy.load import DAYS
from segue.policy.plan import CALENDAR_MS_MAX, Layout, Need, lay_out, needs_of, session_stream
from segue_kernels import plan
from segue_kernels.pool import size_class
from segue_kernels.waits import HELD_WORDS, OUTSTANDING_WORDS, WAIT_WORDS_MAX

WORD_BYTES = 8
KIND_NAMES = {
    plan.COUNT: "times of",
    plan.SUM: "values of",
    plan.TUMBLE_COUNT: "count of",
    plan.TUMBLE_SUM: "sum of",
    plan.DISTINCT: "keys of",
    plan.TUMBLE_DISTINCT: "keys of",
    plan.DECAY: "decayed sum of",
    plan.FIRST: "first of",
    plan.SESSIONS: "sessions",
    plan.LEFT: "unmatched",
}
SINGLE = (plan.TUMBLE_COUNT, plan.TUMBLE_SUM, plan.DECAY, plan.FIRST)  # no number of entries to tell
_PERIODS = {
    plan.WINDOW_HOUR: "calendar hour",
    plan.WINDOW_DAY: "calendar day",
    plan.WINDOW_WEEK: "calendar week",
    plan.WINDOW_MONTH: "calendar month",
}
BY_NAMES = {plan.BY_NONE: "", plan.BY_PRODUCT: " by product", plan.BY_CATEGORY: " by category"}


@dataclass(frozen=True, slots=True)
class OfferReport:
    """`consent`: "email marketing", or empty if none is needed. `campaign`: of its voucher, or empty.

    granted_if_unknown   consent that is not known counts as granted
    discount             " of 5 to 20 %", of one that is computed
    items                "5 of Product Viewed", or empty if the action lists no products
    take_back            for how long the action may be taken back, or empty if it may not
    """

    journey: str
    offer: str
    slot: str
    consent: str
    granted_if_unknown: bool
    campaign: str
    discount: str
    items: str
    take_back: str


@dataclass(frozen=True, slots=True)
class PolicyReport:
    """One policy. `triggers` are the events and changes it decides on, `events` all it needs to see.

    goals     a line for each journey that has any
    waits     a line for each journey that waits, or that is decided when a session ends
    models    a line for each journey that has one
    segments, stages, joins, tables, caps, campaigns, quiet_hours, purposes   a line for each that it defines
    """

    name: str
    version: int
    digest: str
    path: str
    journeys: tuple[str, ...]
    triggers: tuple[str, ...]
    events: tuple[str, ...]
    goals: tuple[str, ...]
    waits: tuple[str, ...]
    models: tuple[str, ...]
    segments: tuple[str, ...]
    stages: tuple[str, ...]
    joins: tuple[str, ...]
    tables: tuple[str, ...]
    caps: tuple[str, ...]
    campaigns: tuple[str, ...]
    quiet_hours: tuple[str, ...]
    purposes: tuple[str, ...]
    state_bytes: int
    streams: tuple[str, ...]
    slots: tuple[str, ...]
    offers: tuple[OfferReport, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """All policies. `row_bytes` is a customer's row: header, streams, and padding to a cache line.

    caps       how many caps there are; cap_bytes: of them a customer, which is part of `state_bytes`
    held       how many actions of a customer quiet hours may hold; held_bytes: of each, at most, beside the row
    outstanding  how many actions of a customer may be taken back; outstanding_bytes: of each, beside the row
    warnings   what is allowed, and hardly meant
    """

    policies: tuple[PolicyReport, ...]
    streams: int
    state_bytes: int
    row_bytes: int
    caps: int
    cap_bytes: int
    held: int
    held_bytes: int
    outstanding: int
    outstanding_bytes: int
    warnings: tuple[str, ...]
    programs: int
    native: bool
    native_problem: str


def check(compiled: CompiledPolicies) -> Report:
    """The report of loaded policies."""
    holds = any(quiet.holds for quiet in compiled.quiet_infos)
    takes_back = bool(compiled.offers[:, plan.OFFER_TAKE_BACK_MS].any())
    return Report(
        policies=tuple(_policy(compiled, i) for i in range(len(compiled.policies))),
        streams=len(compiled.streams),
        state_bytes=_bytes(compiled.streams),
        row_bytes=compiled.row_words * WORD_BYTES,
        caps=len(compiled.caps),
        cap_bytes=_bytes(compiled.streams[compiled.streams[:, plan.STREAM_TYPE] == plan.CAP_TYPE]),
        held=HELD_PER_CUSTOMER_MAX if holds else 0,
        held_bytes=int(size_class(WAIT_WORDS_MAX + HELD_WORDS)[1]) * WORD_BYTES if holds else 0,
        outstanding=OUTSTANDING_PER_CUSTOMER_MAX if takes_back else 0,
        outstanding_bytes=int(size_class(OUTSTANDING_WORDS)[1]) * WORD_BYTES if takes_back else 0,
        warnings=(*_warnings(compiled), *_quiet_warnings(compiled)),
        programs=len(compiled.programs),
        native=compiled.native is not None,
        native_problem=compiled.native_problem,
    )


def _bytes(streams: npt.NDArray[np.int64]) -> int:
    return int(streams[:, plan.STREAM_AREA_WORDS].sum()) * WORD_BYTES


def render(report: Report) -> str:
    """The report as text for a terminal."""
    lines = []
    for policy in report.policies:
        lines += [
            f"{policy.name} version {policy.version} ({policy.path}, sha256 {policy.digest[:12]})",
            *_listed("journeys", policy.journeys),
            *_listed("decides on", policy.triggers),
            *_each("goals", policy.goals),
            *_each("waits", policy.waits),
            *_each("models", policy.models),
            *_listed("segments", policy.segments),
            *_listed("stages", policy.stages),
            *_each("joins", policy.joins),
            *_each("tables", policy.tables),
            *_each("caps", policy.caps),
            *_each("campaigns", policy.campaigns),
            *_each("quiet hours", policy.quiet_hours),
            *_each("consent", policy.purposes),
            *_listed("needs events", policy.events),
            f"  state  {policy.state_bytes:,} bytes a customer",
            *(f"    {stream}" for stream in policy.streams),
            *_listed("slots", policy.slots),
        ]
        if policy.offers:
            lines.append("  offers")
        for offer in policy.offers:
            consent = f"consent {offer.consent}" if offer.consent else "no consent needed"
            if offer.granted_if_unknown:
                consent += ", granted if unknown"
            campaign = f", voucher {offer.campaign}{offer.discount}" if offer.campaign else ""
            items = f", lists {offer.items}" if offer.items else ""
            taken_back = f", taken back for {offer.take_back}" if offer.take_back else ""
            lines.append(
                f"    {offer.journey}: {offer.offer} -> {offer.slot} ({consent}{campaign}{items}{taken_back})"
            )
    lines.append(
        f"in all: {len(report.policies)} policies, {report.streams} streams, {report.programs} programs,"
        f" {report.state_bytes:,} bytes of state in a row of {report.row_bytes:,} bytes a customer"
    )
    if report.caps:
        lines.append(f"caps: {report.caps}, {report.cap_bytes:,} bytes of it a customer")
    if report.held:
        lines.append(
            f"held through quiet hours: at most {report.held} actions a customer,"
            f" of up to {report.held_bytes:,} bytes each"
        )
    if report.outstanding:
        lines.append(
            f"that may be taken back: at most {report.outstanding} actions a customer,"
            f" of {report.outstanding_bytes:,} bytes each"
        )
    lines += [f"warning: {warning}" for warning in report.warnings]
    if report.native_problem:
        lines.append(f"no machine code, so the virtual machine runs them: {report.native_problem}")
    return "\n".join(lines)


def _listed(title: str, names: tuple[str, ...]) -> tuple[str, ...]:
    return (f"  {title}  {', '.join(names)}",) if names else ()


def _each(title: str, lines: tuple[str, ...]) -> tuple[str, ...]:
    return (f"  {title}", *(f"    {line}" for line in lines)) if lines else ()


def _policy(compiled: CompiledPolicies, policy: int) -> PolicyReport:
    info = compiled.policies[policy]
    own = [i for i, journey in enumerate(compiled.journey_infos) if journey.policy == policy]
    layout = lay_out(_needs(compiled, policy, own))
    infos = [compiled.journey_infos[i] for i in own]
    begun = {name for journey in infos for name in journey.types}
    reached = {name for journey in infos for name in journey.goals}
    triggers = begun | {change for journey in infos for change in journey.changes}
    seen = {type_name(s.type) for s in layout.index if plan.ANY_TYPE < s.type < plan.SENT_TYPE}
    seen |= {
        type_name(int(compiled.joins[_join(compiled, name), plan.JOIN_RIGHT_TYPE])) for name in info.joins
    }
    if any(stream.type == plan.ANY_TYPE for stream in layout.index):
        seen.add("all that a customer does")
    offers = tuple(
        OfferReport(
            journey=compiled.journey_infos[offer.journey].id,
            offer=offer.id,
            slot=f"{offer.channel}/{offer.placement}",
            consent=_consent(int(compiled.offers[i, plan.OFFER_CONSENT]), offer.purpose),
            granted_if_unknown=bool(
                compiled.offers[i, plan.OFFER_CONSENT] >= 0
                and not compiled.offers[i, plan.OFFER_CONSENT_LEAST]
            ),
            campaign=offer.voucher.campaign if offer.voucher else "",
            discount=_discount(compiled, i),
            items=_items(compiled, i),
            take_back=_taken_back(compiled, i),
        )
        for i, offer in enumerate(compiled.offer_infos)
        if offer.journey in own
    )
    return PolicyReport(
        name=info.name,
        version=info.version,
        digest=info.digest,
        path=info.path,
        journeys=tuple(compiled.journey_infos[i].id for i in own),
        triggers=tuple(sorted(triggers)),
        events=tuple(sorted(begun | seen | reached)),
        goals=tuple(f"{each.id}: {', '.join(each.goals)}" for each in infos if each.goals),
        waits=tuple(line for i in own for line in _waits(compiled, i)),
        models=tuple(
            f"{each.id}: {each.model_name} version {each.model_version}, {len(each.feature_names)} features"
            for each in infos
            if each.model_name
        ),
        segments=info.segments,
        stages=tuple(_stage(compiled, name) for name in info.stages),
        joins=tuple(_joined(compiled, name) for name in info.joins),
        tables=tuple(_table(compiled, name) for name in info.tables),
        caps=tuple(_cap(cap) for cap in compiled.cap_infos if cap.policy == policy),
        campaigns=tuple(
            _campaign(campaign) for campaign in compiled.campaign_infos if campaign.policy == policy
        ),
        quiet_hours=tuple(_quiet(quiet) for quiet in compiled.quiet_infos if quiet.policy == policy),
        purposes=tuple(f"{name}: {unknown} where nothing is known" for name, unknown in info.purposes),
        state_bytes=_bytes(layout.streams),
        streams=tuple(_stream(compiled, layout, stream) for stream in layout.index),
        slots=tuple(sorted({offer.slot for offer in offers})),
        offers=offers,
    )


def _needs(compiled: CompiledPolicies, policy: int, journeys: list[int]) -> Iterator[Need]:
    """All that a policy asks of streams: its programs, limits, lists, sessions, joins and caps."""
    info = compiled.policies[policy]
    programs = {int(compiled.segments[compiled.segment_ids.index(name), 0]) for name in info.segments}
    programs |= {
        int(compiled.stages[compiled.stage_ids.index(name), plan.STAGE_WHEN]) for name in info.stages
    }
    for journey in journeys:
        row = compiled.journeys[journey]
        start, count = row[plan.JOURNEY_FEATURES_START], row[plan.JOURNEY_FEATURES_COUNT]
        programs |= {int(row[plan.JOURNEY_WHEN]), *map(int, compiled.features[start : start + count])}
        if row[plan.JOURNEY_KIND] == plan.ON_WAIT:
            programs.add(int(row[plan.JOURNEY_STILL]))
        if row[plan.JOURNEY_KIND] == plan.ON_SESSION:
            gap_ms = int(compiled.session_ends[row[plan.JOURNEY_SESSION], plan.SESSION_GAP_MS])
            yield Need(session_stream(gap_ms), 1, 0)
        for offer in compiled.offers[row[plan.JOURNEY_OFFERS_START] : row[plan.JOURNEY_OFFERS_END]]:
            programs |= {
                int(offer[word])
                for word in (
                    plan.OFFER_WHEN,
                    plan.OFFER_APPLICABLE,
                    plan.OFFER_SUITABLE,
                    plan.OFFER_CONTEXT,
                )
            }
            if offer[plan.OFFER_ITEMS_STREAM] >= 0:
                yield Need(
                    _stream_of(compiled, int(offer[plan.OFFER_ITEMS_STREAM])),
                    int(offer[plan.OFFER_ITEMS_MAX]),
                    int(offer[plan.OFFER_ITEMS_WINDOW]),
                    plan.STREAM_FLAG_NAMES,
                )
        for limit in compiled.limits[row[plan.JOURNEY_LIMITS_START] : row[plan.JOURNEY_LIMITS_END]]:
            yield Need(
                _stream_of(compiled, int(limit[plan.LIMIT_STREAM])),
                int(limit[plan.LIMIT_TIMES]),
                int(limit[plan.LIMIT_WINDOW_MS]),
            )
    for program in sorted(programs - {-1}):
        yield from needs_of(compiled.programs[program])
    for name in info.joins:
        row = compiled.joins[_join(compiled, name)]
        left = int(row[plan.JOIN_LEFT_STREAM])
        yield Need(
            _stream_of(compiled, left),
            int(compiled.streams[left, plan.STREAM_K]),
            int(row[plan.JOIN_WITHIN_MS]),
        )
    for cap, row in zip(compiled.cap_infos, compiled.caps, strict=True):
        if cap.policy == policy:
            yield Need(_stream_of(compiled, int(row[plan.CAP_STREAM])), cap.times, _longest_ms(cap.window))


def _stream_of(compiled: CompiledPolicies, index: int) -> ir.Stream:
    row = compiled.streams[index]
    return ir.Stream(
        by=int(row[plan.STREAM_BY]),
        type=int(row[plan.STREAM_TYPE]),
        kind=int(row[plan.STREAM_KIND]),
        field=int(row[plan.STREAM_FIELD]),
        currency=int(row[plan.STREAM_CURRENCY]),
        every_ms=int(row[plan.STREAM_WIDTH_MS]),
        source=int(row[plan.STREAM_SOURCE]),
    )


def _waits(compiled: CompiledPolicies, journey: int) -> Iterator[str]:
    """ "cart: 30m, 1d and 3d after Product Added by product; begins anew with a further one"."""
    info, row = compiled.journey_infos[journey], compiled.journeys[journey]
    if info.kind == plan.ON_SESSION:
        gap_ms = int(compiled.session_ends[row[plan.JOURNEY_SESSION], plan.SESSION_GAP_MS])
        yield f"{info.id}: when a session ends, {_duration(gap_ms)} after the last thing done"
    if info.kind == plan.ON_WAIT:
        waits = compiled.waits[row[plan.JOURNEY_WAITS_START] : row[plan.JOURNEY_WAITS_END]]
        lengths = [_duration(int(wait)) for wait in waits]
        after = " and ".join([", ".join(lengths[:-1]), lengths[-1]] if len(lengths) > 1 else lengths)
        by = BY_NAMES[int(row[plan.JOURNEY_BY])]
        anew = "; begins anew with a further one" if row[plan.JOURNEY_RESTART] else ""
        yield f"{info.id}: {after} after {' or '.join(info.types)}{by}{anew}"


def _stage(compiled: CompiledPolicies, name: str) -> str:
    """ "decision (from search)"; the first one: "new (the beginning)"."""
    index = compiled.stage_ids.index(name)
    sources = int(compiled.stages[index, plan.STAGE_FROM])
    before = " or ".join(stage for s, stage in enumerate(compiled.stage_ids) if sources >> s & 1)
    parts = ["the beginning"] * (index == 0) + [f"from {before}"] * bool(before)
    return f"{name} ({', '.join(parts)})"


def _join(compiled: CompiledPolicies, name: str) -> int:
    return compiled.join_ids.index(name)


def _joined(compiled: CompiledPolicies, name: str) -> str:
    """ "click-order: Order Completed credits Email Link Clicked by product within 7d"."""
    row = compiled.joins[_join(compiled, name)]
    journey = int(row[plan.JOIN_LEFT_JOURNEY])
    if journey >= 0:
        left = f"an action of {compiled.journey_infos[journey].id}"
    elif journey == plan.JOIN_LEFT_ANY_ACTION:
        left = "any action"
    else:
        left = type_name(int(compiled.streams[row[plan.JOIN_LEFT_STREAM], plan.STREAM_TYPE]))
    right, within = type_name(int(row[plan.JOIN_RIGHT_TYPE])), _duration(int(row[plan.JOIN_WITHIN_MS]))
    return f"{name}: {right} credits {left}{BY_NAMES[int(row[plan.JOIN_BY])]} within {within}"


def _table(compiled: CompiledPolicies, name: str) -> str:
    fields = compiled.tables[TABLE_NAMES.index(name)].fields
    return f"{name}: {', '.join(f'{field.name} ({field.kind})' for field in fields)}"


def _cap(cap: CapInfo) -> str:
    """ "email-week: at most 3 on email for marketing within 7d"."""
    return f"{cap.id}: at most {cap.times} {contacts_text(cap.contacts)} {_cap_window(cap.window)}"


def _quiet(quiet: QuietInfo) -> str:
    """ "night: 21:00 to 08:00 on email, push for marketing, beginning on mon, fri; what would be sent is dropped"."""
    days = [day for d, day in enumerate(DAYS) if quiet.days >> d & 1]
    on = "" if len(days) == len(DAYS) else f", beginning on {', '.join(days)}"
    times = f"{_time_of_day(quiet.from_ms)} to {_time_of_day(quiet.to_ms)}"
    then = "held" if quiet.holds else "dropped"
    return f"{quiet.id}: {times} {contacts_text(quiet.contacts)}{on}; what would be sent is {then}"


def _time_of_day(milliseconds: int) -> str:
    return f"{milliseconds // HOUR_MS:02}:{milliseconds % HOUR_MS // MINUTE_MS:02}"


def _cap_window(window: int) -> str:
    return f"within {_duration(window)}" if window > 0 else f"a {_PERIODS[window]}"


def _campaign(campaign: CampaignInfo) -> str:
    """ "spring: 5.00 EUR off, valid 14d, at most 500 and 2,500.00 EUR, 1 a customer, from 2026-03-01T00:00:00.000Z to
    …"."""
    terms = campaign.terms
    letters = code_letters(terms.currency)

    def money(minor: int) -> str:
        return f"{Decimal(minor).scaleb(-EXPONENTS[letters]):,f} {letters}"

    off = f"{terms.percent / PERCENT_UNITS:g}% off, at most " if terms.percent else ""
    bounds = [
        *([f"{terms.budget:,} vouchers"] if terms.budget >= 0 else []),
        *([money(terms.budget_minor)] if terms.budget_minor >= 0 else []),
        *([f"{terms.per_day:,} a day"] if terms.per_day else []),
        *([f"{terms.per_customer:,} a customer"] if terms.per_customer else []),
    ]
    parts = [
        f"{off}{money(terms.depth_minor)}{'' if terms.percent else ' off'}",
        f"valid {_duration(terms.valid_ms)}",
        *([f"baskets from {money(terms.basket_min_minor)}"] if terms.basket_min_minor else []),
        f"at most {', '.join(bounds)}" if bounds else "without a bound",
        f"from {time_text(terms.start_ms)} to {time_text(terms.end_ms)}",
    ]
    return f"{campaign.id}: {', '.join(parts)}"


def _longest_ms(window: int) -> int:
    """How long a cap's window is, at most."""
    return CALENDAR_MS_MAX.get(window, window)


def _warnings(compiled: CompiledPolicies) -> Iterator[str]:
    """Caps that never matter: another one is always reached first, or no offer is under them."""
    used = {int(contact) for contact in compiled.offers[:, plan.OFFER_CONTACT]}
    for cap in compiled.cap_infos:
        at = f"{compiled.policies[cap.policy].path}: `{cap.path}`: `{cap.id}`, times = {cap.times}"
        stronger = [other for other in compiled.cap_infos if other is not cap and _is_stronger(other, cap)]
        if stronger:
            yield (
                f"{at}, never matters: `{_cap(stronger[0])}` is always reached first"
                f" (lower `times` to less than {stronger[0].times}, or leave it out)"
            )
        elif used and not any(cap.contacts >> contact & 1 for contact in used):
            yield f"{at}: no offer is sent {contacts_text(cap.contacts)} (see its channels and purposes)"


def _quiet_warnings(compiled: CompiledPolicies) -> Iterator[str]:
    """Quiet hours that no offer is under."""
    used = {int(contact) for contact in compiled.offers[:, plan.OFFER_CONTACT]}
    for quiet in compiled.quiet_infos:
        if used and not any(quiet.contacts >> contact & 1 for contact in used):
            at = f"{compiled.policies[quiet.policy].path}: `{quiet.path}`: `{quiet.id}`"
            yield f"{at}: no offer is sent {contacts_text(quiet.contacts)} (see its channels and purposes)"


def _is_stronger(one: CapInfo, other: CapInfo) -> bool:
    """Whether all that `other` forbids, `one` forbids: it counts at least the same actions, for at least as long."""
    counts_all = other.contacts & ~one.contacts == 0
    return counts_all and one.times <= other.times and _contains(one.window, other.window)


def _contains(window: int, other: int) -> bool:
    """Whether what lies together in any window of one kind lies in one of the other kind too."""
    if window > 0:
        return window >= _longest_ms(other)
    wider = {
        plan.WINDOW_HOUR: (plan.WINDOW_DAY, plan.WINDOW_WEEK, plan.WINDOW_MONTH),
        plan.WINDOW_DAY: (plan.WINDOW_WEEK, plan.WINDOW_MONTH),
    }
    return window == other or window in wider.get(other, ())


def _items(compiled: CompiledPolicies, offer: int) -> str:
    row = compiled.offers[offer]
    if row[plan.OFFER_ITEMS_STREAM] < 0:
        return ""
    code = int(compiled.streams[row[plan.OFFER_ITEMS_STREAM], plan.STREAM_TYPE])
    return f"{row[plan.OFFER_ITEMS_MAX]} of {type_name(code)}"


def _taken_back(compiled: CompiledPolicies, offer: int) -> str:
    lasts_ms = int(compiled.offers[offer, plan.OFFER_TAKE_BACK_MS])
    return _duration(lasts_ms) if lasts_ms else ""


def _discount(compiled: CompiledPolicies, offer: int) -> str:
    voucher = compiled.offer_infos[offer].voucher
    row = int(compiled.offers[offer, plan.OFFER_DISCOUNT])
    if row < 0 or voucher is None:
        return ""
    scale, least, most = compiled.discounts[
        row, [plan.DISCOUNT_SCALE, plan.DISCOUNT_MIN, plan.DISCOUNT_MAX]
    ].tolist()
    return f" of {least / scale:g} to {most / scale:g} {'%' if voucher.is_percent else voucher.currency}"


def _consent(code: int, purpose: str) -> str:
    return "" if code < 0 else f"{CHANNELS[code // 2]} {purpose}"


def _stream(compiled: CompiledPolicies, layout: Layout, stream: ir.Stream) -> str:
    """A line about a stream: "3 times of Product Viewed by product within 30m: 264 bytes"."""
    row = layout.streams[layout.index[stream]]
    if stream.type == plan.ANY_TYPE:
        what = ""
    elif stream.kind == plan.LEFT:
        what = f" left sides of {compiled.join_ids[stream.field - 1]}"
    elif stream.type >= plan.JOIN_TYPE:
        what = f" matches of {compiled.join_ids[stream.type - plan.JOIN_TYPE]}"
    elif stream.type == plan.CAP_TYPE:
        what = f" actions {contacts_text(stream.field)}"
    elif stream.type >= plan.SENT_TYPE:
        what = f" actions of {compiled.journey_infos[stream.type - plan.SENT_TYPE].id}"
    else:
        what = f" {type_name(stream.type)}"
    source = " of one source" if stream.source else ""
    named = KIND_NAMES[stream.kind]
    if stream.kind == plan.DECAY and not stream.field:
        named = "decayed count of"
    kept = "" if stream.kind in SINGLE else f"{row[plan.STREAM_K]} "
    area = int(row[plan.STREAM_AREA_WORDS]) * WORD_BYTES
    return f"{kept}{named}{what}{BY_NAMES[stream.by]}{source} {_window(stream, row)}: {area:,} bytes"


def _window(stream: ir.Stream, row: npt.NDArray[np.int64]) -> str:
    if stream.kind == plan.DECAY:
        return f"halved each {_duration(stream.every_ms)}"
    if stream.kind == plan.SESSIONS:
        return f"apart by {_duration(stream.every_ms)}"
    window_ms = int(row[plan.STREAM_WINDOW_MS])
    if not window_ms:
        return "ever"
    return f"every {_duration(window_ms)}" if stream.every_ms else f"within {_duration(window_ms)}"


def _duration(milliseconds: int) -> str:
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)):
        if milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"
