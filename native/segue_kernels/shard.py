"""The arrays that kernels take together, by role."""

from __future__ import annotations

from typing import NamedTuple

from segue_kernels.jit import Array


class Shard(NamedTuple):
    """One shard's customers."""

    rows: Array  # int64, flat: row r at r * row_words
    index: Array  # type: ignore[assignment]  # (of a tuple it hides a method nobody calls) int64: identifier hash -> row (index.py)
    index_old: Array
    spill: Array  # int64: (row, stream, key) -> pool block (keyed.py)
    spill_old: Array
    pool: Array  # int64 (pool.py)
    meta: Array  # int64: row.py, "words of a shard's meta array"
    dirty: Array  # uint8 a row: 1 = changed since the last delta
    dirty_rows: Array  # int32: the rows with dirty = 1, meta[DIRTY_COUNT] of them
    wheel: Array  # int64: heads of the slots of the timer wheel (timers.py)


class Plan(NamedTuple):
    """The compiled policies (plan.py)."""

    streams: Array
    listen_start: Array
    listen: Array
    trigger_start: Array
    trigger: Array
    locate_start: Array
    locate: Array
    journeys: Array
    journeys_f: Array
    offers: Array
    offers_f: Array
    discounts: Array
    limits: Array
    caps: Array
    cap_start: Array  # caps by the contact of a send
    cap: Array
    charge_start: Array  # streams of caps by the contact of a send
    charge: Array
    quiet: Array
    goal_start: Array  # journeys by the type of the events that are their goals
    goal: Array
    features: Array
    weights: Array
    slot_hash: Array
    journey_hash: Array
    offer_hash: Array
    program_start: Array
    code: Array
    constants: Array
    program_address: Array
    waits: Array  # int64: delays in ms
    watch: Array  # uint8 a type: 1 = segments and stages are looked at after such an event
    segments: Array
    stages: Array
    checks: Array
    change_start: Array  # journeys by change
    change: Array
    session_ends: Array
    session_start: Array  # journeys by session end
    session: Array
    moments: Array
    lookups: Array
    lookup_types: Array  # uint8 a type: 1 = some program of its journeys reads a lookup
    joins: Array
    join_start: Array  # joins by the type of their right event
    join: Array
    journey_locate_start: Array  # keyed streams that a journey reads when a timer or a change fires it
    journey_locate: Array


class World(NamedTuple):
    """What is not the customer's: clocks of the world's zones, reference tables as they were at any time, and names
    of products."""

    zone_of: Array  # int64 [1024]: zone number -> row of day_start
    day_start: Array  # int64 [zones, days]: UTC ms at which local day d begins (calendar.py)
    month_day: Array  # int64 [days]: the day on which the month of day d begins
    shift_start: (
        Array  # int64 [zones, SHIFTS]: UTC ms at which a zone's clocks change, ascending (calendar.py)
    )
    shift_ms: Array  # int64 [zones, SHIFTS]: how far they are ahead of UTC from then on
    table_index: Array  # int64: key -> newest version (tables.py)
    versions: Array  # int64, flat
    defaults: Array  # int64: default zone number; what the shard has heard of tables (tables.py)
    names: Array  # int64: product hash -> its name (names.py)
    name_text: Array  # uint8: the names' bytes
    name_state: Array  # int64: how much of both is in use


class Scratch(NamedTuple):
    """Room for one event; nothing in it survives the event."""

    location: Array  # int64 a stream, then a moment, then a lookup
    journey: Array  # int64: journeys triggered by the event, ascending
    fired_at: Array  # int64 a journey: record on which it fired, or -1
    offer: Array  # int64 a candidate
    item: Array  # int64 a candidate: the record it saw
    reason: Array  # uint8 a candidate
    propensity: Array  # float64 a candidate
    context: Array  # float64 a candidate
    score: Array  # float64 a candidate
    discount: (
        Array  # int64 a candidate: what its voucher takes off, in units of plan.DISCOUNTS; 0 = as declared
    )
    logit: Array  # float64 an offer
    feature: Array  # float64 a feature
    best: Array  # int64 a slot: candidate, or -1
    ranking: (
        Array  # int64 a candidate: the winner of the slot that is granted, then those that stand in for it
    )
    candidates: Array  # int64 a slot: how many it has
    held: Array  # int64 [HELD_PER_CUSTOMER_MAX, RELEASED_WORDS]: of the held actions that are released
    outstanding: Array  # int64 [OUTSTANDING_WORDS]: an action that may be taken back (outstanding.py)
    room: Array  # int64 as Out.used: with more used than this an event might find too little left (constant)
    plain: Array  # uint8 a journey: its offers share a slot and all checks, and have no context of their own (constant)
    layered: Array  # uint8 a journey: applicability or suitability is asked of some of its offers (constant)


# a row of Scratch.held; its record is that of the release's first plus the number of the row
RELEASED_OFFER = 0
RELEASED_FIRST = 1  # time of its first decision, ms
RELEASED_EXPIRED = 2  # 1: it does not hold good any more
RELEASED_WORDS = 3


