"""The writer of JSON lines against Python's own formatting."""

from __future__ import annotations

import datetime

import numpy as np
import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.simulate.json_writer import (
    JsonWriter,
    hashed,
    integer,
    iso_time,
    lines,
    money,
    numbered,
    text,
    truth,
    word,
)

WORDS = ("plain", 'quo"te', "Käse\n", "")
OWN = [
    iso_time("time", 1),
    integer("n", 2),
    numbered("padded", "p-", 3, 6),
    numbered("maybe", "m-", 4, optional=True),
    hashed("hash", "", 5),
    money("price", 6),
    money("yen", 6, decimals=0),
    word("word", 7),
    text("type", 'x"y'),
    truth("yes", True),
]
WRITER = JsonWriter(
    [
        OWN,
        [numbered("id", "l-", 0), word("word", 1, optional=True), money("price", 2)],
        [integer("n", 2), lines("lines", 3, 4, 1), text("end", "")],
    ],
    nested=(1,),
    words=WORDS,
)
LONG = st.integers(-(2**62), 2**62)
ROW = st.tuples(
    st.just(0),
    st.integers(0, 4_102_444_799_999),
    LONG,
    st.integers(0, 10**8),
    st.integers(-1, 10),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(10**15), 10**15),
    st.integers(0, len(WORDS) - 1),
)


def _expected(row: tuple[int, ...]) -> dict[str, object]:
    _, time_ms, n, padded, maybe, hashed_, cents, at = row
    when = datetime.datetime(1970, 1, 1) + datetime.timedelta(milliseconds=time_ms)
    sign = "-" if cents < 0 else ""
    out: dict[str, object] = {
        "time": when.isoformat(timespec="milliseconds") + "Z",
        "n": n,
        "padded": f"p-{padded:06d}",
        "maybe": f"m-{maybe}",
        "hash": f"{hashed_ % 2**64:016x}",
        "price": f"{sign}{abs(cents) // 100}.{abs(cents) % 100:02d}",
        "yen": cents,
        "word": WORDS[at],
        "type": 'x"y',
        "yes": True,
    }
    if maybe < 0:
        del out["maybe"]
    return out


def _written(rows: np.ndarray, order: np.ndarray, table: np.ndarray | None = None) -> bytes:
    return b"".join(block.tobytes() for block in WRITER.write(rows, order, table))


@settings(max_examples=100, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=8))
def test_every_kind_of_field(rows: list[tuple[int, ...]]) -> None:
    written = _written(np.array(rows, dtype=np.int64), np.arange(len(rows)))
    for row, line in zip(rows, written.splitlines(), strict=True):
        expected = _expected(row)
        price = str(expected.pop("price"))
        assert f'"price":{price},'.encode() in line  # the very digits: a float would not show them
        found = orjson.loads(line)
        assert found.pop("price") == float(price)
        assert found == expected
        assert list(found) == list(expected)


def test_lines_and_order() -> None:
    rows = np.zeros((2, 8), dtype=np.int64)
    rows[:, 0] = 2
    rows[0, 2:5] = (7, 1, 2)
    rows[1, 2:5] = (8, 0, 0)
    table = np.array([(1, 0, 5), (2, -1, 250), (3, 1, -1)], dtype=np.int64)
    assert _written(rows, np.array([1, 0, 1]), table) == (
        b'{"n":8,"lines":[],"end":""}\n'
        b'{"n":7,"lines":[{"id":"l-2","price":2.50},{"id":"l-3","word":"quo\\"te","price":-0.01}],"end":""}\n'
        b'{"n":8,"lines":[],"end":""}\n'
    )


def test_a_row_larger_than_a_block() -> None:
    rows = np.zeros((1, 8), dtype=np.int64)
    rows[0, :5] = (2, 0, 0, 0, 200_000)
    table = np.zeros((200_000, 3), dtype=np.int64)
    (block,) = WRITER.write(rows, np.zeros(1, dtype=np.int64), table)
    assert len(orjson.loads(block.tobytes())["lines"]) == 200_000


def test_nothing() -> None:
    assert _written(np.zeros((0, 8), dtype=np.int64), np.zeros(0, dtype=np.int64)) == b""
