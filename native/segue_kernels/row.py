"""The customer's row: HEADER_WORDS (plan.py) words of header, then the areas of the streams as planned.

All rows of a shard lie in one flat int64 array; row r starts at word r * row_words. A row that is not in use is
all zeros, so a reserved but untouched page is a free row.
"""

KEY_LO = 0  # 128-bit hash of the identifier, compared in full
KEY_HI = 1
CLOCK = 2  # largest event time this customer has shown, or the due time of a timer that fired since, ms
FLAGS = 3  # FLAG_* | kind << 4 | length of the name << 8 | time of the latest erasure, ms << 16
WHEEL_DUE = (
    4  # due time under which the row hangs in the wheel, never later than its first timer; 0 = it does not
)
RING = 5  # pool block with the last message ids and their times; 0 = none
RING_STATE = 6  # its capacity, count, head and newest time (ids.py)
RATE = 7  # UTC minute << 20 | events in it
QUARANTINE_UNTIL = 8  # ms; 0 = never was
FIRST_SEEN = 9  # event time of the first event, ms
EVENTS = 10  # events counted into this row
SEGMENTS = 11  # bit s: the customer is in segment s
STAGE = 12  # index of the stage
ZONE = 13  # event time << 10 | zone number: the last time zone heard of; 0 = none
WAITS = (
    14  # first of the customer's pending waits, held and outstanding actions (pool block, waits.py); 0 = none
)
CHECK_DUE = 15  # when segments and stages may change by time alone; 0 = never
NAME = 16  # the identifier's bytes: four words in place, or the first holds a pool block
SPILL_HEAD = 20  # first of the customer's spilled entries (pool block); 0 = none
REDIRECT = 21  # pool block naming the known customer this anonymous one turned out to be; 0 = none
WHEEL_LINK = 22  # (previous row + 1) << 32 | next row + 1 in its slot of the wheel
CONSENT = 23  # channel * 2 + purpose: a register each (consent.py); 0 = never heard of

CONSENT_WORDS = 16
NAME_WORDS = 4
NAME_INLINE_BYTES = NAME_WORDS * 8

FLAG_IN_USE = 1
FLAG_ASKS_CONSENT = 2  # a history was joined: whether outstanding actions still have consent is to be asked
FLAG_KIND_SHIFT = 4
FLAG_KIND_MASK = 0b11 << FLAG_KIND_SHIFT
FLAG_NAME_SHIFT = 8
FLAG_ERASED_SHIFT = 16  # 48 bits: the highest may be the sign
ERASED_MASK = (1 << 48) - 1

# the block of REDIRECT
TARGET_LO = 0
TARGET_HI = 1
TARGET_KIND = 2  # kind | length of the name << 8
TARGET_NAME = 3

# --- words of a shard's meta array -----------------------------------------------------------------------
ROWS_USED = 0  # rows ever taken (the next new one)
ROWS_FREE = 1  # head of the list of freed rows + 1; 0 = none (linked through CLOCK)
CUSTOMERS = 2  # rows in use
INDEX_USED = 3  # entries and tombstones of the index
INDEX_OLD_POSITION = 4  # slots of the old index already moved
SPILL_USED = 5
SPILL_OLD_POSITION = 6
SPILL_LIVE = 7  # spilled entries
POOL_BUMP = 8  # next untouched pool word
CLOCK_MAX = (
    9  # how far time has come, ms: no row to come has a lower partition clock (merged: the last row's)
)
SWEEP_POSITION = 10
DIRTY_COUNT = 11
POOL_WORDS_USED = 12  # words in blocks now in use
REDIRECTS = 13
WHEEL_TIME = 14  # how far the wheel has turned, ms
TIMERS = 15  # rows that hang in the wheel
WAITS_PENDING = 16  # and held and outstanding actions
PENDING_NOW = 17  # decisions that were sent before a crash and not yet decided again (pending.py)
PENDING_USED = 18  # rows in use of their table
PENDING_POSITION = 19
TIMERS_SEEN = 27  # timers that runs looked at, ever
TIMERS_OF = 28  # row + 1 whose timers a run left firing when it stopped; 0 = none
TIMERS_LIMIT = 29  # those due before this time were to fire
TIMERS_PLACE = 30  # and to see the versions of tables that arrived before this clock

