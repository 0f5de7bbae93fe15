"""The ledger of vouchers: how it lies in memory, the states of a voucher, and the reasons of every answer.

A voucher is a row of eight words, one cache line. It is never moved or taken out, so a row number is good for ever.
What a campaign promised (how long, how much) stands in the campaign and never changes, so a voucher need not repeat it.

A code of a shop's own list takes two rows: the voucher's, and behind it the one with its text (TEXT_*).
"""

from __future__ import annotations

from typing import NamedTuple

from segue_kernels.jit import Array

# --- words of a voucher ------------------------------------------------------------------------------
CODE = 0  # below CODES_OWN: a code of ours; from there on a hash of a shop's own; from ALIASES on a text row's alias
DECISION_LO = 1
DECISION_HI = 2
CUSTOMER_LO = 3
CUSTOMER_HI = 4
PACK = 5  # granted at, in ms, above; then the state (4 bits), then the campaign (16 bits)
AMOUNT = 6  # minor units: the most it may cost below, the discount of its redemption above (31 bits each)
LINK = 7  # while it waits for a time: its neighbours in the wheel (previous above, next below); redeemed: 64 bits of
# the redemption's id; free: the row of the campaign's next free code, + 1
VOUCHER_WORDS = 8

CAMPAIGN_BITS = 16
STATE_BITS = 4
GRANTED_SHIFT = CAMPAIGN_BITS + STATE_BITS
CAMPAIGN_MASK = (1 << CAMPAIGN_BITS) - 1
STATE_MASK = (1 << STATE_BITS) - 1
AMOUNT_BITS = 31
AMOUNT_MASK = (1 << AMOUNT_BITS) - 1
HELD_COUNT_MAX = (1 << 16) - 1  # of a campaign by one customer
TIME_MS_MAX = (1 << 43) - 1  # year 2248

CODES_OWN = 1 << 60
ALIASES = 1 << 61  # an own code's decision finds it under this: the decision's hash, no code

TEXT_ALIAS = 0  # 0: not drawn
TEXT_BYTES = 1  # four words
TEXT_LENGTH = 5
TEXT_NUMBER = 6  # its place in the campaign's list, from 1
TEXT_BYTES_MAX = 32

# --- states ------------------------------------------------------------------------------------------
FREE = 0  # of an own list, nobody's yet
RESERVED = 1
ISSUED = 2
REDEEMED = 3
EXPIRED = 4  # was issued and not redeemed in time
CANCELLED = 5  # after it was issued
LAPSED = 6  # was not issued in time ...
RELEASED = 7  # ... or given back: all of it went back, and is charged again if the code turns up after all
WITHDRAWN = 8  # cancelled and never issued: all of it went back for good
STATES = 9

# --- words of a campaign -----------------------------------------------------------------------------
C_HASH_LO = 0  # of its name
C_HASH_HI = 1
C_KNOWN = 2  # 1: declared
C_BUDGET = 3  # vouchers; -1: no bound
C_MONEY = 4  # minor units; -1: no bound
C_PER_CUSTOMER = 5
C_PER_DAY = 6  # 0: no bound
C_START = 7
C_END = 8
C_CURRENCY = 9
C_PERCENT = 10  # hundredths of a percent; 0: an amount
C_DEPTH = 11  # the most that one voucher takes off, minor units
C_GROUP = 12  # hash of the stacking group; 0: goes with everything
C_BASKET_MIN = 13
C_SHOPS = 14  # where its shops begin in `shops`
C_SHOPS_COUNT = 15  # 0: all
C_VALID = 16  # ms from the grant on
C_RESERVE = 17
C_ZONE = 18  # row of day_start
C_KEYS = 19  # where its keys begin, the oldest first
C_KEYS_COUNT = 20
C_STOPPED = 21  # STOPPED_*
C_OWN = 22  # 1: codes of an own list
C_OWN_FIRST = 23  # the next free row of an own list, + 1
C_OWN_LAST = 24
C_OWN_COUNT = 25  # codes in the list
C_HELD = 26  # minor units of what is reserved or issued
C_SPENT = 27  # ... and redeemed
C_COUNTS = 28  # vouchers by state
CAMPAIGN_WORDS = C_COUNTS + STATES

STOPPED_GRANTS = 1
STOPPED_CODES = 2  # its codes are not honoured either