class Replay(NamedTuple):
    """What was sent before a crash (pending.py)."""

    pending: Array  # int64 [n, PENDING_WORDS]
    sent: Array  # int64 a slot: the offer that was sent for the trigger being decided, or -1
    sent_alone: Array  # int64 a slot: its row in `alone`, or -1
    alone: Array  # int64 [n, ALONE_WORDS]: sends that no log row tells of, ascending by ALONE_LO


# a row of Replay.alone
ALONE_LO = 0  # the customer
ALONE_HI = 1
ALONE_DECISION_LO = 2
ALONE_DECISION_HI = 3
ALONE_OFFER = 4  # hash of its names, as in the receipt
ALONE_JOURNEY = 5  # row of the plan's journeys; -1 = there is no such offer any more
ALONE_TIME = 6
ALONE_PRODUCT = 7
ALONE_CATEGORY = 8
ALONE_FLAGS = 9  # ALONE_IS_CHARGED | its contact + 1 << ALONE_CONTACT_SHIFT | its zone << ALONE_ZONE_SHIFT
ALONE_WORDS = 10

ALONE_IS_CHARGED = 1  # its limits and caps have it
ALONE_CONTACT_SHIFT = 8  # 0 = the receipt did not tell it
ALONE_CONTACT_MASK = 0xFF
ALONE_ZONE_SHIFT = 16  # number of the customer's time zone then; 0 = the deployment's


class Out(NamedTuple):
    """What a run decides. Rows of `log` and `actions` are filled from the front; `used` says how far."""

    used: Array  # int64: OUT_* counts
    log: Array  # int64 [n, LOG_WORDS]
    reasons: Array  # uint8
    fired: Array  # uint16: journeys that fired, by log row
    actions: Array  # int64 [n, ACTION_WORDS]
    numbers: Array  # float64 [n, 5]: propensity, context, value, lever, score
    sample: Array  # float64 [n, SAMPLE_WORDS]: numbers of a sampled decision's candidates
    timer_records: (
        Array  # int64 [n, RECORD_WORDS]: records made for timers; record -1 - t of a log row is row t here.
    )
    # With a part's last rows (parts.py) its events' records that any row refers to are copied behind them.
    timer_text: Array  # uint8: their strings; HEAP counts from its start
    changes: Array  # int64 [n, CHANGE_WORDS]
    credits: Array  # int64 [n, CREDIT_WORDS]
    items: Array  # int64: offset << 8 | length in item_text, of the products an action lists
    item_text: Array  # uint8
    withdrawn: Array  # int64 [n, WITHDRAWN_WORDS]
    spans: Array  # int64 [n, SPAN_WORDS]: which rows are whose (parts.py)


# a row of Out.sample
SAMPLE_PROPENSITY = 0
SAMPLE_CONTEXT = 1
SAMPLE_SCORE = 2
SAMPLE_WORDS = 3

# Out.used
OUT_LOG = 0
OUT_REASONS = 1
OUT_FIRED = 2
OUT_ACTIONS = 3
OUT_SAMPLE = 4
OUT_TIMER_RECORDS = 5
OUT_TIMER_TEXT = 6
OUT_CHANGES = 7
OUT_CREDITS = 8
OUT_ITEMS = 9
OUT_ITEM_TEXT = 10
OUT_SPANS = 11
OUT_WITHDRAWN = 12
OUT_USED = 16

# a row of Out.log
LOG_RECORD = 0  # header record of the event
LOG_SLOT = 1
LOG_WINNER = 2  # offer, or -1
LOG_CANDIDATES = 3
LOG_REASONS = 4  # offset of the reason bytes
LOG_FIRED = 5  # offset of the journeys that fired
LOG_FIRED_COUNT = 6
LOG_DECISION_LO = 7
LOG_DECISION_HI = 8
LOG_NOW = 9
LOG_SAMPLE = 10  # offset in Out.sample, or -1
LOG_ZONE = 11  # number of the customer's time zone, 0 = the deployment's
LOG_HELD = 12  # offer that is held for this slot from now on, or -1
LOG_WORDS = 13

# a row of Out.actions
ACTION_LOG = 0  # its row of Out.log
ACTION_RECORD = 1  # header record of the event
ACTION_ITEM = 2  # the record (line) the journey fired on
ACTION_OFFER = 3
ACTION_LO = 4
ACTION_HI = 5
ACTION_STEP = 6  # of the journey: 1 but for later waits
ACTION_SEGMENTS = 7  # the customer's segments, a bit each
ACTION_STAGE = 8
ACTION_ITEMS = 9  # offset in Out.items
ACTION_ITEMS_COUNT = 10
ACTION_FIRST = 11  # time of its first decision, ms: from then on it holds good
# of a winner with a voucher of a campaign, and of the rows behind it that stand in for it if the ledger refuses: how
# many more of them follow below, its place among the reasons of its log row + 1 above; of all other rows 0
ACTION_RANKING = 13
ACTION_DISCOUNT = 12  # what its voucher takes off, in units of plan.DISCOUNTS; 0 = as declared, or no voucher
ACTION_WORDS = 14

