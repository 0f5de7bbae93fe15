"""Redemptions: what was typed, by whom, where, for which basket; accepted with the discount, or refused with a reason.

Law: a voucher is redeemed at most once; the same redemption told again gets the same answer. The discount is never more
than what was held for the voucher, nor more than the basket.

A redemption that comes before its issue was seen is accepted: nobody can know a code that was not sent. So is one of a
voucher that went back (its reservation ended, or it was released), if every limit still has room for it.
"""

from __future__ import annotations

from segue_kernels.codes import (
    MISTYPED,
    NOT_A_CODE,
    code_of_symbols,
    own_code,
    read_symbols,
)
from segue_kernels.jit import Array, inline, kernel
from segue_kernels.ledger import (
    A_AMOUNT,
    A_CODE,
    A_REASON,
    A_ROW,
    AGAIN,
    ALREADY_REDEEMED,
    AMOUNT,
    AMOUNT_BITS,
    ANSWER_WORDS,
    BAD_AMOUNT,
    BAD_TIME,
    BASKET_TOO_SMALL,
    C_BASKET_MIN,
    C_CURRENCY,
    C_GROUP,
    C_PERCENT,
    C_SHOPS,
    C_SHOPS_COUNT,
    C_STOPPED,
    CANCELLED,
    CODES_OWN,
    CUSTOMER_HI,
    CUSTOMER_LO,
    EXPIRED,
    FREE,
    GARBAGE,
    IS_CANCELLED,
    IS_EXPIRED,
    IS_STACKED,
    LAPSED,
    LINK,
    NOT_ISSUED,
    OK,
    OTHER_CURRENCY,
    OWN_CODES,
    R_BASKET,
    R_CURRENCY,
    R_CUSTOMER_HI,
    R_CUSTOMER_LO,
    R_ID_HI,
    R_ID_LO,
    R_NOW,
    R_SHOP,
    REDEEMED,
    RELEASED,
    STOPPED_CODES,
    TIME_MS_MAX,
    UNKNOWN_CODE,
    WITHDRAWN,
    WRONG_CHECK,
    WRONG_CUSTOMER,
    WRONG_SHOP,
    Ledger,
)
from segue_kernels.ledger_grant import answer_row
from segue_kernels.ledger_index import find_code
from segue_kernels.ledger_moves import discount_of, held_amount, move, room_again, write_change
from segue_kernels.ledger_wheel import campaign_of, expires_at, state_of

WHOLE = 10_000  # hundredths of a percent
BASKET_MAX = 10**15  # minor units: limits.MONEY_MINOR_MAX