DAYS_KEPT = 8  # days of a campaign that are counted; words of a day: its number, vouchers

# words of a key: from which ms on it holds, and its two words
KEY_WORDS = 3

# --- words of `meta` ---------------------------------------------------------------------------------
ROWS_USED = 0
WHEEL_TIME = 1
CODE_MASK_NOW = 2
CODE_SLOTS = (
    3  # slots of the index of codes, how many are taken, and up to where the smaller one has been copied
)
CODE_USED = 4
CODE_COPIED = 5
HOLDER_SLOTS = 6
HOLDER_USED = 7
HOLDER_COPIED = 8
CAMPAIGNS_KNOWN = 9
OWN_CODES = 10  # imported, of all campaigns
ATTEMPTS = 11  # most attempts at a code for one decision
META_WORDS = 12

# --- requests and answers ----------------------------------------------------------------------------
G_CAMPAIGN = 0
G_CUSTOMER_LO = 1
G_CUSTOMER_HI = 2
G_DECISION_LO = 3
G_DECISION_HI = 4
G_NOW = 5
G_AMOUNT = 6  # the most it may cost, minor units; 0: what the campaign allows
G_CURRENCY = 7
GRANT_WORDS = 8

A_REASON = 0
A_CODE = 1
A_RESERVED_UNTIL = 2
A_EXPIRES = 3
A_AMOUNT = 4  # minor units held; of a redemption the discount
A_CAMPAIGN = 5
A_ROW = 6  # of the voucher; -1: none
ANSWER_WORDS = 7

R_CUSTOMER_LO = 0  # both 0: nobody knows
R_CUSTOMER_HI = 1
R_SHOP = 2
R_BASKET = 3  # minor units
R_CURRENCY = 4
R_NOW = 5
R_ID_LO = 6
R_ID_HI = 7
REDEEM_WORDS = 8

# a change: what it is about, then the words of a voucher (LINK of a redeemed one only), of a text or of a campaign
CHANGE_KIND = 0
CHANGE_WORDS = 1 + VOUCHER_WORDS
CHANGE_VOUCHER = 1
CHANGE_TEXT = 2  # an own code's text: its code, four words, length, number, campaign
CHANGE_CAMPAIGN = 3  # hash (two words), number, promise, stopped

# --- reasons -----------------------------------------------------------------------------------------
OK = 0
AGAIN = 1  # a repeat of what holds already: the same answer, and nothing changed
UNKNOWN_CAMPAIGN = 2
NOT_BEGUN = 3
ENDED = 4
STOPPED = 5
OTHER_CURRENCY = 6
BAD_AMOUNT = 7
LATE = 8  # the day of the decision is no longer counted
CUSTOMER_LIMIT = 9
DAY_LIMIT = 10
NUMBER_SPENT = 11
MONEY_SPENT = 12
CODES_SPENT = 13  # the own list is used up, or no attempt gave a free code
LEDGER_FULL = 14
GARBAGE = 15
WRONG_CHECK = 16
UNKNOWN_CODE = 17
NOT_ISSUED = 18
ALREADY_REDEEMED = 19
IS_CANCELLED = 20
IS_EXPIRED = 21
WRONG_CUSTOMER = 22
WRONG_SHOP = 23
IS_STACKED = 24
BASKET_TOO_SMALL = 25
ALREADY_ISSUED = 26
BAD_TIME = 27
TAKEN = 28  # an own code that the ledger has already
REASONS = 29


class Ledger(NamedTuple):
    """What kernels of the ledger take together."""

    rows: Array  # int64[most, VOUCHER_WORDS]
    codes: Array  # uint32: code -> row (ledger_index.py)
    holders: Array  # uint32: (campaign, customer) -> the first voucher of the two
    held: (
        Array  # uint16 a row: vouchers that the customer holds of the campaign; at the first of the two only
    )
    wheel: Array  # int64 (ledger_wheel.py)
    campaigns: Array  # int64[most, CAMPAIGN_WORDS]
    days: Array  # int64[most, DAYS_KEPT, 2]
    day_start: Array  # int64[zones, TABLE_DAYS]: UTC ms at which each local day begins
    keys: Array  # int64[any, KEY_WORDS]
    shops: Array  # int64: hashes
    meta: Array  # int64[META_WORDS]
    answered: Array  # int64[REASONS]: answers by reason
