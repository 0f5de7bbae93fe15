"""How a voucher passes from one state to another, and what it charges.

Law: a campaign's counts and money are at every moment the sums over its vouchers by their states. Reserved, issued,
redeemed, expired and cancelled ones count against the number, the customer's and the day's limit: what went out once
does not come back. Money is held while a voucher may still cost something, and then only what it cost is spent.
"""

from __future__ import annotations

from segue_kernels.calendar import DAY_MS, KNOWN_FIRST_DAY, KNOWN_LAST_DAY, TABLE_DAYS, TABLE_FIRST_DAY
from segue_kernels.codes import signed
from segue_kernels.jit import Array, inline, outline
from segue_kernels.ledger import (
    AMOUNT,
    AMOUNT_BITS,
    AMOUNT_MASK,
    C_BUDGET,
    C_COUNTS,
    C_HELD,
    C_MONEY,
    C_PER_CUSTOMER,
    C_PER_DAY,
    C_SPENT,
    C_ZONE,
    CAMPAIGN_BITS,
    CANCELLED,
    CHANGE_KIND,
    CHANGE_VOUCHER,
    CUSTOMER_HI,
    CUSTOMER_LIMIT,
    CUSTOMER_LO,
    DAY_LIMIT,
    DAYS_KEPT,
    EXPIRED,
    HELD_COUNT_MAX,
    ISSUED,
    LATE,
    LINK,
    MONEY_SPENT,
    NUMBER_SPENT,
    OK,
    PACK,
    REDEEMED,
    RESERVED,
    STATE_MASK,
    VOUCHER_WORDS,
    Ledger,
)
from segue_kernels.ledger_index import find_holder
from segue_kernels.ledger_wheel import campaign_of, granted_at, hang, state_of, unhang, waits


@inline
def charged(state: int) -> bool:
    """Whether a voucher in this state counts against the limits in number."""
    return state == RESERVED or state == ISSUED or state == REDEEMED or state == EXPIRED or state == CANCELLED


@inline
def day_of(ledger: Ledger, campaign: int, now: int) -> int:
    """The day of `now` in the campaign's time zone, counted from 1970-01-01 (calendar.py says when it begins)."""
    utc_day = now // DAY_MS
    day = utc_day - TABLE_FIRST_DAY
    if day < 1 or day > TABLE_DAYS - 3:
        return utc_day
    zone = ledger.campaigns[campaign, C_ZONE]
    while ledger.day_start[zone, day] > now:
        day -= 1
    while ledger.day_start[zone, day + 1] <= now:
        day += 1
    if day < KNOWN_FIRST_DAY - TABLE_FIRST_DAY or day > KNOWN_LAST_DAY - TABLE_FIRST_DAY:
        return utc_day
    return day + TABLE_FIRST_DAY


@inline
def charged_count(ledger: Ledger, campaign: int) -> int:
    """Vouchers of a campaign that count against its budget in number."""
    count = 0
    for state in range(RESERVED, CANCELLED + 1):
        if charged(state):
            count += ledger.campaigns[campaign, C_COUNTS + state]
    return count


@inline
def room(ledger: Ledger, campaign: int, holder: int, now: int, amount: int, late: bool) -> int:
    """OK, or the limit that one more voucher of `amount` would pass.

    holder  the first voucher of the campaign and the customer, or -1
    late    a day that is no longer counted doesn't matter: the voucher was counted when the day was
    """
    of = ledger.campaigns
    if holder >= 0:
        most = of[campaign, C_PER_CUSTOMER]
        if most == 0:
            most = HELD_COUNT_MAX
        if ledger.held[holder] >= most:
            return CUSTOMER_LIMIT
    if of[campaign, C_PER_DAY] > 0:
        day = day_of(ledger, campaign, now)
        slot = day % DAYS_KEPT
        counted = ledger.days[campaign, slot, 0]
        if counted > day and not late:
            return LATE
        if counted == day and ledger.days[campaign, slot, 1] >= of[campaign, C_PER_DAY]:
            return DAY_LIMIT
    if of[campaign, C_BUDGET] >= 0 and charged_count(ledger, campaign) >= of[campaign, C_BUDGET]:
        return NUMBER_SPENT
    if (
        of[campaign, C_MONEY] >= 0
        and of[campaign, C_HELD] + of[campaign, C_SPENT] + amount > of[campaign, C_MONEY]
    ):
        return MONEY_SPENT
    return OK


