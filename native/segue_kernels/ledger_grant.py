"""Requests for vouchers: granted with a code and held for a while, or refused with the limit in the way.

Law: equal requests get equal answers and charge once, however often, through whatever rotation of keys: the decision is
looked for under every key of its campaign before anything is granted. A refusal is not remembered: asked again later
the decision may be granted; then what it first led to stands and the reservation lapses. Too few, never too many.

Of a ranking, requests of one decision with the best first, at most one is granted: the one that was before, else the
first that is not refused.
"""

from __future__ import annotations

import numpy as np

from segue_kernels.codes import CODE_MASK, attempted_code, signed
from segue_kernels.jit import Array, inline, kernel, outline
from segue_kernels.ledger import (
    A_AMOUNT,
    A_CAMPAIGN,
    A_CODE,
    A_EXPIRES,
    A_REASON,
    A_RESERVED_UNTIL,
    A_ROW,
    AGAIN,
    ALIASES,
    AMOUNT,
    ANSWER_WORDS,
    ATTEMPTS,
    BAD_AMOUNT,
    BAD_TIME,
    C_COUNTS,
    C_CURRENCY,
    C_DEPTH,
    C_END,
    C_HASH_HI,
    C_HASH_LO,
    C_KEYS,
    C_KEYS_COUNT,
    C_KNOWN,
    C_OWN,
    C_OWN_FIRST,
    C_OWN_LAST,
    C_START,
    C_STOPPED,
    CAMPAIGN_BITS,
    CAMPAIGNS_KNOWN,
    CODE,
    CODE_MASK_NOW,
    CODES_SPENT,
    CUSTOMER_HI,
    CUSTOMER_LO,
    DECISION_HI,
    DECISION_LO,
    ENDED,
    FREE,
    G_AMOUNT,
    G_CAMPAIGN,
    G_CURRENCY,
    G_CUSTOMER_HI,
    G_CUSTOMER_LO,
    G_DECISION_HI,
    G_DECISION_LO,
    G_NOW,
    GRANTED_SHIFT,
    LEDGER_FULL,
    LINK,
    NOT_BEGUN,
    OK,
    OTHER_CURRENCY,
    PACK,
    RESERVED,
    ROWS_USED,
    STOPPED,
    TEXT_ALIAS,
    TIME_MS_MAX,
    UNKNOWN_CAMPAIGN,
    Ledger,
)
from segue_kernels.ledger_index import add_code, add_holder, find_code, find_holder
from segue_kernels.ledger_moves import enter, held_amount, room, write_change
from segue_kernels.ledger_wheel import campaign_of, expires_at, reserved_until, state_of
from segue_kernels.siphash import siphash128_words


@inline
def _is_of(ledger: Ledger, row: int, campaign: int, lo: int, hi: int) -> bool:
    rows = ledger.rows
    return (
        rows[row, DECISION_LO] == lo and rows[row, DECISION_HI] == hi and campaign_of(ledger, row) == campaign
    )


@inline
def _key_at(ledger: Ledger, campaign: int, now: int) -> int:
    """Which of a campaign's keys holds at `now`; before the first one does, the first."""
    first = ledger.campaigns[campaign, C_KEYS]
    chosen = ledger.campaigns[campaign, C_KEYS_COUNT] - 1
    while chosen > 0 and ledger.keys[first + chosen, 0] > now:
        chosen -= 1
    return chosen


@outline
def find_alias(ledger: Ledger, campaign: int, lo: int, hi: int) -> tuple[int, int]:
    """An own list's voucher of a decision, or -1, and the alias under which it is or will be found; no secret."""
    k0 = np.uint64(ledger.campaigns[campaign, C_HASH_LO])
    k1 = np.uint64(ledger.campaigns[campaign, C_HASH_HI])
    for attempt in range(ledger.meta[ATTEMPTS]):
        low, _ = siphash128_words(campaign, 0, lo, hi, attempt, k0, k1)
        alias = (signed(low & np.uint64(CODE_MASK)) & ledger.meta[CODE_MASK_NOW]) + ALIASES
        row = find_code(ledger, alias)
        if row < 0:
            return -1, alias
        if _is_of(ledger, row - 1, campaign, lo, hi):
            return row - 1, alias
    return -1, -1


