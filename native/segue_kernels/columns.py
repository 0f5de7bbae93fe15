"""Columns of a table in one buffer, and messages of some of its rows as Arrow's IPC format has them.

A table is `columns` int64[n, COLUMN_WORDS] and a buffer of int64 words, whose bytes they refer to: what Arrow calls the
buffers of its columns, each at a multiple of 8. A message is the batch of Arrow's stream format: its metadata, of which
all messages of a schema have the same but for sizes (`template`), then the buffers of these rows. The bytes are those
that pyarrow writes for a slice of the batch: a buffer that goes on behind the slice is cut to a multiple of 8, one of
strings to a multiple of 64, and at the table's start not at all if 64 would be enough for the whole.
"""

from __future__ import annotations

from segue_kernels.jit import Array, inline, kernel

COLUMN_KIND = 0
COLUMN_WIDTH = 1  # bytes of a value; 1 of COLUMN_BYTES
COLUMN_BITS = 2  # where the bits begin that say which rows have a value; -1: all have
COLUMN_OFFSETS = 3  # where the int32 offsets begin, one more than there are rows
COLUMN_VALUES = 4  # where the values begin
COLUMN_WORDS = 5

# kinds of columns
COLUMN_FIXED = 0
COLUMN_BYTES = 1  # strings
COLUMN_LIST = 2  # lists of values of a fixed width

# where things stand in the template, in bytes
PLACE_BODY = 0  # length of the body
PLACE_ROWS = 1  # rows of the batch
PLACE_NODES = 2  # (rows, nulls) of each array
PLACE_BUFFERS = 3  # (place, bytes) of each buffer
PLACES = 4

# a cut: rows that become one message
CUT_RUN = 0  # the run that they are of
CUT_FIRST = 1
CUT_END = 2
CUT_AT = 3  # where the message begins in the output, bytes
CUT_BYTES = 4
CUT_WORDS = 5

RUN_WORDS = 2  # first row, end
_WORD = 8
_ARROW_PADDING = 64
_END = 0xFFFFFFFF  # a stream ends with these four bytes and four of 0


@inline
def _padded(size: int, to: int) -> int:
    return (size + to - 1) // to * to


@inline
def _nulls(data: Array, bits: int, first: int, end: int) -> int:
    if bits < 0:
        return 0
    count = 0
    for row in range(first, end):
        count += 1 - ((data[bits + (row >> 3)] >> (row & 7)) & 1)
    return count


@inline
def _cut_bytes(kind: int, first: int, count: int, width: int, whole: int) -> int:
    """Bytes of a buffer with `count` values from `first` on, out of one of `whole` bytes."""
    if first == 0 and _padded(count * width, _ARROW_PADDING) >= whole:
        return whole
    size = _padded(count * width, _ARROW_PADDING if kind == COLUMN_BYTES else _WORD)
    return min(size, whole - first * width)


@inline
def _bits_bytes(first: int, count: int, rows: int) -> int:
    size = (count + 7) >> 3
    whole = (rows + 7) >> 3
    if first == 0 and _padded(size, _ARROW_PADDING) >= whole:
        return whole
    return size


@inline
def _body_bytes(columns: Array, data: Array, halves: Array, rows: int, first: int, end: int) -> int:
    total = 0
    for k in range(columns.shape[0]):
        width = columns[k, COLUMN_WIDTH]
        if _nulls(data, columns[k, COLUMN_BITS], first, end) > 0:
            total += _padded(_bits_bytes(first, end - first, rows), _WORD)
        if columns[k, COLUMN_KIND] == COLUMN_FIXED:
            total += _padded(_cut_bytes(COLUMN_FIXED, first, end - first, width, rows * width), _WORD)
        else:
            offsets = columns[k, COLUMN_OFFSETS] // 4
            low = halves[offsets + first]
            count = halves[offsets + end] - low
            total += _padded(4 * (end - first + 1), _WORD)
            kind = columns[k, COLUMN_KIND]
            total += _padded(_cut_bytes(kind, low, count, width, halves[offsets + rows] * width), _WORD)
    return total