@inline
def count_day(ledger: Ledger, campaign: int, now: int, by: int) -> None:
    """Add to the vouchers of the day of `now`, unless a later day has its place."""
    day = day_of(ledger, campaign, now)
    slot = day % DAYS_KEPT
    if ledger.days[campaign, slot, 0] < day:
        ledger.days[campaign, slot, 0] = day
        ledger.days[campaign, slot, 1] = 0
    if ledger.days[campaign, slot, 0] == day:
        ledger.days[campaign, slot, 1] += by


@inline
def held_amount(ledger: Ledger, row: int) -> int:
    """The most a voucher may cost, minor units."""
    return ledger.rows[row, AMOUNT] & AMOUNT_MASK


@inline
def discount_of(ledger: Ledger, row: int) -> int:
    """What a redeemed voucher cost, minor units."""
    return ledger.rows[row, AMOUNT] >> AMOUNT_BITS


@inline
def holder_of(ledger: Ledger, row: int) -> int:
    """The first voucher of this one's campaign and customer."""
    rows = ledger.rows
    return find_holder(ledger, campaign_of(ledger, row), rows[row, CUSTOMER_LO], rows[row, CUSTOMER_HI])


@inline
def enter(ledger: Ledger, row: int, holder: int) -> None:
    """Count a new voucher in, by the state it has, and hang it."""
    campaign = campaign_of(ledger, row)
    state = state_of(ledger, row)
    ledger.campaigns[campaign, C_COUNTS + state] += 1
    by = 1 if charged(state) else 0
    ledger.held[holder] = signed(ledger.held[holder]) + by
    count_day(ledger, campaign, granted_at(ledger, row), by)
    if waits(state):
        ledger.campaigns[campaign, C_HELD] += held_amount(ledger, row)
        hang(ledger, row)
    elif state == REDEEMED:
        ledger.campaigns[campaign, C_SPENT] += discount_of(ledger, row)


@outline
def move(ledger: Ledger, row: int, to: int) -> None:
    """Pass from one state to another; never from REDEEMED, and to REDEEMED with the discount in its place already."""
    campaign = campaign_of(ledger, row)
    was = state_of(ledger, row)
    of = ledger.campaigns
    of[campaign, C_COUNTS + was] -= 1
    of[campaign, C_COUNTS + to] += 1
    if waits(was):
        unhang(ledger, row)
        of[campaign, C_HELD] -= held_amount(ledger, row)
    if charged(was) != charged(to):
        by = 1 if charged(to) else -1
        holder = holder_of(ledger, row)
        ledger.held[holder] = signed(ledger.held[holder]) + by
        count_day(ledger, campaign, granted_at(ledger, row), by)
    pack = ledger.rows[row, PACK]
    ledger.rows[row, PACK] = pack - (pack & (STATE_MASK << CAMPAIGN_BITS)) + (to << CAMPAIGN_BITS)
    if waits(to):
        of[campaign, C_HELD] += held_amount(ledger, row)
        hang(ledger, row)
    elif to == REDEEMED:
        of[campaign, C_SPENT] += discount_of(ledger, row)


@inline
def room_again(ledger: Ledger, row: int) -> int:
    """OK, or the limit that charging a voucher that went back would pass."""
    holder = holder_of(ledger, row)
    return room(
        ledger, campaign_of(ledger, row), holder, granted_at(ledger, row), held_amount(ledger, row), True
    )


@inline
def write_change(ledger: Ledger, row: int, changes: Array, at: int) -> int:
    """Write a voucher as it is now into changes[at]; where the next one goes."""
    changes[at, CHANGE_KIND] = CHANGE_VOUCHER
    for word in range(VOUCHER_WORDS):
        changes[at, 1 + word] = ledger.rows[row, word]
    if state_of(ledger, row) != REDEEMED:
        changes[at, 1 + LINK] = 0
    return at + 1
