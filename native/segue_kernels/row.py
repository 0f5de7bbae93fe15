"""The customer's row: HEADER_WORDS (plan.py) words of header, then the areas of the streams as planned.

All rows of a shard lie in one flat int64 array; row r starts at word r * row_words. A row that is not in use is
all zeros, so a reserved but untouched page is a free row.
"""

KEY_LO = 0  # 128-bit hash of the identifier, compared in full
KEY_HI = 1
CLOCK = 2  # largest event time this customer has shown, ms
FLAGS = 3  # FLAG_* | kind << 4 | length of the name << 8
NAME = 4  # the identifier's bytes: four words in place, or the first holds a pool block
RING = 8  # pool block with the last message ids and their times; 0 = none
RING_STATE = 9  # capacity | count << 8 | head << 16
SPILL_HEAD = 10  # first of the customer's spilled entries (pool block); 0 = none
RATE = 11  # UTC minute << 20 | events in it
QUARANTINE_UNTIL = 12  # ms; 0 = never was
FIRST_SEEN = 13  # event time of the first event, ms
EVENTS = 14  # events counted into this row
REDIRECT = 15  # pool block naming the known customer this anonymous one turned out to be; 0 = none
CONSENT = 16  # channel * 2 + purpose: 2 * time + (1 if withdrawn); 0 = never heard of

CONSENT_WORDS = 16
NAME_WORDS = 4
NAME_INLINE_BYTES = NAME_WORDS * 8

FLAG_IN_USE = 1
FLAG_KIND_SHIFT = 4
FLAG_KIND_MASK = 0b11 << FLAG_KIND_SHIFT
FLAG_NAME_SHIFT = 8

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
CLOCK_MAX = 9  # largest partition clock the shard has seen
SWEEP_POSITION = 10
DIRTY_COUNT = 11
POOL_WORDS_USED = 12  # words in blocks now in use
REDIRECTS = 13
POOL_FREE = 16  # a word for each size class (pool.py): heads of the free lists

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
META_WORDS = 64
COUNTERS_START = 32
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
)