@kernel
def cut_rows(
    columns: Array,
    data: Array,
    halves: Array,
    rows: int,
    runs: Array,
    template_bytes: int,
    more_bytes: int,
    header_bytes: int,
    target: int,
    ends: Array,
    cuts: Array,
) -> tuple[int, int]:
    """Cut runs of rows into messages near `target` bytes; (how many, bytes of all in the output). A row is never cut.

    data uint8, halves int32: the table's buffer; runs int64[n, RUN_WORDS], cuts int64[rows, CUT_WORDS]
    ends int64[64]: of halves of a run that are left
    more_bytes    of a message beside what is written here; header_bytes: of a row
    """
    rows_most = max(1, target // (2 * header_bytes))
    count = 0
    to = 0
    for run in range(runs.shape[0]):
        for start in range(runs[run, 0], runs[run, 1], rows_most):
            first = start
            depth = 0
            ends[0] = min(start + rows_most, runs[run, 1])
            while depth >= 0:
                end = ends[depth]
                size = template_bytes + _body_bytes(columns, data, halves, rows, first, end) + _WORD
                if size + more_bytes + header_bytes * (end - first) > target and end - first > 1:
                    depth += 1
                    ends[depth] = (first + end) // 2
                    continue
                cuts[count, CUT_RUN] = run
                cuts[count, CUT_FIRST] = first
                cuts[count, CUT_END] = end
                cuts[count, CUT_AT] = to
                cuts[count, CUT_BYTES] = size
                count += 1
                to += size
                first = end
                depth -= 1
    return count, to


@inline
def _put_buffer(
    words: Array, out: Array, entry: int, body: int, to: int, data: Array, at: int, size: int
) -> int:
    """Copy data[at : at + size] to where the body of the message has come to, and note it; where it has come to."""
    words[entry] = to - body
    words[entry + 1] = size
    for k in range(size):
        out[to + k] = data[at + k]
    end = to + _padded(size, _WORD)
    for k in range(to + size, end):
        out[k] = 0
    return end


@inline
def _put_bits(
    words: Array,
    out: Array,
    entry: int,
    body: int,
    to: int,
    data: Array,
    bits: int,
    rows: int,
    first: int,
    end: int,
) -> int:
    size = _bits_bytes(first, end - first, rows)
    if first == 0 and size == (rows + 7) >> 3:
        return _put_buffer(words, out, entry, body, to, data, bits, size)
    words[entry] = to - body
    words[entry + 1] = size
    finish = to + _padded(size, _WORD)
    for k in range(to, finish):
        out[k] = 0
    for row in range(first, end):
        k = row - first
        bit = (data[bits + (row >> 3)] >> (row & 7)) & 1
        out[to + (k >> 3)] |= bit << (k & 7)
    return finish


@kernel
def write_cuts(
    columns: Array,
    data: Array,
    halves: Array,
    rows: int,
    cuts: Array,
    template: Array,
    places: Array,
    out: Array,
    out_halves: Array,
    out_words: Array,
) -> None:
    """Write the messages of `cuts` (cut_rows), each with the end of its stream. out_halves int32 and out_words int64
    are `out`, uint8."""
    for number in range(cuts.shape[0]):
        first = cuts[number, CUT_FIRST]
        end = cuts[number, CUT_END]
        message = cuts[number, CUT_AT]
        for k in range(template.shape[0]):
            out[message + k] = template[k]
        node = (message + places[PLACE_NODES]) // _WORD
        entry = (message + places[PLACE_BUFFERS]) // _WORD
        out_words[(message + places[PLACE_ROWS]) // _WORD] = end - first
        body = message + template.shape[0]
        to = body
        for column in range(columns.shape[0]):
            width = columns[column, COLUMN_WIDTH]
            bits = columns[column, COLUMN_BITS]
            nulls = _nulls(data, bits, first, end)
            out_words[node] = end - first
            out_words[node + 1] = nulls
            node += 2
            if nulls > 0:
                to = _put_bits(out_words, out, entry, body, to, data, bits, rows, first, end)
            else:
                out_words[entry] = to - body
                out_words[entry + 1] = 0
            entry += 2
            values = columns[column, COLUMN_VALUES]
            low = first
            count = end - first
            total = rows * width
            if columns[column, COLUMN_KIND] != COLUMN_FIXED:
                offsets = columns[column, COLUMN_OFFSETS] // 4
                low = halves[offsets + first]
                count = halves[offsets + end] - low
                total = halves[offsets + rows] * width
                size = 4 * (end - first + 1)
                out_words[entry] = to - body
                out_words[entry + 1] = size
                entry += 2
                for k in range(end - first + 1):
                    out_halves[to // 4 + k] = halves[offsets + first + k] - low
                if size % _WORD:
                    out_halves[(to + size) // 4] = 0
                to += _padded(size, _WORD)
            if columns[column, COLUMN_KIND] == COLUMN_LIST:
                out_words[node] = count
                out_words[node + 1] = 0
                node += 2
                out_words[entry] = to - body
                out_words[entry + 1] = 0
                entry += 2
            size = _cut_bytes(columns[column, COLUMN_KIND], low, count, width, total)
            to = _put_buffer(out_words, out, entry, body, to, data, values + low * width, size)
            entry += 2
        out_words[(message + places[PLACE_BODY]) // _WORD] = to - body
        out_words[to // _WORD] = _END
