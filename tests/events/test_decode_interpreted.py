"""The scanner gives the same records compiled, interpreted, and with every index checked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = r"""
import hashlib
import numpy as np
from segue.events.decode import Decoder, Origin
from segue.events.lines import ScanRoom, run_scanner

LINES = [
    b'{"id":"1","type":"Product Viewed","time":"2026-03-01T11:00:00.250Z","source":"web","userId":"user-1",'
    b'"product_id":"sku-7","category":"sho\xc3\xa9s","price":12.995,"quantity":2,"currency":"EUR"}',
    b'{"specversion":"1.0","id":"2","source":"a-source-of-more-than-16","type":"Cart Viewed",'
    b'"time":"2026-03-01T11:00:00+01:30","data":{"loyaltyId":"l","store_id":"s","coupon_id":"c"}}',
    b'{"id": "3", "type": "purchase", "time": "2026-03-01T11:00:00.5Z", "anonymousId": "a", "x": -1.5, '
    b'"products": [{"product_id": "a", "price": 3, "quantity": 2}, {"product_id": "b", "category": "k"}]}',
    b'{"id":"4","type":"identify","timestamp":"2026-03-01T09:00:00Z","userId":"u","anonymousId":"a"}',
    b'{"id":"5","type":"nope"}',
    b"",
    b'{"id":"6","type":"Unsubscribed","time":"2026-03-01T11:00:00Z","userId":"e\\u0041"}',
]
payload = np.frombuffer(b"\n".join(LINES), dtype=np.uint8)
digest = hashlib.sha256()
for scanner in (True, False):
    decoder = Decoder(b"0123456789abcdef", "EUR", 1_772_366_400_000, 300_000, scanner=scanner)
    decoded, _ = decoder.json_lines(payload, 0, 100, Origin("f"))
    clock = decoder.stamp(decoded, 0, 3, 7)
    digest = hashlib.sha256()
    digest.update(repr((decoded.records.tolist(), decoded.where.tolist(), decoded.dead, decoded.late,
    clock)).encode())
    print(digest.hexdigest())
print(run_scanner(payload, 0, 100, 1, ScanRoom(decoder.terms, decoder.k0, decoder.k1)).slow.shape[0])
"""
ROOT = Path(__file__).parents[2]


def _run(**extra: str) -> list[str]:
    environment = {**os.environ, **extra}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), str(ROOT / "native")])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("mode", ["NUMBA_DISABLE_JIT", "NUMBA_BOUNDSCHECK"])
def test_every_mode_gives_the_same(mode: str) -> None:
    expected = _run()
    assert expected[0] == expected[1]
    assert expected[2] == "2"
    assert _run(**{mode: "1"}) == expected
