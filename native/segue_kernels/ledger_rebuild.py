"""A shop's own codes into the ledger, and the ledger out of its changes.

Law: of each code the last change is what holds; from any of its changes on, in any order of the codes, the rebuilt
ledger gives the answers that the first one gives.
"""

from __future__ import annotations

from segue_kernels.codes import code_of_symbols, own_code, read_symbols
from segue_kernels.jit import Array, inline, kernel
from segue_kernels.ledger import (
    C_COUNTS,
    C_OWN,
    C_OWN_COUNT,
    C_OWN_FIRST,
    C_OWN_LAST,
    CAMPAIGN_MASK,
    CAMPAIGNS_KNOWN,
    CHANGE_KIND,
    CHANGE_TEXT,
    CHANGE_VOUCHER,
    CODE,
    CODES_OWN,
    CUSTOMER_HI,
    CUSTOMER_LO,
    DECISION_HI,
    DECISION_LO,
    FREE,
    GARBAGE,
    LEDGER_FULL,
    LINK,
    OK,
    OWN_CODES,
    PACK,
    REDEEMED,
    ROWS_USED,
    STATES,
    TAKEN,
    TEXT_ALIAS,
    TEXT_BYTES,
    TEXT_BYTES_MAX,
    TEXT_LENGTH,
    TEXT_NUMBER,
    UNKNOWN_CAMPAIGN,
    UNKNOWN_CODE,
    VOUCHER_WORDS,
    Ledger,
)
from segue_kernels.ledger_grant import find_alias
from segue_kernels.ledger_index import add_code, add_holder, find_code, find_holder
from segue_kernels.ledger_moves import discount_of, enter, held_amount
from segue_kernels.ledger_wheel import campaign_of, granted_at, state_of, waits

_TEXT_WORDS = TEXT_BYTES_MAX // 8
# of a text's change, behind its kind: the code, the text's words, length, number, campaign
_CHANGED_TEXT = 2
_CHANGED_LENGTH = _CHANGED_TEXT + _TEXT_WORDS
_CHANGED_NUMBER = _CHANGED_LENGTH + 1
_CHANGED_CAMPAIGN = _CHANGED_NUMBER + 1


@inline
def _link_free(ledger: Ledger, campaign: int, row: int) -> None:
    """Put a free row behind the last one of its campaign's list."""
    of = ledger.campaigns
    if of[campaign, C_OWN_LAST] != 0:
        ledger.rows[of[campaign, C_OWN_LAST] - 1, LINK] = row + 1
    else:
        of[campaign, C_OWN_FIRST] = row + 1
    of[campaign, C_OWN_LAST] = row + 1


@inline
def _new_own(ledger: Ledger, campaign: int, code: int) -> int:
    """Two rows for an own code: the voucher's, free, and the empty one of its text; the first one's number, or -1."""
    row = ledger.meta[ROWS_USED]
    if row + 2 > ledger.rows.shape[0]:
        return -1
    ledger.meta[ROWS_USED] += 2
    ledger.meta[OWN_CODES] += 1
    ledger.campaigns[campaign, C_OWN_COUNT] += 1
    ledger.campaigns[campaign, C_COUNTS + FREE] += 1
    ledger.rows[row, CODE] = code
    ledger.rows[row, PACK] = campaign
    add_code(ledger, row)
    return row