RANKING_BITS = 32

# a row of Out.changes
CHANGE_RECORD = 0  # the event that caused it (-1 - t: timer record t)
CHANGE_CODE = 1  # plan.py
CHANGE_NOW = 2
CHANGE_WORDS = 4

# a row of Out.credits
CREDIT_RECORD = 0  # header record of the right event
CREDIT_ITEM = 1  # the record (line) that matched
CREDIT_JOIN = 2
CREDIT_LEFT_TIME = 3
CREDIT_LEFT_LO = 4  # id of the left event, or the action's id
CREDIT_LEFT_HI = 5
CREDIT_WORDS = 6

# a row of Out.withdrawn: an action that is taken back
WITHDRAWN_RECORD = 0  # the event that caused it (-1 - t: timer record t)
WITHDRAWN_OFFER = 1
WITHDRAWN_STEP = 2
WITHDRAWN_LO = 3  # id of the action
WITHDRAWN_HI = 4
WITHDRAWN_DECISION_LO = 5
WITHDRAWN_DECISION_HI = 6
WITHDRAWN_WHY = 7  # WHY_*
WITHDRAWN_NOW = 8
WITHDRAWN_WORDS = 9

WHY_CONSENT = 0
WHY_SUPPRESSED = 1
WHY_GOAL = 2
WHY_EXPIRED = 3
WHY_ERASED = 4
WHY_NAMES = ("consent", "suppressed", "goal", "expired", "erased")

# a row of Out.spans: what one part of the state said; the rows begin where those of the span before end
SPAN_PART = 0  # its number (receipt.py)
SPAN_SEQUENCE = 1
SPAN_LOG_END = 2
SPAN_ACTIONS_END = 3
SPAN_CHANGES_END = 4
SPAN_CREDITS_END = 5
SPAN_WITHDRAWN_END = 6
SPAN_WORDS = 7

# settings, int64
SET_ROW_WORDS = 0
SET_RETENTION_MS = 1
SET_RATE_MAX = 2
SET_QUARANTINE_MS = 3
SET_DEDUPE_MS = 4
SET_DEDUPE_MAX = 5
SET_LATENESS_MS = 6
SET_SAMPLE = 7  # a decision is sampled if its id's high 53 bits are below this
SET_KEY0 = 8  # of decision and action ids, the bits of a uint64
SET_KEY1 = 9
SET_CONSENT_TYPE = 10  # event type codes with a consent word
SET_UNSUBSCRIBE_TYPE = 11
SET_ROWS_MAX = 12
SET_POOL_MAX = 13
SET_SPILL_ROOM = 14  # entries that one event may spill, at most: so many ...
SET_POOL_ROOM = 15  # words of the pool that it may take
SET_WAITS_MAX = 16  # pending waits of a customer
SET_SPILL_ROOM_EACH = 17  # ... and so many for each of its records
SET_POOL_ROOM_EACH = 18
SET_PENDING_MS = 19
SET_ERASURE_TYPE = 20  # event type code
SET_ABOUT_CONSENT = 21  # four words, a bit for each event type code: it says something about consent
SET_HELD_MAX = 25  # held actions of a customer
SET_OUTSTANDING_MAX = 26  # actions of a customer that may be taken back
SET_WORDS = 28

# why a run stopped before the end of its batch
STOP_END = 0
STOP_INDEX = 1  # the index of customers needs a larger table
STOP_SPILL = 2  # the index of spilled keys does
STOP_OUT = 3  # an output array is full
STOP_HISTORY = 4  # the next event brings a history to merge first
STOP_ROWS = 5  # CUSTOMERS_PER_SHARD_MAX
STOP_POOL = 6  # POOL_WORDS_PER_SHARD_MAX
STOP_TIMERS = 7  # as many timers fired as one call may fire
STOP_ROW = 8  # the next event is an erasure, or its row has no name yet
STOP_ZONE = 9  # the next record names a time zone that the calendar does not have yet

# reason of a candidate, in the order in which they are checked (NOT_APPLICABLE and NOT_SUITABLE behind NOT_ELIGIBLE,
# SUPPRESSED with NO_CONSENT; CAP behind LIMIT, and QUIET_HOURS behind CAP)
WON = 0
NOT_ELIGIBLE = 1
CURRENCY = 2
NO_CONSENT = 3
LIMIT = 4
BELOW_MINIMUM = 5
OUTSCORED = 6
OTHER_SLOT = 7
CONTROL = 8
CAP = 9
SUPPRESSED = 10
HELD = 11
QUIET_HOURS = 12
EXPIRED = 13
BUDGET = 14
NOT_APPLICABLE = 15
NOT_SUITABLE = 16
REASON_NAMES = (
    "won",
    "not_eligible",
    "currency",
    "no_consent",
    "limit",
    "below_minimum",
    "outscored",
    "other_slot",
    "control",
    "cap",
    "suppressed",
    "held",
    "quiet_hours",
    "expired",
    "budget",
    "not_applicable",
    "not_suitable",
)
