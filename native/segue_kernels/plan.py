"""The tables of compiled policies: which word means what. Kernels that read them take their columns here.

All tables are int64, two-dimensional and C-contiguous unless their comment says otherwise. `*_WORDS` is the
width of a table's row. A customer's row is HEADER_WORDS words of the engine followed by the streams' areas;
every offset counts words from the start of the customer's row, header included.
"""

HEADER_WORDS = 39  # of a customer's row: clock, identity, consent, ids seen ... (the engine's)
ROW_ALIGN_WORDS = 8  # a row is a whole number of cache lines

TYPES = 256  # listen_start, trigger_start and locate_start have TYPES + 1 entries
# types of streams beside those of events
ANY_TYPE = 0  # all that a customer does himself (events/names.py, ACTIVITY_CODES)
SENT_TYPE = 256  # + j: journey j sent an action; fed by grants, never by events
CAP_TYPE = 768  # an action was sent with one of the contacts whose bits STREAM_FIELD has; fed by grants
JOIN_TYPE = 1024  # + j: join j matched, or its left side is an action; fed by matches and by grants

# --- STREAMS[n, 16]: what is remembered of the events of one type -------------------------------------
STREAM_KIND = 0
STREAM_BY = 1
STREAM_OFFSET = 2  # of the area
STREAM_K = 3  # entries kept
STREAM_WINDOW_MS = 4  # greatest sliding window asked, 0 = ever; or the tumbling width
STREAM_SLOTS = 5  # keys kept in the row (by > 0), else 0
STREAM_FIELD = 6  # what SUM adds or DISTINCT tells apart; of CAP_TYPE the contacts; 0 for other counts
STREAM_CURRENCY = 7  # only events in this currency add; 0 = all
STREAM_ENTRY_WORDS = 8
STREAM_TYPE = 9
STREAM_AREA_WORDS = 10
STREAM_SOURCE = 11  # only events with this SOURCE word; 0 = all
STREAM_FLAGS = 12
STREAM_WIDTH_MS = 13  # DECAY: half-life; SESSIONS: gap; tumbling kinds: width; else 0
STREAM_WORDS = 16

STREAM_FLAG_NAMES = 1  # names of its products are kept (names.py)
STREAM_FLAG_SEQUENCE = 2  # pushing out an entry inside the window is counted

# kinds, and the words of an entry
COUNT = 0  # k times, newest first, 0 = none
SUM = 1  # k times, newest first (equal times: greatest value first), then their k values
TUMBLE_COUNT = 2  # start of the window in ms, n
TUMBLE_SUM = 3  # start of the window in ms, sum
DISTINCT = 4  # k last times, newest first, then their k keys
TUMBLE_DISTINCT = 5  # start of the window in ms, n, k keys
DECAY = 6  # epoch of the newest event + 1, then DECAY_EPOCHS integer sums, newest epoch first
FIRST = 7  # time, value: the smallest (time, value) ever
SESSIONS = 8  # end of the session already closed, then k times (start, end), newest first
LEFT = 9  # k times, newest first, then their k low and their k high id words: unmatched left sides of a join

DECAY_EPOCHS = 5  # half-lives that count
DECAY_COUNT_SCALE = 1 << 20  # weight of one event at the start of its epoch; of a quantity too
DECAY_MONEY_SCALE = 64  # weight of one minor unit

# by
BY_NONE = 0  # area = entry
BY_PRODUCT = 1  # area = watermark, `slots` keys (0 = free), `slots` entries
BY_CATEGORY = 2

# windows of an atom: > 0 sliding, ms; 0 ever; below: since a moment that `location` gives (MOMENTS)
WINDOW_DAY = -1  # the customer's local day ...
WINDOW_WEEK = -2  # from Monday
WINDOW_MONTH = -3
WINDOW_HOUR = -4
WINDOW_SESSION_MS_MIN = 1_000  # -gap ms: the current session; its gap is at least this

# field: a word of the record (record.py), or
FIELD_QUANTITY = 100

