"""The rows of the decision log as columns (columns.py), and what a decision's receipt says."""

from __future__ import annotations

from segue_kernels.columns import (
    COLUMN_BITS,
    COLUMN_BYTES,
    COLUMN_FIXED,
    COLUMN_KIND,
    COLUMN_LIST,
    COLUMN_OFFSETS,
    COLUMN_VALUES,
    COLUMN_WIDTH,
)
from segue_kernels.heap import put_string, string_length
from segue_kernels.jit import Array, inline, kernel
from segue_kernels.receipt import (
    RECEIPT_CATEGORY,
    RECEIPT_CONTACT,
    RECEIPT_CUSTOMER_HI,
    RECEIPT_CUSTOMER_KIND,
    RECEIPT_CUSTOMER_LO,
    RECEIPT_DECISION_HI,
    RECEIPT_DECISION_LO,
    RECEIPT_FLAGS,
    RECEIPT_IS_HELD,
    RECEIPT_IS_LOGGED,
    RECEIPT_IS_SENT,
    RECEIPT_OFFER,
    RECEIPT_PART,
    RECEIPT_PRODUCT,
    RECEIPT_SEQUENCE,
    RECEIPT_TIME,
    RECEIPT_WORDS,
    RECEIPT_ZONE,
)
from segue_kernels.record import (
    CATEGORY,
    CUSTOMER_HI,
    CUSTOMER_LO,
    FLAG_KIND,
    PACK,
    PRODUCT,
    STRING_CUSTOMER,
    STRING_MESSAGE,
)
from segue_kernels.shard import (
    ACTION_ITEM,
    ACTION_LOG,
    LOG_CANDIDATES,
    LOG_DECISION_HI,
    LOG_DECISION_LO,
    LOG_FIRED,
    LOG_FIRED_COUNT,
    LOG_HELD,
    LOG_NOW,
    LOG_RECORD,
    LOG_SAMPLE,
    LOG_SLOT,
    LOG_WINNER,
    LOG_ZONE,
    SAMPLE_CONTEXT,
    SAMPLE_PROPENSITY,
    SAMPLE_SCORE,
    SPAN_LOG_END,
    SPAN_PART,
    SPAN_SEQUENCE,
)
from segue_kernels.strings import put_digits

# columns of the log, in their order
COLUMN_DECISION = 0
COLUMN_CUSTOMER = 1
COLUMN_TIME = 2
COLUMN_CAUSE = 3
COLUMN_CHANNEL = 4
COLUMN_PLACEMENT = 5
COLUMN_WINNER = 6
COLUMN_JOURNEYS = 7
COLUMN_REASONS = 8
COLUMN_PROPENSITIES = 9
COLUMN_CONTEXTS = 10
COLUMN_SCORES = 11
LOG_COLUMNS = 12

_ID_DIGITS = 32


@inline
def _place(columns: Array, column: int, what: int, at: int, size: int) -> int:
    columns[column, what] = at
    return at + (size + 7) // 8 * 8


