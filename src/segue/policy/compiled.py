"""Compiled policies are plain tables: whatever runs them needs no other part of this package.

Columns and constants of the tables: segue_kernels/plan.py. The lists beside the tables are for people and
for messages: row i of `journeys` belongs to `journey_infos[i]`, and so on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from segue.events.names import CHANNELS, PURPOSES
from segue.vouchers.campaign import Terms

if TYPE_CHECKING:
    from segue.policy.ir import Node
    from segue.policy.native import NativePrograms

Int64Array = npt.NDArray[np.int64]
Float64Array = npt.NDArray[np.float64]
Uint8Array = npt.NDArray[np.uint8]

PERCENT_UNITS = 100  # of a percent, in which a computed one is counted
TABLE_NAMES = ("catalogue", "price", "stock", "profile")  # in the order of plan.TABLE_*


@dataclass(frozen=True, slots=True)
class PolicyInfo:
    """One policy file. `digest`: SHA-256 of its bytes in hex. `path`: where it came from.

    segments, stages, joins, tables, caps, campaigns, quiet_hours   ids of those it defines
    purposes   (id, "granted" or "withheld"): what counts as consent where nothing is known
    """

    name: str
    version: int
    digest: str
    title: str
    path: str
    currency: str
    segments: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    joins: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    caps: tuple[str, ...] = ()
    campaigns: tuple[str, ...] = ()
    quiet_hours: tuple[str, ...] = ()
    purposes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class JourneyInfo:
    """One journey. `kind`: plan.ON_*; `steps`: of its actions, more than 1 if it waits several times.

    types    events it is decided on, or that begin its wait
    changes  'entered("loyal")' ... that it is decided on
    """

    id: str
    kind: int
    steps: int
    policy: int  # index into `policies`
    types: tuple[str, ...]
    changes: tuple[str, ...]
    expires_after_ms: int
    goals: tuple[str, ...]  # events
    model_name: str
    model_version: str
    feature_names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TableField:
    """A column of a reference table. `kind`: "number" or "text"; `unknown`: the word for a key that is not there."""

    name: str
    kind: str
    unknown: int


@dataclass(frozen=True, slots=True)
class TableInfo:
    """A reference table and the fields that are declared; those that are read have a row in `lookups`."""

    name: str
    fields: tuple[TableField, ...]


@dataclass(frozen=True, slots=True)
class VoucherInfo:
    """The campaign an offer draws its voucher from. Its discount: percent, or an amount in minor units; both None where
    an action says what was computed for it, `is_percent` or an amount."""

    campaign: str
    discount_percent: float | None
    discount_amount_minor: int | None
    is_percent: bool
    currency: str
    valid_for_ms: int
    stack_group: str


@dataclass(frozen=True, slots=True)
class CampaignInfo:
    """One campaign: what the ledger of vouchers keeps to. `path`: where it stands in the file of its policy."""

    id: str
    policy: int  # index into `policies`
    path: str
    title: str
    stack_group: str
    terms: Terms


@dataclass(frozen=True, slots=True)
class OfferInfo:
    """One offer of one journey (index into `journey_infos`)."""

    id: str
    journey: int
    variant: str
    channel: str
    placement: str
    purpose: str
    voucher: VoucherInfo | None


def contacts_text(contacts: int) -> str:
    """The sends that a cap counts (bit channel * 2 + purpose): "on email, push for marketing"."""
    channels = [name for c, name in enumerate(CHANNELS) if contacts >> c * len(PURPOSES) & 0b11]
    purposes = [
        name
        for p, name in enumerate(PURPOSES)
        if any(contacts >> c * len(PURPOSES) + p & 1 for c in range(len(CHANNELS)))
    ]
    on = "all channels" if len(channels) == len(CHANNELS) else ", ".join(channels)
    return f"on {on}" + ("" if len(purposes) == len(PURPOSES) else f" for {', '.join(purposes)}")


@dataclass(frozen=True, slots=True)
class CapInfo:
    """One cap: at most `times` sends with one of `contacts` (bit channel * 2 + purpose) in `window` (plan.CAP_WINDOW).

    channels, purposes  () = all
    path                where it stands in the file of its policy
    """

    id: str
    policy: int  # index into `policies`
    path: str
    times: int
    window: int
    contacts: int
    channels: tuple[str, ...]
    purposes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class QuietInfo:
    """Quiet hours on sends with one of `contacts`: times of the local day in ms, `days` on which they begin (bit 0 =
    Monday), and whether what would be sent is held (else dropped)."""

    id: str
    policy: int  # index into `policies`
    path: str
    contacts: int
    from_ms: int
    to_ms: int
    days: int
    holds: bool


@dataclass(frozen=True, slots=True)
class CompiledPolicies:
    """All policies of a deployment as tables; equal files in any order give equal tables.

    Shapes are those of segue_kernels/plan.py; `*_start` arrays have one entry more than what they index:
    rows of x are [x_start[i], x_start[i + 1]).
    """

    streams: Int64Array  # [n, 16]
    listen_start: Int64Array  # [257]
    listen: Int64Array  # stream indexes, by event type
    trigger_start: Int64Array  # [257]
    trigger: Int64Array  # journey indexes, ascending, by event type
    locate_start: Int64Array  # [257]
    locate: Int64Array  # keyed stream indexes, by event type
    journey_locate_start: Int64Array  # [journeys + 1]
    journey_locate: Int64Array  # keyed stream indexes that a journey reads when a timer or a change fires it
    journeys: Int64Array  # [n, 20]
    journeys_f: Float64Array  # [n, 2]
    offers: Int64Array  # [n, 20]
    offers_f: Float64Array  # [n, 4]
    discounts: Int64Array  # [n, 5]
    limits: Int64Array  # [n, 4]
    caps: Int64Array  # [n, 4]
    cap_start: Int64Array  # [17]
    cap: Int64Array  # cap indexes by the contact of a send
    charge_start: Int64Array  # [17]
    charge: Int64Array  # stream indexes by the contact of a send
    quiet: Int64Array  # [n, 5]
    goal_start: Int64Array  # [257]
    goal: Int64Array  # journey indexes, ascending, by the type of their goals
    features: Int64Array  # [n] program indexes
    weights: Float64Array  # [n]
    slot_hash: Int64Array  # [n] siphash64 of "channel/placement", zero key
    journey_hash: Int64Array  # [n] siphash64 of the journey's id, zero key
    offer_hash: Int64Array  # [n] siphash64 of the offer's id, zero key
    program_start: Int64Array  # [n + 1] rows of `code`
    code: Int64Array  # [n, 6]
    constants: Float64Array
    program_address: Int64Array  # [n] native function, 0 = run it in the virtual machine
    waits: Int64Array  # [n] delays in ms
    watch: Uint8Array  # [256]
    segments: Int64Array  # [n, 2]
    stages: Int64Array  # [n, 2]
    checks: Int64Array  # [n, 5]
    change_start: Int64Array  # [changes + 1]
    change: Int64Array  # journey indexes, ascending, by change
    session_ends: Int64Array  # [n, 3]
    session_start: Int64Array  # [n + 1]
    session: Int64Array  # journey indexes, ascending, by session end
    moments: Int64Array  # [n, 3]
    lookups: Int64Array  # [n, 4]
    lookup_types: Uint8Array  # [256]
    joins: Int64Array  # [n, 8]
    join_start: Int64Array  # [257]
    join: Int64Array  # join indexes by the type of their right event
    row_words: int  # of a customer: header and areas, a multiple of 8

    policies: tuple[PolicyInfo, ...]
    journey_infos: tuple[JourneyInfo, ...]
    offer_infos: tuple[OfferInfo, ...]
    slots: tuple[tuple[str, str], ...]  # (channel, placement)
    segment_ids: tuple[str, ...]
    stage_ids: tuple[str, ...]
    join_ids: tuple[str, ...]
    cap_infos: tuple[CapInfo, ...]
    campaign_infos: tuple[CampaignInfo, ...]
    quiet_infos: tuple[QuietInfo, ...]
    tables: tuple[TableInfo, ...]  # in the order of plan.TABLE_*
    programs: tuple[Node, ...]  # what the interpreter runs: programs[i] is program i
    digest: str  # of everything that decides: names, versions, files, currency
    layout_digest: str  # of what a row's words mean: rows written under another layout must be migrated
    native_problem: str = ""  # why there is no machine code though it was asked for; "" if all is well
    lookup_fields: tuple[
        tuple[str, str, str], ...
    ] = ()  # of row i of `lookups`: table, field, "number" or "text"
    native: NativePrograms | None = field(default=None, repr=False, compare=False)  # keeps the code alive