@inline
def _find_decision(ledger: Ledger, campaign: int, lo: int, hi: int, now: int) -> tuple[int, int]:
    """A decision's voucher, or -1, and the free code (own list: alias) that a new one would get, or -1."""
    of = ledger.campaigns
    if of[campaign, C_OWN] != 0:
        return find_alias(ledger, campaign, lo, hi)
    chosen = _key_at(ledger, campaign, now)
    free = -1
    for number in range(of[campaign, C_KEYS_COUNT]):
        key = of[campaign, C_KEYS] + number
        k0 = np.uint64(ledger.keys[key, 1])
        k1 = np.uint64(ledger.keys[key, 2])
        for attempt in range(ledger.meta[ATTEMPTS]):
            code = attempted_code(
                of[campaign, C_HASH_LO],
                of[campaign, C_HASH_HI],
                lo,
                hi,
                attempt,
                k0,
                k1,
                ledger.meta[CODE_MASK_NOW],
            )
            if code < 0:
                continue
            row = find_code(ledger, code)
            if row < 0:
                if number == chosen:
                    free = code
                break
            if _is_of(ledger, row, campaign, lo, hi):
                return row, -1
    return -1, free


@inline
def _why_not(ledger: Ledger, campaign: int, requests: Array, i: int, amount: int) -> int:
    """OK, or why the campaign grants nothing to anybody who asks like this."""
    of = ledger.campaigns
    if of[campaign, C_STOPPED] != 0:
        return STOPPED
    if requests[i, G_NOW] < of[campaign, C_START]:
        return NOT_BEGUN
    if requests[i, G_NOW] >= of[campaign, C_END]:
        return ENDED
    if requests[i, G_CURRENCY] != of[campaign, C_CURRENCY]:
        return OTHER_CURRENCY
    if amount <= 0 or amount > of[campaign, C_DEPTH]:
        return BAD_AMOUNT
    return OK


@outline
def _draw_own(ledger: Ledger, campaign: int) -> int:
    """Take the next free code off a campaign's own list; its row, or -1."""
    of = ledger.campaigns
    while of[campaign, C_OWN_FIRST] != 0:
        row = of[campaign, C_OWN_FIRST] - 1
        of[campaign, C_OWN_FIRST] = ledger.rows[row, LINK]
        if ledger.rows[row, LINK] == 0:
            of[campaign, C_OWN_LAST] = 0
        ledger.rows[row, LINK] = 0
        if state_of(ledger, row) == FREE:
            of[campaign, C_COUNTS + FREE] -= 1
            return row
    return -1


@inline
def _new_row(ledger: Ledger, campaign: int, code: int) -> int:
    """A row for a voucher and whether there is none: its number, or minus the reason."""
    if ledger.campaigns[campaign, C_OWN] != 0:
        row = _draw_own(ledger, campaign)
        if row < 0:
            return -CODES_SPENT
        ledger.rows[row + 1, TEXT_ALIAS] = code
        add_code(ledger, row + 1)
        return row
    if ledger.meta[ROWS_USED] >= ledger.rows.shape[0]:
        return -LEDGER_FULL
    row = ledger.meta[ROWS_USED]
    ledger.meta[ROWS_USED] += 1
    ledger.rows[row, CODE] = code
    add_code(ledger, row)
    return row


@inline
def answer_row(ledger: Ledger, row: int, reason: int, answers: Array, i: int) -> None:
    """What is said of a voucher."""
    answers[i, A_REASON] = reason
    answers[i, A_CODE] = ledger.rows[row, CODE]
    answers[i, A_RESERVED_UNTIL] = reserved_until(ledger, row)
    answers[i, A_EXPIRES] = expires_at(ledger, row)
    answers[i, A_AMOUNT] = held_amount(ledger, row)
    answers[i, A_CAMPAIGN] = campaign_of(ledger, row)
    answers[i, A_ROW] = row


