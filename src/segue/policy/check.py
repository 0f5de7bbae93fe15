"""What loaded policies ask of a deployment: events, state per customer, slots and offers (`segue check`).

State of a policy is what it would need alone; in all it is less, because policies share streams. Bytes are
those of the row: products and categories beyond the slots of a stream go to the shard's pool.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from segue.events.names import CHANNELS, type_name
from segue.policy import ir
from segue.policy.compiled import CompiledPolicies
from segue.policy.plan import Layout, Need, lay_out, needs_of
from segue_kernels import plan

WORD_BYTES = 8
KIND_NAMES = {
    plan.COUNT: "times of",
    plan.SUM: "values of",
    plan.TUMBLE_COUNT: "count of",
    plan.TUMBLE_SUM: "sum of",
    plan.DISTINCT: "keys of",
    plan.TUMBLE_DISTINCT: "keys of",
}
BY_NAMES = {plan.BY_NONE: "", plan.BY_PRODUCT: " by product", plan.BY_CATEGORY: " by category"}


@dataclass(frozen=True, slots=True)
class OfferReport:
    """`consent`: "email marketing", or empty if none is needed. `campaign`: of its voucher, or empty."""

    journey: str
    offer: str
    slot: str
    consent: str
    campaign: str


@dataclass(frozen=True, slots=True)
class PolicyReport:
    """One policy. `triggers` are the events it decides on, `events` all it needs to see."""

    name: str
    version: int
    digest: str
    path: str
    journeys: tuple[str, ...]
    triggers: tuple[str, ...]
    events: tuple[str, ...]
    state_bytes: int
    streams: tuple[str, ...]
    slots: tuple[str, ...]
    offers: tuple[OfferReport, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """All policies. `row_bytes` is a customer's row: header, streams, and padding to a cache line."""

    policies: tuple[PolicyReport, ...]
    streams: int
    state_bytes: int
    row_bytes: int
    programs: int
    native: bool
    native_problem: str


def check(compiled: CompiledPolicies) -> Report:
    """The report of loaded policies."""
    return Report(
        policies=tuple(_policy(compiled, i) for i in range(len(compiled.policies))),
        streams=len(compiled.streams),
        state_bytes=int(compiled.streams[:, plan.STREAM_AREA_WORDS].sum()) * WORD_BYTES,
        row_bytes=compiled.row_words * WORD_BYTES,
        programs=len(compiled.programs),
        native=compiled.native is not None,
        native_problem=compiled.native_problem,
    )


def render(report: Report) -> str:
    """The report as text for a terminal."""
    lines = []
    for policy in report.policies:
        lines += [
            f"{policy.name} version {policy.version} ({policy.path}, sha256 {policy.digest[:12]})",
            f"  journeys  {', '.join(policy.journeys)}",
            f"  decides on  {', '.join(policy.triggers)}",
            f"  needs events  {', '.join(policy.events)}",
            f"  state  {policy.state_bytes:,} bytes a customer",
            *(f"    {stream}" for stream in policy.streams),
            f"  slots  {', '.join(policy.slots)}",
            "  offers",
        ]
        for offer in policy.offers:
            consent = f"consent {offer.consent}" if offer.consent else "no consent needed"
            campaign = f", voucher {offer.campaign}" if offer.campaign else ""
            lines.append(f"    {offer.journey}: {offer.offer} -> {offer.slot} ({consent}{campaign})")
    lines.append(
        f"in all: {len(report.policies)} policies, {report.streams} streams, {report.programs} programs,"
        f" {report.state_bytes:,} bytes of state in a row of {report.row_bytes:,} bytes a customer"
    )
    if report.native_problem:
        lines.append(f"no machine code, so the virtual machine runs them: {report.native_problem}")
    return "\n".join(lines)


def _policy(compiled: CompiledPolicies, policy: int) -> PolicyReport:
    info = compiled.policies[policy]
    own = [i for i, journey in enumerate(compiled.journey_infos) if journey.policy == policy]
    layout = lay_out(need for journey in own for need in _needs(compiled, journey))
    triggers = {name for i in own for name in compiled.journey_infos[i].types}
    seen = {type_name(s.type) for s in layout.index if s.type < plan.SENT_TYPE}
    offers = tuple(
        OfferReport(
            journey=compiled.journey_infos[offer.journey].id,
            offer=offer.id,
            slot=f"{offer.channel}/{offer.placement}",
            consent=_consent(int(compiled.offers[i, plan.OFFER_CONSENT]), offer.purpose),
            campaign=offer.voucher.campaign if offer.voucher else "",
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
        events=tuple(sorted(triggers | seen)),
        state_bytes=int(layout.streams[:, plan.STREAM_AREA_WORDS].sum()) * WORD_BYTES,
        streams=tuple(_stream(compiled, layout, stream) for stream in layout.index),
        slots=tuple(sorted({offer.slot for offer in offers})),
        offers=offers,
    )


def _needs(compiled: CompiledPolicies, journey: int) -> Iterator[Need]:
    """All that a journey's programs and limits ask of streams."""
    row = compiled.journeys[journey]
    start, count = row[plan.JOURNEY_FEATURES_START], row[plan.JOURNEY_FEATURES_COUNT]
    programs = {int(row[plan.JOURNEY_WHEN]), *map(int, compiled.features[start : start + count])}
    for offer in compiled.offers[row[plan.JOURNEY_OFFERS_START] : row[plan.JOURNEY_OFFERS_END]]:
        programs |= {int(offer[plan.OFFER_WHEN]), int(offer[plan.OFFER_CONTEXT])}
    for program in programs - {-1}:
        yield from needs_of(compiled.programs[program])
    for limit in compiled.limits[row[plan.JOURNEY_LIMITS_START] : row[plan.JOURNEY_LIMITS_END]]:
        stream = compiled.streams[limit[plan.LIMIT_STREAM]]
        sent = ir.Stream(int(stream[plan.STREAM_BY]), int(stream[plan.STREAM_TYPE]), plan.COUNT)
        yield Need(sent, int(limit[plan.LIMIT_TIMES]), int(limit[plan.LIMIT_WINDOW_MS]))


def _consent(code: int, purpose: str) -> str:
    return "" if code < 0 else f"{CHANNELS[code // 2]} {purpose}"


def _stream(compiled: CompiledPolicies, layout: Layout, stream: ir.Stream) -> str:
    """A line about a stream: "3 times of Product Viewed by product within 30m: 264 bytes"."""
    row = layout.streams[layout.index[stream]]
    if stream.type >= plan.SENT_TYPE:
        what = f"actions of {compiled.journey_infos[stream.type - plan.SENT_TYPE].id}"
    else:
        what = type_name(stream.type)
    window_ms = int(row[plan.STREAM_WINDOW_MS])
    window = f"every {_duration(window_ms)}" if stream.every_ms else f"within {_duration(window_ms)}"
    if not window_ms:
        window = "ever"
    kept = "" if stream.kind in (plan.TUMBLE_COUNT, plan.TUMBLE_SUM) else f"{row[plan.STREAM_K]} "
    area = int(row[plan.STREAM_AREA_WORDS]) * WORD_BYTES
    return f"{kept}{KIND_NAMES[stream.kind]} {what}{BY_NAMES[stream.by]} {window}: {area:,} bytes"


def _duration(milliseconds: int) -> str:
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)):
        if milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"
