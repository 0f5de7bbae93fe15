"""`segue` that tells at its end which kernels it compiled, or loaded, beyond those of the warm-up:
python -m tests.kafka.watched run …"""

from __future__ import annotations

import contextlib

from segue.cli import main
from segue.run.warmup import warm_up
from tests.run.test_run_warmup import compiled

TELLS = "after the warm-up"

if __name__ == "__main__":
    warm_up(lambda _: contextlib.nullcontext())
    before = compiled()
    try:
        main()
    finally:
        for kernel in sorted(compiled() - before):
            print(f"{TELLS}: {kernel}")