@inline
def _import_one(
    ledger: Ledger, campaign: int, text: Array, start: int, end: int, symbols: Array, folded: Array
) -> tuple[int, int]:
    length = end - start
    if length > TEXT_BYTES_MAX:
        return GARBAGE, -1
    own = own_code(text, start, end, folded)
    if own < 0:
        return GARBAGE, -1
    code = own + CODES_OWN
    count = read_symbols(text, start, end, symbols)
    if count >= 0:
        read = code_of_symbols(symbols, count)
        if read >= 0:
            code = read
    if find_code(ledger, code) >= 0:
        return TAKEN, -1
    row = _new_own(ledger, campaign, code)
    if row < 0:
        return LEDGER_FULL, -1
    for k in range(length):
        word = TEXT_BYTES + (k >> 3)
        ledger.rows[row + 1, word] = ledger.rows[row + 1, word] | (int(text[start + k]) << (8 * (k & 7)))
    ledger.rows[row + 1, TEXT_LENGTH] = length
    ledger.rows[row + 1, TEXT_NUMBER] = ledger.campaigns[campaign, C_OWN_COUNT]
    _link_free(ledger, campaign, row)
    return OK, row


@kernel
def import_codes(
    ledger: Ledger,
    campaign: int,
    most: int,
    text: Array,
    offsets: Array,
    symbols: Array,
    folded: Array,
    reasons: Array,
    changes: Array,
) -> int:
    """Add a shop's own codes to a campaign's list, up to `most` in the list; how many changes, two a code.

    text uint8, code i text[offsets[i] : offsets[i + 1]]; symbols and folded as for redemptions
    reasons int64[n]: OK, GARBAGE, TAKEN, or LEDGER_FULL, which is said of a full list too
    """
    made = 0
    for i in range(reasons.shape[0]):
        if ledger.campaigns[campaign, C_OWN_COUNT] >= most:
            reason, row = LEDGER_FULL, -1
        else:
            reason, row = _import_one(ledger, campaign, text, offsets[i], offsets[i + 1], symbols, folded)
        reasons[i] = reason
        ledger.answered[reason] += 1
        if row >= 0:
            for word in range(VOUCHER_WORDS):
                changes[made, 1 + word] = 0
                changes[made + 1, 1 + word] = 0
            changes[made, CHANGE_KIND] = CHANGE_TEXT
            changes[made, 1] = ledger.rows[row, CODE]
            for word in range(_TEXT_WORDS):
                changes[made, _CHANGED_TEXT + word] = ledger.rows[row + 1, TEXT_BYTES + word]
            changes[made, _CHANGED_LENGTH] = ledger.rows[row + 1, TEXT_LENGTH]
            changes[made, _CHANGED_NUMBER] = ledger.rows[row + 1, TEXT_NUMBER]
            changes[made, _CHANGED_CAMPAIGN] = campaign
            changes[made + 1, CHANGE_KIND] = CHANGE_VOUCHER
            changes[made + 1, 1 + CODE] = ledger.rows[row, CODE]
            changes[made + 1, 1 + PACK] = ledger.rows[row, PACK]
            made += 2
    return made


@inline
def _misplaced(ledger: Ledger, campaign: int, own: int) -> bool:
    """Whether no campaign has this number, or it has codes of the other kind."""
    if campaign < 0 or campaign >= ledger.meta[CAMPAIGNS_KNOWN]:
        return True
    return ledger.campaigns[campaign, C_OWN] != own


@kernel
def take_texts(ledger: Ledger, changes: Array) -> int:
    """Make the rows of all own codes of these changes, free; OK, LEDGER_FULL, or UNKNOWN_CAMPAIGN."""
    for i in range(changes.shape[0]):
        if changes[i, CHANGE_KIND] != CHANGE_TEXT or find_code(ledger, changes[i, 1]) >= 0:
            continue
        if _misplaced(ledger, changes[i, _CHANGED_CAMPAIGN], 1):
            return UNKNOWN_CAMPAIGN
        row = _new_own(ledger, changes[i, _CHANGED_CAMPAIGN], changes[i, 1])
        if row < 0:
            return LEDGER_FULL
        for word in range(_TEXT_WORDS):
            ledger.rows[row + 1, TEXT_BYTES + word] = changes[i, _CHANGED_TEXT + word]
        ledger.rows[row + 1, TEXT_LENGTH] = changes[i, _CHANGED_LENGTH]
        ledger.rows[row + 1, TEXT_NUMBER] = changes[i, _CHANGED_NUMBER]
    return OK


