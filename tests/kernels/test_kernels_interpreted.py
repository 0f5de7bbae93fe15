"""The kernels' tests once more as plain Python, and compiled with every index checked.

Interpreted, an integer is not always of 64 bits and NumPy says so; compiled, an index out of bounds is silent. Each
mode finds what the other hides. Each runs in a process of its own, for Numba takes the switches when it starts, and in
only one, for other tests run beside it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KERNELS = sorted(
    str(path.relative_to(ROOT)) for path in Path(__file__).parent.glob("test_*.py") if path != Path(__file__)
)
SHARDS = ["tests/routing", "tests/identity"]


def run(tests: list[str], *, examples: int, **switches: str) -> None:
    """Run these tests with few examples; what fails is shown whole."""
    paths = [str(ROOT / "src"), str(ROOT / "native"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "SEGUE_TEST_EXAMPLES": str(examples),
        **switches,
    }
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-x", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-2_000:]


@pytest.mark.timeout(900)
def test_without_the_compiler() -> None:
    run([*KERNELS, *SHARDS], examples=5, NUMBA_DISABLE_JIT="1")


@pytest.mark.timeout(900)
def test_with_every_index_checked() -> None:
    run([*KERNELS, *SHARDS], examples=25, NUMBA_BOUNDSCHECK="1")