# --- JOURNEYS[n, 20] ----------------------------------------------------------------------------------
JOURNEY_POLICY = 0
JOURNEY_WHEN = 1  # program
JOURNEY_OFFERS_START = 2
JOURNEY_OFFERS_END = 3
JOURNEY_PRIORITY = 4
JOURNEY_ALONGSIDE = 5  # 1: its winners stay beside those of other journeys
JOURNEY_FEATURES_START = 6  # into FEATURES: program ids
JOURNEY_FEATURES_COUNT = 7
JOURNEY_WEIGHTS_START = 8  # into WEIGHTS float64: weight of feature f for offer o of n at f * n + o
JOURNEY_LIMITS_START = 9
JOURNEY_LIMITS_END = 10
JOURNEY_SENT_STREAMS = 11  # distinct streams among its limits
JOURNEY_KIND = 12
JOURNEY_BY = 13  # of its waits
JOURNEY_RESTART = 14  # 1: a further event starts the wait anew
JOURNEY_STILL = 15  # program asked when a wait is over, -1 = always
JOURNEY_WAITS_START = 16  # into WAITS: delays in ms, ascending; step s is decided after the s-th
JOURNEY_WAITS_END = 17
JOURNEY_SESSION = 18  # ON_SESSION: row of SESSIONS
JOURNEY_WORDS = 20

# journey kinds
ON_EVENT = 0
ON_WAIT = 1
ON_SESSION = 2

# JOURNEYS_F[n, 1] float64
JOURNEY_F_SCORE_MIN = 0
JOURNEY_F_WORDS = 1

# --- OFFERS[n, 20] -------------------------------------------------------------------------------------
OFFER_JOURNEY = 0
OFFER_SLOT = 1
OFFER_WHEN = 2  # program, -1 = always
OFFER_TIE_RANK = 3  # 0 wins a tie of scores; no two offers share one
OFFER_CONSENT = 4  # channel index * 2 + purpose index; -1 = none needed
OFFER_CONTEXT = 5  # program, -1 = OFFER_F_CONTEXT holds
OFFER_CURRENCY = 6  # the event must be in this currency; 0 = any
OFFER_ITEMS_STREAM = 7  # DISTINCT stream whose newest products the action lists; -1 = none
OFFER_ITEMS_MAX = 8
OFFER_ITEMS_WINDOW = 9  # a window as of an atom
OFFER_CONTACT = 10  # channel index * 2 + purpose index
OFFER_CONSENT_LEAST = 11  # least register that is consent (consent.py): 0 = what is unknown is, 1 = not
OFFER_EXPIRES_MS = 12  # for so long after its first decision an action holds good
OFFER_CAMPAIGN = 14  # 1 + number of the campaign that its voucher is of; 0 = none that is declared
OFFER_APPLICABLE = 16  # program, -1 = always
OFFER_SUITABLE = 17  # program, -1 = always
OFFER_DISCOUNT = 18  # row of DISCOUNTS; -1 = its voucher, if it has one, takes off what is declared
OFFER_TAKE_BACK_MS = 19  # for so long after it was decided its action may be taken back; 0 = never
OFFER_WORDS = 20

# OFFERS_F[n, 4] float64
OFFER_F_VALUE = 0
OFFER_F_LEVER = 1
OFFER_F_CONTEXT = 2
OFFER_F_BIAS = 3
OFFER_F_WORDS = 4

# --- DISCOUNTS[n, 5]: depths of vouchers that are computed, in units: hundredths of a percent, or minor units of money
DISCOUNT_PROGRAM = 0
DISCOUNT_SCALE = 1  # units in what the program's value is in: percent, or major units
DISCOUNT_MIN = 2
DISCOUNT_MAX = 3
DISCOUNT_STEP = 4
DISCOUNT_WORDS = 5

# --- LIMITS[n, 4] -------------------------------------------------------------------------------------
LIMIT_STREAM = 0
LIMIT_TIMES = 1  # reached iff the LIMIT_TIMES-th latest send is after now - LIMIT_WINDOW_MS
LIMIT_WINDOW_MS = 2
LIMIT_CHARGES = 3  # 1: first of the journey's limits on this stream; a grant charges only these, once each
LIMIT_WORDS = 4

# --- CAPS[n, 4]: at most so many sends to a customer, whatever journey they are of ------------------------
CAP_STREAM = 0  # of CAP_TYPE; caps with the same contacts share one
CAP_TIMES = 1  # reached iff the CAP_TIMES-th latest send lies in the window
CAP_WINDOW = 2  # sliding, ms, or WINDOW_HOUR, WINDOW_DAY, WINDOW_WEEK, WINDOW_MONTH
CAP_CONTACTS = 3  # bit c: sends with contact c count
CAP_WORDS = 4
# cap_start, cap: the caps that a send with a contact is under; charge_start, charge: the streams it is written to

