"""What else befalls a voucher: it is issued, given back, cancelled, or its time runs out.

Law: each of these told twice changes nothing the second time, in whatever order they come.

Issued late, after its reservation ended or it was given back, a voucher is charged again if every limit has room;
else it stays as it is and the answer says which limit. What waits comes up in order of time; of equal times in
any, and what was overdue when it began to wait (granted or issued for a time long past) first, in any order.
"""

from __future__ import annotations

from segue_kernels.jit import Array, inline, kernel
from segue_kernels.ledger import (
    AGAIN,
    ALIASES,
    ALREADY_ISSUED,
    ALREADY_REDEEMED,
    BAD_TIME,
    C_STOPPED,
    CANCELLED,
    EXPIRED,
    FREE,
    IS_CANCELLED,
    IS_EXPIRED,
    ISSUED,
    LAPSED,
    NOT_ISSUED,
    OK,
    REDEEMED,
    RELEASED,
    RESERVED,
    STOPPED_CODES,
    TIME_MS_MAX,
    UNKNOWN_CODE,
    WITHDRAWN,
    Ledger,
)
from segue_kernels.ledger_index import find_code
from segue_kernels.ledger_moves import move, room_again, write_change
from segue_kernels.ledger_wheel import campaign_of, expires_at, first_due, state_of

ISSUE = 0
RELEASE = 1
CANCEL = 2


@inline
def _issue(ledger: Ledger, row: int, now: int) -> int:
    state = state_of(ledger, row)
    if state == FREE:
        return NOT_ISSUED
    if state == ISSUED or state == REDEEMED or state == EXPIRED:
        return AGAIN
    stopped = ledger.campaigns[campaign_of(ledger, row), C_STOPPED]
    if state == CANCELLED or state == WITHDRAWN or stopped == STOPPED_CODES:
        return IS_CANCELLED
    if state != RESERVED:
        if now >= expires_at(ledger, row):
            return IS_EXPIRED
        reason = room_again(ledger, row)
        if reason != OK:
            return reason
    move(ledger, row, ISSUED)
    return OK


@inline
def _release(ledger: Ledger, row: int) -> int:
    state = state_of(ledger, row)
    if state == FREE or state == LAPSED or state == RELEASED or state == WITHDRAWN:
        return AGAIN
    if state == REDEEMED:
        return ALREADY_REDEEMED
    if state != RESERVED:
        return ALREADY_ISSUED
    move(ledger, row, RELEASED)
    return OK


@inline
def _cancel(ledger: Ledger, row: int) -> int:
    state = state_of(ledger, row)
    if state == CANCELLED or state == WITHDRAWN:
        return AGAIN
    if state == REDEEMED:
        return ALREADY_REDEEMED
    if state == EXPIRED:
        return IS_EXPIRED
    move(ledger, row, CANCELLED if state == ISSUED else WITHDRAWN)
    return OK


@kernel
def pass_on(ledger: Ledger, action: int, codes: Array, times: Array, reasons: Array, changes: Array) -> int:
    """Issue, release or cancel vouchers in their order; how many changes.

    codes int64[n]: words CODE; times int64[n], UTC ms; reasons int64[n]; changes int64[n or more, CHANGE_WORDS]
    """
    made = 0
    for i in range(codes.shape[0]):
        row = -1
        if codes[i] >= 0 and codes[i] < ALIASES:
            row = find_code(ledger, codes[i])
        reason = UNKNOWN_CODE
        if times[i] <= 0 or times[i] > TIME_MS_MAX:
            reason = BAD_TIME
        elif row >= 0:
            if action == ISSUE:
                reason = _issue(ledger, row, times[i])
            elif action == RELEASE:
                reason = _release(ledger, row)
            else:
                reason = _cancel(ledger, row)
        if reason == OK:
            made = write_change(ledger, row, changes, made)
        reasons[i] = reason
        ledger.answered[reason] += 1
    return made


@kernel
def expire(ledger: Ledger, now: int, changes: Array) -> int:
    """Let go of what ran out at `now` (UTC ms) or before, the earliest first, as far as `changes` goes; how many.

    The module's text says what "first" is for equal times and for what was overdue from the start.
    """
    made = 0
    while made < changes.shape[0]:
        row = first_due(ledger, now + 1)
        if row < 0:
            break
        move(ledger, row, LAPSED if state_of(ledger, row) == RESERVED else EXPIRED)
        made = write_change(ledger, row, changes, made)
    return made