@kernel
def take_vouchers(ledger: Ledger, changes: Array) -> int:
    """Put the last change of each voucher into its row; nothing is counted yet. OK, LEDGER_FULL, UNKNOWN_CAMPAIGN, or
    UNKNOWN_CODE for an own code without its text."""
    for i in range(changes.shape[0]):
        if changes[i, CHANGE_KIND] != CHANGE_VOUCHER:
            continue
        row = find_code(ledger, changes[i, 1 + CODE])
        campaign = changes[i, 1 + PACK] & CAMPAIGN_MASK
        if campaign >= ledger.meta[CAMPAIGNS_KNOWN]:
            return UNKNOWN_CAMPAIGN
        if row < 0:
            if ledger.campaigns[campaign, C_OWN] != 0:
                return UNKNOWN_CODE
            if ledger.meta[ROWS_USED] >= ledger.rows.shape[0]:
                return LEDGER_FULL
            row = ledger.meta[ROWS_USED]
            ledger.meta[ROWS_USED] += 1
            ledger.rows[row, CODE] = changes[i, 1 + CODE]
            add_code(ledger, row)
        for word in range(1, VOUCHER_WORDS):
            ledger.rows[row, word] = changes[i, 1 + word]
    return OK


@kernel
def count_vouchers(ledger: Ledger, free: Array, numbers: Array) -> int:
    """Count, find and hang all vouchers after take_vouchers; how many own codes are free.

    free, numbers  int64[own codes]: their rows, and their places in the lists of their campaigns
    """
    of = ledger.campaigns
    for campaign in range(ledger.meta[CAMPAIGNS_KNOWN]):
        of[campaign, C_COUNTS + FREE] = 0
    rows = ledger.rows
    count = 0
    row = 0
    while row < ledger.meta[ROWS_USED]:
        campaign = campaign_of(ledger, row)
        own = of[campaign, C_OWN]
        if granted_at(ledger, row) > 0:
            if own != 0:
                found, alias = find_alias(ledger, campaign, rows[row, DECISION_LO], rows[row, DECISION_HI])
                if found < 0 and alias >= 0:
                    rows[row + 1, TEXT_ALIAS] = alias
                    add_code(ledger, row + 1)
            holder = find_holder(ledger, campaign, rows[row, CUSTOMER_LO], rows[row, CUSTOMER_HI])
            if holder < 0:
                holder = row
                add_holder(ledger, row)
            enter(ledger, row, holder)
        else:
            of[campaign, C_COUNTS + state_of(ledger, row)] += 1
            if state_of(ledger, row) == FREE:
                free[count] = row
                numbers[count] = rows[row + 1, TEXT_NUMBER]
                count += 1
        row += 1 + own
    return count


@kernel
def link_free(ledger: Ledger, free: Array) -> None:
    """Make the lists of free own codes. free int64: their rows, those of a campaign in the order of its list."""
    for k in range(free.shape[0]):
        _link_free(ledger, campaign_of(ledger, free[k]), free[k])


@kernel
def sum_up(ledger: Ledger, sums: Array) -> None:
    """The sums of all vouchers anew, from nothing but themselves.

    sums int64[campaigns, STATES + 3]: vouchers by state, money held, money spent, vouchers counted for customers
    """
    row = 0
    while row < ledger.meta[ROWS_USED]:
        campaign = ledger.rows[row, PACK] & CAMPAIGN_MASK
        state = state_of(ledger, row)
        sums[campaign, state] += 1
        if waits(state):
            sums[campaign, STATES] += held_amount(ledger, row)
        elif state == REDEEMED:
            sums[campaign, STATES + 1] += discount_of(ledger, row)
        sums[campaign, STATES + 2] += ledger.held[row]
        row += 1 + ledger.campaigns[campaign, C_OWN]