@inline
def _grant_one(ledger: Ledger, requests: Array, i: int, answers: Array, changes: Array, made: int) -> int:
    campaign = requests[i, G_CAMPAIGN]
    now = requests[i, G_NOW]
    answers[i, A_CAMPAIGN] = campaign
    if campaign < 0 or campaign >= ledger.meta[CAMPAIGNS_KNOWN] or ledger.campaigns[campaign, C_KNOWN] == 0:
        answers[i, A_REASON] = UNKNOWN_CAMPAIGN
        return made
    if now <= 0 or now > TIME_MS_MAX:
        answers[i, A_REASON] = BAD_TIME
        return made
    lo = requests[i, G_DECISION_LO]
    hi = requests[i, G_DECISION_HI]
    row, code = _find_decision(ledger, campaign, lo, hi, now)
    if row >= 0:
        answer_row(ledger, row, AGAIN, answers, i)
        return made
    amount = requests[i, G_AMOUNT]
    if amount == 0:
        amount = ledger.campaigns[campaign, C_DEPTH]
    reason = _why_not(ledger, campaign, requests, i, amount)
    customer_lo = requests[i, G_CUSTOMER_LO]
    customer_hi = requests[i, G_CUSTOMER_HI]
    holder = -1
    if reason == OK:
        holder = find_holder(ledger, campaign, customer_lo, customer_hi)
        reason = room(ledger, campaign, holder, now, amount, False)
    if reason == OK and code < 0:
        reason = CODES_SPENT
    if reason == OK:
        row = _new_row(ledger, campaign, code)
        reason = max(0, -row)
    if reason != OK:
        answers[i, A_REASON] = reason
        return made
    rows = ledger.rows
    rows[row, DECISION_LO] = lo
    rows[row, DECISION_HI] = hi
    rows[row, CUSTOMER_LO] = customer_lo
    rows[row, CUSTOMER_HI] = customer_hi
    rows[row, PACK] = (now << GRANTED_SHIFT) + (RESERVED << CAMPAIGN_BITS) + campaign
    rows[row, AMOUNT] = amount
    if holder < 0:
        holder = row
        add_holder(ledger, row)
    enter(ledger, row, holder)
    answer_row(ledger, row, OK, answers, i)
    return write_change(ledger, row, changes, made)


@inline
def _no_answer(answers: Array, i: int) -> None:
    for word in range(ANSWER_WORDS):
        answers[i, word] = 0
    answers[i, A_ROW] = -1


@inline
def _was_granted(ledger: Ledger, requests: Array, i: int) -> bool:
    campaign = requests[i, G_CAMPAIGN]
    now = requests[i, G_NOW]
    if campaign < 0 or campaign >= ledger.meta[CAMPAIGNS_KNOWN] or ledger.campaigns[campaign, C_KNOWN] == 0:
        return False
    lo = requests[i, G_DECISION_LO]
    row, _ = _find_decision(ledger, campaign, lo, requests[i, G_DECISION_HI], now)
    return row >= 0


@kernel
def grant_rankings(
    ledger: Ledger, requests: Array, starts: Array, taken: Array, answers: Array, changes: Array
) -> int:
    """Answer rankings in their order: requests[starts[r]:starts[r + 1]] are those of ranking r; how many changes.

    requests int64[n, GRANT_WORDS]; starts int64[rankings + 1]; answers int64[n, ANSWER_WORDS], without a row where
    nothing was asked any more; changes int64[rankings or more, CHANGE_WORDS]
    taken int64[rankings]: which of its requests was granted, counted from its first; -1 = none
    """
    made = 0
    for ranking in range(starts.shape[0] - 1):
        first = starts[ranking]
        end = starts[ranking + 1]
        taken[ranking] = -1
        for i in range(first, end):
            _no_answer(answers, i)
        begin = first
        if end - first > 1:
            for i in range(first, end):
                if _was_granted(ledger, requests, i):
                    begin = i
                    break
        for i in range(begin, end):
            made = _grant_one(ledger, requests, i, answers, changes, made)
            ledger.answered[answers[i, A_REASON]] += 1
            if answers[i, A_ROW] >= 0:
                taken[ranking] = i - first
                break
    return made


@kernel
def grant(ledger: Ledger, requests: Array, answers: Array, changes: Array) -> int:
    """Answer requests for vouchers in their order; how many changes.

    requests int64[n, GRANT_WORDS]; answers int64[n, ANSWER_WORDS]; changes int64[n or more, CHANGE_WORDS]
    """
    made = 0
    for i in range(requests.shape[0]):
        _no_answer(answers, i)
        made = _grant_one(ledger, requests, i, answers, changes, made)
        ledger.answered[answers[i, A_REASON]] += 1
    return made
