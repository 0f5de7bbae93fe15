"""The tables of compiled policies: which word means what. Kernels that read them take their columns here.

All tables are int64, two-dimensional and C-contiguous unless their comment says otherwise. `*_WORDS` is the
width of a table's row. A customer's row is HEADER_WORDS words of the engine followed by the streams' areas;
every offset counts words from the start of the customer's row, header included.
"""

HEADER_WORDS = 32  # of a customer's row: clock, identity, consent, ids seen ... (the engine's)
ROW_ALIGN_WORDS = 8  # a row is a whole number of cache lines

TYPES = 256  # listen_start, trigger_start and locate_start have TYPES + 1 entries
SENT_TYPE = (
    128  # type of the stream "journey j sent an action" is SENT_TYPE + j; fed by grants, never by events
)

# --- STREAMS[n, 12]: what is remembered of the events of one type -------------------------------------
STREAM_KIND = 0
STREAM_BY = 1
STREAM_OFFSET = 2  # of the area
STREAM_K = 3  # entries kept
STREAM_WINDOW_MS = 4  # greatest sliding window asked, 0 = ever; or the tumbling width
STREAM_SLOTS = 5  # keys kept in the row (by > 0), else 0
STREAM_FIELD = 6  # what SUM adds or DISTINCT tells apart; 0 for counts
STREAM_CURRENCY = 7  # only events in this currency add; 0 = all
STREAM_ENTRY_WORDS = 8
STREAM_TYPE = 9
STREAM_AREA_WORDS = 10
STREAM_SPARE = 11
STREAM_WORDS = 12

# kinds, and the words of an entry
COUNT = 0  # k times, newest first, 0 = none
SUM = 1  # k times, newest first (equal times: greatest value first), then their k values
TUMBLE_COUNT = 2  # start of the window in ms, n
TUMBLE_SUM = 3  # start of the window in ms, sum
DISTINCT = 4  # k last times, newest first, then their k keys
TUMBLE_DISTINCT = 5  # start of the window in ms, n, k keys

# by
BY_NONE = 0  # area = entry
BY_PRODUCT = 1  # area = watermark, `slots` keys (0 = free), `slots` entries
BY_CATEGORY = 2

# field: a word of the record (record.py), or
FIELD_QUANTITY = 100

# --- JOURNEYS[n, 12] ----------------------------------------------------------------------------------
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
JOURNEY_WORDS = 12

# JOURNEYS_F[n, 2] float64
JOURNEY_F_SCORE_MIN = 0
JOURNEY_F_SPARE = 1
JOURNEY_F_WORDS = 2

# --- OFFERS[n, 8] -------------------------------------------------------------------------------------
OFFER_JOURNEY = 0
OFFER_SLOT = 1
OFFER_WHEN = 2  # program, -1 = always
OFFER_TIE_RANK = 3  # 0 wins a tie of scores; no two offers share one
OFFER_CONSENT = 4  # channel index * 2 + purpose index; -1 = none needed
OFFER_CONTEXT = 5  # program, -1 = OFFER_F_CONTEXT holds
OFFER_CURRENCY = 6  # the event must be in this currency; 0 = any
OFFER_SPARE = 7
OFFER_WORDS = 8

# OFFERS_F[n, 4] float64
OFFER_F_VALUE = 0
OFFER_F_LEVER = 1
OFFER_F_CONTEXT = 2
OFFER_F_BIAS = 3
OFFER_F_WORDS = 4

# --- LIMITS[n, 4] -------------------------------------------------------------------------------------
LIMIT_STREAM = 0
LIMIT_TIMES = 1  # reached iff the LIMIT_TIMES-th latest send is after now - LIMIT_WINDOW_MS
LIMIT_WINDOW_MS = 2
LIMIT_CHARGES = 3  # 1: first of the journey's limits on this stream; a grant charges only these, once each
LIMIT_WORDS = 4

# --- CODE[n, 6]: an operation of the virtual machine (vm.py says what each does) ----------------------
CODE_KIND = 0
CODE_TARGET = 1  # cell that takes the result; a second operand is in the next cell
CODE_A = 2
CODE_B = 3
CODE_C = 4
CODE_D = 5
CODE_WORDS = 6

RECENCY_NEVER = 1e18  # ms
