"""The stream of the reference work has the shares that its description promises."""

from __future__ import annotations

import collections
from pathlib import Path

import numpy as np
import orjson
import pytest

from benchmarks.stream import BOT, CONSENT, HEAVY_CUSTOMER, MIX, SCORING_TYPES, stream_bytes, write_stream
from segue.events.decode import Decoder, Origin
from segue.limits import RATE_EVENTS_PER_MINUTE_MAX

EVENTS = 120_000
FIELDS = (
    "id", "type", "time", "source", "userId", "anonymousId", "product_id", "category", "price", "quantity",
    "currency",
)  # fmt: skip


def test_shares() -> None:
    payload = stream_bytes(EVENTS, 100_000, 3)
    assert payload.size / EVENTS == pytest.approx(250, abs=3)
    events = [orjson.loads(line) for line in payload.tobytes().splitlines()]
    assert len(events) == EVENTS
    assert {tuple(e) for e in events if e["type"] != CONSENT} == {FIELDS}

    types = collections.Counter(e["type"] for e in events)
    assert set(types) == set(MIX)
    assert sum(types[name] for name in SCORING_TYPES) / EVENTS == pytest.approx(0.2, abs=0.005)

    customers = collections.Counter(e["userId"] for e in events)
    assert customers[BOT] / EVENTS == pytest.approx(0.05, abs=0.003)
    assert customers[HEAVY_CUSTOMER] / EVENTS == pytest.approx(0.01, abs=0.002)
    minutes = collections.Counter((e["userId"], e["time"][:16]) for e in events)
    assert {user for (user, _), n in minutes.items() if n > RATE_EVENTS_PER_MINUTE_MAX} == {BOT}

    ids = collections.Counter(e["id"] for e in events)
    assert sum(n - 1 for n in ids.values()) == EVENTS // 100
    assert max(ids.values()) == 2
    views = collections.Counter(
        (e["userId"], e["product_id"]) for e in events if e["type"] == "Product Viewed"
    )
    assert sum(n >= 3 for n in views.values()) > EVENTS / 1_000

    decoder = Decoder(bytes(16), "EUR", 1_800_000_000_000, 300_000)
    decoded, end = decoder.json_lines(payload, 0, EVENTS, Origin("stream"))
    assert (decoded.events, len(decoded.dead), end) == (EVENTS, 0, payload.size)


def test_seed_decides_and_the_file_has_the_same_bytes(tmp_path: Path) -> None:
    payload = stream_bytes(5_000, 50, 1)
    assert np.array_equal(payload, stream_bytes(5_000, 50, 1))
    assert not np.array_equal(payload, stream_bytes(5_000, 50, 2))
    path = tmp_path / "stream.jsonl"
    assert write_stream(path, 5_000, 50, 1) == payload.size
    assert path.read_bytes() == payload.tobytes()
    assert stream_bytes(0, 10).size == 0
    assert stream_bytes(1, 1).size > 0
