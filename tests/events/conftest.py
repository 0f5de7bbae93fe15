"""Kernels are compiled before any test runs: Hypothesis narrows the stack that Numba's compiler needs."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from segue.events.decode import Decoder, Origin


@pytest.fixture(scope="session", autouse=True)
def compiled_kernels() -> None:
    """One slow line, one table with a text time, one stamp: every kernel of decoding, for arrays of both
    kinds."""
    decoder = Decoder(bytes(16), "EUR", 0, 0)
    read_only = np.frombuffer(b"{}\n", dtype=np.uint8)
    for payload in (read_only, read_only.copy()):
        decoded, _ = decoder.json_lines(payload, 0, 1, Origin("f"))
        decoder.stamp(decoded, 0, 0, 0)
    decoder.table(pa.record_batch({"time": ["2026-03-01T00:00:00Z"]}), Origin("f"))