@inline
def _place_column(
    columns: Array, column: int, kind: int, width: int, has_bits: bool, rows: int, values: int, at: int
) -> int:
    """A column's row of `columns` says what it is and where its parts lie, from `at` on: bits of what is not null,
    offsets, values, each in whole words. Returns where the next column begins; all places are in bytes.

    kind     COLUMN_FIXED, COLUMN_BYTES, COLUMN_LIST; only the latter two have offsets, int32[rows + 1]
    width    bytes of a value
    values   their number, of all rows together
    columns  int64[LOG_COLUMNS, COLUMN_WORDS]
    """
    columns[column, COLUMN_KIND] = kind
    columns[column, COLUMN_WIDTH] = width
    columns[column, COLUMN_BITS] = -1
    columns[column, COLUMN_OFFSETS] = -1
    if has_bits:
        at = _place(columns, column, COLUMN_BITS, at, (rows + 7) // 8)
    if kind != COLUMN_FIXED:
        at = _place(columns, column, COLUMN_OFFSETS, at, 4 * (rows + 1))
    return _place(columns, column, COLUMN_VALUES, at, values * width)


@kernel
def place_log(log: Array, heaps: Array, columns: Array) -> int:
    """Lay out the columns of these log rows; bytes of the buffer that they need.

    heaps int64: HEAP of each record; columns int64[LOG_COLUMNS, COLUMN_WORDS]
    """
    rows = log.shape[0]
    customers = causes = absent = fired = candidates = sampled = 0
    for row in range(rows):
        heap = heaps[log[row, LOG_RECORD]]
        customers += string_length(heap, STRING_CUSTOMER)
        cause = string_length(heap, STRING_MESSAGE)
        causes += cause
        absent += cause == 0
        fired += log[row, LOG_FIRED_COUNT]
        candidates += log[row, LOG_CANDIDATES]
        if log[row, LOG_SAMPLE] >= 0:
            sampled += log[row, LOG_CANDIDATES]
    at = _place_column(columns, COLUMN_DECISION, COLUMN_BYTES, 1, False, rows, _ID_DIGITS * rows, 0)
    at = _place_column(columns, COLUMN_CUSTOMER, COLUMN_BYTES, 1, False, rows, customers, at)
    at = _place_column(columns, COLUMN_TIME, COLUMN_FIXED, 8, False, rows, rows, at)
    at = _place_column(columns, COLUMN_CAUSE, COLUMN_BYTES, 1, absent > 0, rows, causes, at)
    at = _place_column(columns, COLUMN_CHANNEL, COLUMN_FIXED, 4, False, rows, rows, at)
    at = _place_column(columns, COLUMN_PLACEMENT, COLUMN_FIXED, 4, False, rows, rows, at)
    at = _place_column(columns, COLUMN_WINNER, COLUMN_FIXED, 4, True, rows, rows, at)
    at = _place_column(columns, COLUMN_JOURNEYS, COLUMN_LIST, 2, False, rows, fired, at)
    at = _place_column(columns, COLUMN_REASONS, COLUMN_BYTES, 1, False, rows, candidates, at)
    at = _place_column(columns, COLUMN_PROPENSITIES, COLUMN_LIST, 8, True, rows, sampled, at)
    at = _place_column(columns, COLUMN_CONTEXTS, COLUMN_LIST, 8, True, rows, sampled, at)
    return _place_column(columns, COLUMN_SCORES, COLUMN_LIST, 8, True, rows, sampled, at)


@inline
def _set_bit(data: Array, bits: int, row: int, is_set: bool) -> None:
    if row & 7 == 0:
        data[bits + (row >> 3)] = 0
    if is_set:
        data[bits + (row >> 3)] |= 1 << (row & 7)


@kernel
def fill_log(
    log: Array,
    heaps: Array,
    text: Array,
    reasons: Array,
    fired: Array,
    sample: Array,
    columns: Array,
    data: Array,
    halves: Array,
    words: Array,
) -> None:
    """Fill the columns that place_log has laid out. data uint8, halves int32, words int64: their buffer.

    sample int64[n, SAMPLE_WORDS]: the bits of its numbers; `reasons` follow one another in the order of the log rows
    """
    ids = columns[COLUMN_DECISION, COLUMN_VALUES]
    customers = customer_at = columns[COLUMN_CUSTOMER, COLUMN_VALUES]
    causes = cause_at = columns[COLUMN_CAUSE, COLUMN_VALUES]
    journeys = journey_at = columns[COLUMN_JOURNEYS, COLUMN_VALUES]
    reason_from = columns[COLUMN_REASONS, COLUMN_VALUES]
    propensities = columns[COLUMN_PROPENSITIES, COLUMN_VALUES] // 8
    contexts = columns[COLUMN_CONTEXTS, COLUMN_VALUES] // 8
    scores = columns[COLUMN_SCORES, COLUMN_VALUES] // 8
    reason = 0
    sampled = 0
    for row in range(log.shape[0]):
        heap = heaps[log[row, LOG_RECORD]]
        halves[columns[COLUMN_DECISION, COLUMN_OFFSETS] // 4 + row] = _ID_DIGITS * row
        put_digits(log[row, LOG_DECISION_HI], data, ids + _ID_DIGITS * row)
        put_digits(log[row, LOG_DECISION_LO], data, ids + _ID_DIGITS * row + 16)
        halves[columns[COLUMN_CUSTOMER, COLUMN_OFFSETS] // 4 + row] = customer_at - customers
        customer_at = put_string(text, heap, STRING_CUSTOMER, data, customer_at)
        words[columns[COLUMN_TIME, COLUMN_VALUES] // 8 + row] = log[row, LOG_NOW]
        halves[columns[COLUMN_CAUSE, COLUMN_OFFSETS] // 4 + row] = cause_at - causes
        if columns[COLUMN_CAUSE, COLUMN_BITS] >= 0:
            is_caused = string_length(heap, STRING_MESSAGE) != 0
            _set_bit(data, columns[COLUMN_CAUSE, COLUMN_BITS], row, is_caused)
        cause_at = put_string(text, heap, STRING_MESSAGE, data, cause_at)
        halves[columns[COLUMN_CHANNEL, COLUMN_VALUES] // 4 + row] = log[row, LOG_SLOT]
        halves[columns[COLUMN_PLACEMENT, COLUMN_VALUES] // 4 + row] = log[row, LOG_SLOT]
        _set_bit(data, columns[COLUMN_WINNER, COLUMN_BITS], row, log[row, LOG_WINNER] >= 0)
        halves[columns[COLUMN_WINNER, COLUMN_VALUES] // 4 + row] = log[row, LOG_WINNER]
        halves[columns[COLUMN_JOURNEYS, COLUMN_OFFSETS] // 4 + row] = (journey_at - journeys) // 2
        for k in range(log[row, LOG_FIRED], log[row, LOG_FIRED] + log[row, LOG_FIRED_COUNT]):
            data[journey_at] = fired[k] & 0xFF
            data[journey_at + 1] = fired[k] >> 8
            journey_at += 2
        candidates = log[row, LOG_CANDIDATES]
        halves[columns[COLUMN_REASONS, COLUMN_OFFSETS] // 4 + row] = reason
        for k in range(candidates):
            data[reason_from + reason + k] = reasons[reason + k]
        reason += candidates
        halves[columns[COLUMN_PROPENSITIES, COLUMN_OFFSETS] // 4 + row] = sampled
        halves[columns[COLUMN_CONTEXTS, COLUMN_OFFSETS] // 4 + row] = sampled
        halves[columns[COLUMN_SCORES, COLUMN_OFFSETS] // 4 + row] = sampled
        first = log[row, LOG_SAMPLE]
        _set_bit(data, columns[COLUMN_PROPENSITIES, COLUMN_BITS], row, first >= 0)
        _set_bit(data, columns[COLUMN_CONTEXTS, COLUMN_BITS], row, first >= 0)
        _set_bit(data, columns[COLUMN_SCORES, COLUMN_BITS], row, first >= 0)
        if first >= 0:
            for k in range(candidates):
                words[propensities + sampled + k] = sample[first + k, SAMPLE_PROPENSITY]
                words[contexts + sampled + k] = sample[first + k, SAMPLE_CONTEXT]
                words[scores + sampled + k] = sample[first + k, SAMPLE_SCORE]
            sampled += candidates
    rows = log.shape[0]
    halves[columns[COLUMN_DECISION, COLUMN_OFFSETS] // 4 + rows] = _ID_DIGITS * rows
    halves[columns[COLUMN_CUSTOMER, COLUMN_OFFSETS] // 4 + rows] = customer_at - customers
    halves[columns[COLUMN_CAUSE, COLUMN_OFFSETS] // 4 + rows] = cause_at - causes
    halves[columns[COLUMN_JOURNEYS, COLUMN_OFFSETS] // 4 + rows] = (journey_at - journeys) // 2
    halves[columns[COLUMN_REASONS, COLUMN_OFFSETS] // 4 + rows] = reason
    halves[columns[COLUMN_PROPENSITIES, COLUMN_OFFSETS] // 4 + rows] = sampled
    halves[columns[COLUMN_CONTEXTS, COLUMN_OFFSETS] // 4 + rows] = sampled
    halves[columns[COLUMN_SCORES, COLUMN_OFFSETS] // 4 + rows] = sampled


@kernel
def write_receipts(
    records: Array,
    log: Array,
    actions: Array,
    spans: Array,
    offers: Array,
    of_log: Array,
    of_actions: Array,
    row0: int,
    action0: int,
) -> None:
    """Receipts of log rows into of_log[row0:], of actions into of_actions[action0:], both int64[n, RECEIPT_WORDS].

    offers int64[n, 2]: RECEIPT_OFFER and RECEIPT_CONTACT by the number of the offer
    """
    row = 0
    for span in range(spans.shape[0]):
        while row < spans[span, SPAN_LOG_END]:
            record = log[row, LOG_RECORD]
            to = row0 + row
            for word in range(RECEIPT_WORDS):
                of_log[to, word] = 0
            of_log[to, RECEIPT_PART] = spans[span, SPAN_PART]
            of_log[to, RECEIPT_SEQUENCE] = spans[span, SPAN_SEQUENCE]
            of_log[to, RECEIPT_CUSTOMER_LO] = records[record, CUSTOMER_LO]
            of_log[to, RECEIPT_CUSTOMER_HI] = records[record, CUSTOMER_HI]
            of_log[to, RECEIPT_CUSTOMER_KIND] = (records[record, PACK] >> 8) & FLAG_KIND
            of_log[to, RECEIPT_DECISION_LO] = log[row, LOG_DECISION_LO]
            of_log[to, RECEIPT_DECISION_HI] = log[row, LOG_DECISION_HI]
            of_log[to, RECEIPT_TIME] = log[row, LOG_NOW]
            of_log[to, RECEIPT_ZONE] = log[row, LOG_ZONE]
            of_log[to, RECEIPT_FLAGS] = RECEIPT_IS_LOGGED
            winner = log[row, LOG_WINNER]
            if winner >= 0:
                of_log[to, RECEIPT_OFFER] = offers[winner, 0]
                of_log[to, RECEIPT_CONTACT] = offers[winner, 1]
            elif log[row, LOG_HELD] >= 0:
                of_log[to, RECEIPT_OFFER] = offers[log[row, LOG_HELD], 0]
                of_log[to, RECEIPT_FLAGS] = RECEIPT_IS_LOGGED | RECEIPT_IS_HELD
            row += 1
    for action in range(actions.shape[0]):
        row = row0 + actions[action, ACTION_LOG]
        item = actions[action, ACTION_ITEM]
        of_log[row, RECEIPT_PRODUCT] = records[item, PRODUCT]
        of_log[row, RECEIPT_CATEGORY] = records[item, CATEGORY]
    for action in range(actions.shape[0]):
        row = row0 + actions[action, ACTION_LOG]
        for word in range(RECEIPT_WORDS):
            of_actions[action0 + action, word] = of_log[row, word]
        of_actions[action0 + action, RECEIPT_FLAGS] = RECEIPT_IS_SENT
