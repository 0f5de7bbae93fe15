"""What the tests of this folder may ask for beside tests/conftest.py."""

from __future__ import annotations

import os
import time

import pytest

SEED_VARIABLE = "SEGUE_KILL_SEED"


@pytest.fixture
def seed() -> int:
    """Of what is killed when: another each hour, unless the environment names it. The output of a failure has it."""
    chosen = int(os.environ.get(SEED_VARIABLE) or time.time() // 3_600)
    print(f"to repeat it: {SEED_VARIABLE}={chosen}")
    return chosen