# goal_start, goal: the journeys whose goal an event of a type is

CONTACTS = 16  # channel index * 2 + purpose index: the words of consent in a row

# --- CODE[n, 6]: an operation of the virtual machine (vm.py says what each does) ----------------------
CODE_KIND = 0
CODE_TARGET = 1  # cell that takes the result; a second operand is in the next cell
CODE_A = 2
CODE_B = 3
CODE_C = 4
CODE_D = 5
CODE_WORDS = 6

RECENCY_NEVER = 1e18  # ms

# --- QUIET[n, 5]: times of the customer's own day in which nothing is sent --------------------------------
QUIET_CONTACTS = 0  # bit c: nothing is sent with contact c
QUIET_FROM_MS = 1  # of the local day, from here ...
QUIET_TO_MS = 2  # ... to before here; not later than QUIET_FROM_MS: of the day after
QUIET_DAYS = 3  # bit d: it begins on day d of the week, 0 = Monday
QUIET_HOLDS = 4  # 1: what would be sent is held until they end; 0: it is dropped
QUIET_WORDS = 5

# --- MOMENTS[n, 2]: windows that begin at a moment; location[streams + m] is the time they begin after -------
MOMENT_WINDOW = 0  # WINDOW_HOUR, WINDOW_DAY, WINDOW_WEEK, WINDOW_MONTH or -gap
MOMENT_STREAM = 1  # of a session window: its SESSIONS stream
MOMENT_WORDS = 2

# --- LOOKUPS[n, 3]: fields of tables; location[streams + moments + l] is the field's word ------------------
LOOKUP_TABLE = 0  # TABLE_*
LOOKUP_FIELD = 1  # word of a version
LOOKUP_UNKNOWN = 2  # the word for a key that is not in the table
LOOKUP_WORDS = 3

VERSION_FIELDS = 6  # words of a version before its fields (tables.py)

# tables and what of the event is their key
TABLE_CATALOGUE = 0  # product
TABLE_PRICE = 1  # product
TABLE_STOCK = 2  # product and store
TABLE_PROFILE = 3  # customer
TABLES = 4
LOOKUP_SCALE = 1_000_000  # a number of a table is kept as an integer of millionths

# --- SEGMENTS[n, 1], STAGES[n, 2] ----------------------------------------------------------------------
SEGMENT_WHEN = 0  # program
SEGMENT_WORDS = 1
STAGE_FROM = 0  # bit f: from stage f
STAGE_WHEN = 1  # program, -1 = never entered but at the beginning (stage 0)
STAGE_WORDS = 2
# a change is coded 2s: segment s entered, 2s + 1: left, 2 * segments + t: stage t entered

# --- CHECKS[n, 5]: when a segment or stage may change by time alone ----------------------------------------
CHECK_KIND = 0
CHECK_STREAM = 1
CHECK_ENTRIES = 2  # the first this many entries matter
CHECK_WINDOW = 3  # window as of an atom
CHECK_AGE_MS = 4  # CHECK_AGE: the age at which it may change
CHECK_WORDS = 5

CHECK_LEAVES_LAST = 0  # when entry CHECK_ENTRIES (the last that matters) leaves the window
CHECK_LEAVES_ANY = 1  # whenever one of the first CHECK_ENTRIES leaves the window
CHECK_AGE = 2  # when the newest entry (FIRST: the entry) reaches CHECK_AGE_MS, if it is in the window
CHECK_TUMBLE = 3  # when the stream's aligned window ends
CHECK_DAILY = 4  # at each UTC midnight while the stream holds anything in the window

# --- SESSION_ENDS[n, 2]: sessions whose end is a trigger -------------------------------------------------
SESSION_STREAM = 0
SESSION_GAP_MS = 1
SESSION_WORDS = 2  # journeys that listen: session_start, session

# --- JOINS[n, 8]: a right event credits the latest left one within the window, once --------------------------
JOIN_LEFT_STREAM = 0  # LEFT stream
JOIN_LEFT_JOURNEY = 1  # left is an action of this journey, or JOIN_LEFT_*
JOIN_RIGHT_TYPE = 2
JOIN_BY = 3
JOIN_WITHIN_MS = 4
JOIN_COUNT_STREAM = 5  # COUNT stream of its matches, -1 = nobody asks
JOIN_WORDS = 8

JOIN_LEFT_EVENT = -1
JOIN_LEFT_ANY_ACTION = -2
