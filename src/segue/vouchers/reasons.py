"""What an answer of the ledger is called, for logs, messages and people."""

from __future__ import annotations

from segue_kernels import ledger

REASON_NAMES: dict[int, str] = {
    ledger.OK: "ok",
    ledger.AGAIN: "again",
    ledger.UNKNOWN_CAMPAIGN: "unknown_campaign",
    ledger.NOT_BEGUN: "not_begun",
    ledger.ENDED: "ended",
    ledger.STOPPED: "campaign_cancelled",
    ledger.OTHER_CURRENCY: "currency",
    ledger.BAD_AMOUNT: "amount_out_of_range",
    ledger.LATE: "day_no_longer_counted",
    ledger.CUSTOMER_LIMIT: "customer_limit",
    ledger.DAY_LIMIT: "day_limit",
    ledger.NUMBER_SPENT: "budget_number",
    ledger.MONEY_SPENT: "budget_money",
    ledger.CODES_SPENT: "no_code_left",
    ledger.LEDGER_FULL: "ledger_full",
    ledger.GARBAGE: "garbage",
    ledger.WRONG_CHECK: "mistyped",
    ledger.UNKNOWN_CODE: "unknown",
    ledger.NOT_ISSUED: "not_issued",
    ledger.ALREADY_REDEEMED: "redeemed",
    ledger.IS_CANCELLED: "cancelled",
    ledger.IS_EXPIRED: "expired",
    ledger.WRONG_CUSTOMER: "wrong_customer",
    ledger.WRONG_SHOP: "wrong_shop",
    ledger.IS_STACKED: "stacked",
    ledger.BASKET_TOO_SMALL: "basket_too_small",
    ledger.ALREADY_ISSUED: "issued",
    ledger.BAD_TIME: "time_out_of_range",
    ledger.TAKEN: "code_taken",
}