@inline
def discount(percent: int, most: int, basket: int) -> int:
    """What a voucher takes off a basket, minor units.

    percent  in hundredths, half a unit rounded to the even one; 0: `most`, as far as the basket goes
    """
    off = most
    if percent > 0:
        rest = (basket % WHOLE) * percent
        off = (basket // WHOLE) * percent + rest // WHOLE
        half = 2 * (rest % WHOLE)
        if half > WHOLE or (half == WHOLE and off & 1 == 1):
            off += 1
    return min(off, most, basket)


@inline
def find_typed(
    ledger: Ledger, text: Array, start: int, end: int, bytes_max: int, symbols: Array, folded: Array
) -> tuple[int, int]:
    """The row of what was typed, or minus the reason why there is none; and the code that it reads as, or 0."""
    if end - start > bytes_max:
        return -GARBAGE, 0
    count = read_symbols(text, start, end, symbols)
    code = NOT_A_CODE
    if count >= 0:
        code = code_of_symbols(symbols, count)
    if code >= 0:
        row = find_code(ledger, code)
        if row >= 0:
            return row, code
    if ledger.meta[OWN_CODES] > 0:
        own = own_code(text, start, end, folded)
        if own >= 0:
            row = find_code(ledger, CODES_OWN + own)
            if row >= 0:
                return row, CODES_OWN + own
    if code >= 0:
        return -UNKNOWN_CODE, code
    if code == MISTYPED:
        return -WRONG_CHECK, 0
    if ledger.meta[OWN_CODES] > 0 and own_code(text, start, end, folded) >= 0:
        return -UNKNOWN_CODE, 0
    return -GARBAGE, 0


@inline
def _redemption(requests: Array, i: int) -> int:
    """What is kept of a redemption's id."""
    return requests[i, R_ID_LO] ^ requests[i, R_ID_HI]


@inline
def _dead(ledger: Ledger, row: int, now: int) -> int:
    """OK, or why this voucher's code is good for nobody any more, or not yet."""
    state = state_of(ledger, row)
    if state == FREE:
        return NOT_ISSUED
    if state == REDEEMED:
        return ALREADY_REDEEMED
    stopped = ledger.campaigns[campaign_of(ledger, row), C_STOPPED]
    if state == CANCELLED or state == WITHDRAWN or stopped == STOPPED_CODES:
        return IS_CANCELLED
    if state == EXPIRED or now >= expires_at(ledger, row):
        return IS_EXPIRED
    return OK


@inline
def _unfit(
    ledger: Ledger, row: int, requests: Array, i: int, groups: Array, first_group: int, last_group: int
) -> int:
    """OK, or why this voucher is not for this customer, shop or basket."""
    of = ledger.campaigns
    campaign = campaign_of(ledger, row)
    lo = requests[i, R_CUSTOMER_LO]
    hi = requests[i, R_CUSTOMER_HI]
    if (lo != 0 or hi != 0) and (lo != ledger.rows[row, CUSTOMER_LO] or hi != ledger.rows[row, CUSTOMER_HI]):
        return WRONG_CUSTOMER
    if of[campaign, C_SHOPS_COUNT] > 0:
        first = of[campaign, C_SHOPS]
        found = False
        for k in range(first, first + of[campaign, C_SHOPS_COUNT]):
            found = found or ledger.shops[k] == requests[i, R_SHOP]
        if not found:
            return WRONG_SHOP
    if requests[i, R_CURRENCY] != of[campaign, C_CURRENCY]:
        return OTHER_CURRENCY
    basket = requests[i, R_BASKET]
    if basket < 0 or basket > BASKET_MAX:
        return BAD_AMOUNT
    group = of[campaign, C_GROUP]
    for k in range(first_group, last_group):
        if group != 0 and groups[k] == group:
            return IS_STACKED
    if basket < of[campaign, C_BASKET_MIN]:
        return BASKET_TOO_SMALL
    state = state_of(ledger, row)
    if state == LAPSED or state == RELEASED:
        return room_again(ledger, row)
    return OK


@inline
def _redeem_row(
    ledger: Ledger,
    row: int,
    requests: Array,
    i: int,
    groups: Array,
    first_group: int,
    last_group: int,
    answers: Array,
    changes: Array,
    made: int,
) -> int:
    rows = ledger.rows
    now = requests[i, R_NOW]
    reason = _dead(ledger, row, now)
    if reason == ALREADY_REDEEMED and rows[row, LINK] == _redemption(requests, i):
        reason = AGAIN
    if reason == OK:
        reason = _unfit(ledger, row, requests, i, groups, first_group, last_group)
    answer_row(ledger, row, reason, answers, i)
    answers[i, A_AMOUNT] = 0
    if reason == OK:
        most = held_amount(ledger, row)
        percent = ledger.campaigns[campaign_of(ledger, row), C_PERCENT]
        off = discount(percent, most, requests[i, R_BASKET])
        rows[row, AMOUNT] = (off << AMOUNT_BITS) + most
        move(ledger, row, REDEEMED)
        rows[row, LINK] = _redemption(requests, i)
        made = write_change(ledger, row, changes, made)
    if reason == OK or reason == AGAIN:
        answers[i, A_AMOUNT] = discount_of(ledger, row)
    return made


@kernel
def redeem(
    ledger: Ledger,
    requests: Array,
    text: Array,
    offsets: Array,
    bytes_max: int,
    groups: Array,
    group_offsets: Array,
    symbols: Array,
    folded: Array,
    answers: Array,
    changes: Array,
) -> int:
    """Answer redemptions in their order; how many changes.

    requests int64[n, REDEEM_WORDS]; text uint8, what was typed, of request i text[offsets[i] : offsets[i + 1]]
    groups   int64: hashes of the stacking groups of other vouchers of the same basket, by group_offsets alike
    symbols int64[SYMBOLS + 2] and folded uint8[FOLDED_BYTES] to work in; answers int64[n, ANSWER_WORDS]
    """
    made = 0
    for i in range(requests.shape[0]):
        for word in range(ANSWER_WORDS):
            answers[i, word] = 0
        now = requests[i, R_NOW]
        row, code = find_typed(ledger, text, offsets[i], offsets[i + 1], bytes_max, symbols, folded)
        if row < 0:
            answers[i, A_REASON] = -row
            answers[i, A_CODE] = code
            answers[i, A_ROW] = -1
        elif now <= 0 or now > TIME_MS_MAX:
            answers[i, A_REASON] = BAD_TIME
            answers[i, A_ROW] = row
        else:
            made = _redeem_row(
                ledger,
                row,
                requests,
                i,
                groups,
                group_offsets[i],
                group_offsets[i + 1],
                answers,
                changes,
                made,
            )
        ledger.answered[answers[i, A_REASON]] += 1
    return made


@kernel
def hintable(ledger: Ledger, code: int, lo: int, hi: int, now: int) -> bool:
    """Whether a code may be told to somebody who mistyped it: it is good, and theirs if they are known."""
    row = find_code(ledger, code)
    if row < 0 or _dead(ledger, row, now) != OK:
        return False
    rows = ledger.rows
    return (lo == 0 and hi == 0) or (rows[row, CUSTOMER_LO] == lo and rows[row, CUSTOMER_HI] == hi)