# counters, reported
COUNT_EVENTS = 32
COUNT_DUPLICATES = 33
COUNT_DEDUPE_OVERFLOW = 34
COUNT_QUARANTINED_EVENTS = 35
COUNT_QUARANTINES = 36
COUNT_SUM_BOUND_MET = 37
COUNT_SPILLED = 38
COUNT_SPILL_LOADED = 39
COUNT_EVICTED = 40
COUNT_FORGOTTEN = 41
COUNT_DECISIONS = 42
COUNT_ACTIONS = 43
COUNT_MERGED = 44
COUNT_CANDIDATES = 45
COUNT_WAITS_ARMED = 46
COUNT_TIMERS_FIRED = 47  # waits and sessions that came due
COUNT_WAITS_REFUSED = 48  # WAITS_PER_CUSTOMER_MAX was met
COUNT_CHANGES = 49  # segments entered or left, stages entered
COUNT_CREDITS = 50  # interval joins that matched
COUNT_JOIN_BOUND_MET = 51  # a left event still inside its window was pushed out unmatched
COUNT_SEQUENCE_BOUND_MET = 52  # an event still inside a sequence's window was pushed out
COUNT_SESSION_BOUND_MET = 53
COUNT_NAMES_MISSING = 54  # a product's name found no room
COUNT_UNKNOWN_KEYS = 55  # lookups answered by the declared answer
COUNT_TIMERS_QUARANTINED = 56
COUNT_CHARGED = 57  # sends that were read back after a crash
COUNT_REPLAYED_SKIPPED = 58  # triggers decided, sent and logged before a crash
COUNT_REPLAYED_LOGGED = 59  # slots whose action was sent before a crash, and only logged after it
COUNT_OFFERS_UNKNOWN = 60  # sends read back of offers that are there no more
COUNT_PENDING_FORGOTTEN = 61  # decisions sent before a crash whose trigger did not come again in PENDING_MS
COUNT_ERASURES = 62  # rows emptied
COUNT_ERASED_EVENTS = 63  # events no later than their customer's erasure
COUNT_HELD = 64  # actions held by quiet hours
COUNT_HELD_REPLACED = 65  # by a newer one of the same journey and slot
COUNT_HELD_REFUSED = 66  # HELD_PER_CUSTOMER_MAX was met: dropped
COUNT_HELD_EXPIRED = 67  # quiet hours outlast what was, or would have been, held
COUNT_HELD_GONE = 68  # their offer was there no more
COUNT_HELD_REACHED = 69  # their journey's goal was reached
COUNT_WITHDRAWN = 70  # actions taken back
COUNT_OUTSTANDING_DROPPED = (
    71  # OUTSTANDING_PER_CUSTOMER_MAX was met: the oldest can't be taken back any more
)
COUNTERS_START = 32
POOL_FREE = 72  # a word for each size class (pool.py): heads of the free lists
META_WORDS = 96
COUNTER_NAMES = (
    "events",
    "duplicates",
    "dedupe_overflow",
    "quarantined_events",
    "quarantines",
    "sum_bound_met",
    "keys_spilled",
    "keys_loaded",
    "customers_evicted",
    "customers_forgotten",
    "decisions",
    "actions",
    "customers_merged",
    "candidates",
    "waits_armed",
    "timers_fired",
    "waits_refused",
    "changes",
    "credits",
    "join_bound_met",
    "sequence_bound_met",
    "session_bound_met",
    "names_missing",
    "unknown_keys",
    "timers_quarantined",
    "charged",
    "replayed_skipped",
    "replayed_logged",
    "offers_unknown",
    "pending_forgotten",
    "erasures",
    "erased_events",
    "held",
    "held_replaced",
    "held_refused",
    "held_expired",
    "held_gone",
    "held_reached",
    "withdrawn",
    "outstanding_dropped",
)
