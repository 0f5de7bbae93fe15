"""What a run did, for people and as summary.json."""

from __future__ import annotations

import msgspec
from rich.console import Console
from rich.table import Table

from segue import __version__
from segue.policy.compiled import CompiledPolicies
from segue.summary import Part

SUMMARY_FILE = "summary.json"


class JourneySummary(msgspec.Struct, frozen=True):
    """Actions of one journey."""

    policy: str
    version: int
    journey: str
    actions: int


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A finished run. Every event read is one of: decided on, late, duplicate, quarantined, about_nobody.

    events        that could be read; dead letters are not among them
    about_nobody  without a customer: prices, stock
    unknown_zones events whose time zone nobody knows; they count all the same
    ahead         of the events: dated too far ahead of their arrival, and set to it (live runs)
    timers_fired  waits and ends of sessions that came due
    changes       segments entered or left, stages entered
    withdrawn     actions taken back
    credits       left events of joins that were credited with a right one
    decisions     slots that had candidates; actions are those with a winner
    bounds        how often a bound of the state was met
    """

    version: str
    events: int
    customers: int
    state_bytes: int
    state_bytes_per_customer: int
    decisions: int
    actions: int
    actions_by_channel: dict[str, int]
    actions_by_journey: list[JourneySummary]
    dead_letters: int
    late: int
    duplicates: int
    quarantined: int
    about_nobody: int
    unknown_zones: int
    ahead: int
    timers_fired: int
    changes: int
    credits: int
    withdrawn: int
    customers_merged: int
    bounds: dict[str, int]
    processes: int
    seconds: float
    events_per_second: float
    policies_digest: str


_BOUNDS = (
    "dedupe_overflow",
    "sum_bound_met",
    "keys_spilled",
    "customers_evicted",
    "quarantines",
    "timers_quarantined",
    "waits_refused",
    "held_refused",
    "outstanding_dropped",
    "join_bound_met",
    "sequence_bound_met",
    "session_bound_met",
    "names_missing",
    "unknown_keys",
    "table_versions_dropped",
)


def summarise(part: Part, policies: CompiledPolicies, seconds: float, processes: int) -> Summary:
    """The parts that partitions and shards counted, with the policies' names."""
    channels = {offer.channel: 0 for offer in policies.offer_infos}
    journeys = [0] * len(policies.journey_infos)
    for index, count in part.offers.items():
        offer = policies.offer_infos[index]
        channels[offer.channel] += count
        journeys[offer.journey] += count
    counters = part.counters
    return Summary(
        version=__version__,
        events=part.events,
        customers=part.customers,
        state_bytes=part.state_bytes,
        state_bytes_per_customer=round(part.state_bytes / part.customers) if part.customers else 0,
        decisions=counters.get("decisions", 0),
        actions=sum(journeys),
        actions_by_channel=dict(sorted(channels.items())),
        actions_by_journey=[
            JourneySummary(
                policies.policies[info.policy].name, policies.policies[info.policy].version, info.id, count
            )
            for info, count in zip(policies.journey_infos, journeys, strict=True)
        ],
        dead_letters=part.dead_letters,
        late=part.late,
        duplicates=counters.get("duplicates", 0),
        quarantined=counters.get("quarantined_events", 0),
        about_nobody=part.about_nobody,
        unknown_zones=counters.get("unknown_zones", 0),
        ahead=part.ahead,
        timers_fired=counters.get("timers_fired", 0),
        changes=counters.get("changes", 0),
        credits=counters.get("credits", 0),
        withdrawn=counters.get("withdrawn", 0),
        customers_merged=counters.get("customers_merged", 0),
        bounds={name: counters[name] for name in _BOUNDS if name in counters},
        processes=processes,
        seconds=round(seconds, 3),
        events_per_second=round(part.events / seconds) if seconds > 0 else 0.0,
        policies_digest=policies.digest,
    )


def show(summary: Summary, console: Console, out: str) -> None:
    """The summary as a table."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column()
    rate = f"{summary.events_per_second:,.0f} events/s in {summary.seconds:,.1f} s"
    _row(table, "events", summary.events, rate)
    _row(table, "customers", summary.customers, f"{summary.state_bytes_per_customer:,} bytes of state each")
    if summary.customers_merged:
        _row(table, "  recognised later", summary.customers_merged, "anonymous before")
    _row(table, "actions", summary.actions, f"out of {summary.decisions:,} decisions")
    for channel, count in summary.actions_by_channel.items():
        _row(table, f"  {channel}", count, "")
    for row in summary.actions_by_journey:
        _row(table, f"  {row.journey}", row.actions, f"{row.policy} version {row.version}")
    for name, number, note in (
        ("timers", summary.timers_fired, "waits and sessions that came due"),
        ("changes", summary.changes, "of segments and stages"),
        ("credits", summary.credits, "joins that matched"),
        ("withdrawn", summary.withdrawn, "actions taken back"),
    ):
        if number:
            _row(table, name, number, note)
    _row(table, "dead letters", summary.dead_letters, "")
    _row(table, "late", summary.late, "")
    _row(table, "duplicates", summary.duplicates, "")
    _row(table, "quarantined", summary.quarantined, "")
    if summary.ahead:
        _row(table, "ahead", summary.ahead, "of their arrival, and set to it")
    if summary.about_nobody:
        _row(table, "about nobody", summary.about_nobody, "prices and stock")
    if summary.unknown_zones:
        _row(table, "unknown time zones", summary.unknown_zones, "taken as the default one")
    console.print(table)
    console.print(f"results in {out}", style="dim", soft_wrap=True, markup=False)


def _row(table: Table, name: str, number: int, note: str) -> None:
    table.add_row(name, f"{number:,}", f"[dim]{note}[/dim]" if note else "")
