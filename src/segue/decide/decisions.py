"""What was decided, as tables: of one part of the state or of many, one part's rows behind the other's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segue_kernels.shard import (
    OUT_ACTIONS,
    OUT_CHANGES,
    OUT_CREDITS,
    OUT_FIRED,
    OUT_ITEM_TEXT,
    OUT_ITEMS,
    OUT_LOG,
    OUT_REASONS,
    OUT_SAMPLE,
    OUT_SPANS,
    OUT_TIMER_RECORDS,
    OUT_TIMER_TEXT,
    OUT_WITHDRAWN,
    Out,
)

Words = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Grants:
    """What the ledger of vouchers granted for decisions.

    actions     their rows whose offer got a voucher, ascending; codes and expires_ms (UTC) of those
    changes     what the ledger changed, int64[n, CHANGE_WORDS] (segue_kernels/ledger.py), in its order
    spans       the row of `spans` that each change belongs to
    """

    actions: Words
    codes: list[str]
    expires_ms: Words
    changes: Words
    spans: Words


@dataclass(slots=True)
class Decisions:
    """What one call decided: tables of segue_kernels/shard.py, trimmed, with copies of the records they refer to.

    records, text   of events and timers; LOG_RECORD, ACTION_RECORD, ACTION_ITEM, CHANGE_RECORD, CREDIT_RECORD,
                    CREDIT_ITEM and WITHDRAWN_RECORD are rows of `records`
    items           ACTION_ITEMS: offset << 8 | length in `item_text`
    spans           which rows are whose: a part of the state, and the number of its runs up to this one
    grants          once the ledger has answered: then no action stands in for another one any more
    """

    records: Words
    text: Bytes
    log: Words
    reasons: npt.NDArray[np.uint8]
    fired: npt.NDArray[np.uint16]
    actions: Words
    numbers: npt.NDArray[np.float64]
    sample: npt.NDArray[np.float64]
    changes: Words
    credits: Words
    items: Words
    item_text: Bytes
    withdrawn: Words
    spans: Words
    grants: Grants | None = None


def take_decisions(out: Out) -> Decisions | None:
    """What stands in the output, which is empty afterwards; None if that is nothing. Every span has ended."""
    used = out.used.tolist()
    out.used[:] = 0
    if not used[OUT_SPANS]:
        return None
    return Decisions(
        out.timer_records[: used[OUT_TIMER_RECORDS]].copy(),
        out.timer_text[: used[OUT_TIMER_TEXT]].copy(),
        out.log[: used[OUT_LOG]].copy(),
        out.reasons[: used[OUT_REASONS]].copy(),
        out.fired[: used[OUT_FIRED]].copy(),
        out.actions[: used[OUT_ACTIONS]].copy(),
        out.numbers[: used[OUT_ACTIONS]].copy(),
        out.sample[: used[OUT_SAMPLE]].copy(),
        out.changes[: used[OUT_CHANGES]].copy(),
        out.credits[: used[OUT_CREDITS]].copy(),
        out.items[: used[OUT_ITEMS]].copy(),
        out.item_text[: used[OUT_ITEM_TEXT]].copy(),
        out.withdrawn[: used[OUT_WITHDRAWN]].copy(),
        out.spans[: used[OUT_SPANS]].copy(),
    )
