"""Two worker processes against one, on two files that are not split by customer.

    python -m benchmarks.workers [--customers N] [--events N] [--policies N] [--repeat N] [--json FILE]

The reference stream's events stand alternately in two files, so every customer is in both. Each run is `segue run` as a
whole (its own measure: from the start of reading to the last byte written); one and two processes take turns. The
outputs must be equal. What the machine itself allows is measured beside it: two runs at once, each alone on one of the
files, that exchange nothing (their rates added up, against the same run with the machine to itself).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.engine import SCORE_MIN, machine, output_hash
from benchmarks.policies import write_policies
from benchmarks.stream import write_stream


def split_stream(folder: Path, events: int, customers: int) -> list[Path]:
    """The stream's lines dealt to two files."""
    whole = folder / "whole.jsonl"
    parts = [folder / "first.jsonl", folder / "second.jsonl"]
    write_stream(whole, events, customers)
    with whole.open("rb") as source, parts[0].open("wb") as first, parts[1].open("wb") as second:
        for number, line in enumerate(source):
            (second if number % 2 else first).write(line)
    whole.unlink()
    return parts


def run(parts: list[Path], folder: Path, processes: int, batch: int) -> tuple[float, str]:
    """Events a second and the hash of the outputs."""
    folder.mkdir(exist_ok=True)
    out = folder / f"out-{processes}"
    command = [sys.executable, "-m", "segue", "run", *map(str, parts), "--out", str(out), "--overwrite"]
    command += [
        "--policies",
        str(parts[0].parent / "policies"),
        "--processes",
        str(processes),
        "--batch",
        str(batch),
    ]
    subprocess.run([*command, "--quiet"], check=True)
    summary = json.loads((out / "summary.json").read_text())
    return float(summary["events_per_second"]), output_hash(out)


def run_apart(parts: list[Path], folder: Path, batch: int) -> float:
    """Events a second of one run for each file, all at the same time, added up."""
    with ThreadPoolExecutor(len(parts)) as pool:
        rates = pool.map(
            lambda numbered: run([numbered[1]], folder / f"apart-{numbered[0]}", 1, batch)[0],
            enumerate(parts),
        )
        return sum(rates)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and fail if the outputs differ."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers", description=__doc__)
    parser.add_argument("--customers", type=int, default=100_000)
    parser.add_argument("--events", type=int, default=8_000_000)
    parser.add_argument("--policies", type=int, default=3)
    parser.add_argument("--batch", type=int, default=65_536)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args(arguments)
    rates: dict[int, list[float]] = {1: [], 2: []}
    hashes: set[str] = set()
    alone: list[float] = []
    apart: list[float] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_policies(folder / "policies", chosen.policies, SCORE_MIN)
        parts = split_stream(folder, chosen.events, chosen.customers)
        run(parts, folder, 1, chosen.batch)  # compiles and warms up
        for _ in range(chosen.repeat):
            for processes, rate_list in rates.items():
                rate, output = run(parts, folder, processes, chosen.batch)
                rate_list.append(rate)
                hashes.add(output)
            alone.append(run(parts[:1], folder / "apart-0", 1, chosen.batch)[0])
            apart.append(run_apart(parts, folder, chosen.batch))
    one, two = (statistics.median(rates[processes]) for processes in (1, 2))
    print(f"one process   {one / 1e6:.2f} M events/s   ({', '.join(f'{r / 1e6:.2f}' for r in rates[1])})")
    print(f"two processes {two / 1e6:.2f} M events/s   ({', '.join(f'{r / 1e6:.2f}' for r in rates[2])})")
    print(f"ratio         {two / one:.2f}")
    ceiling = statistics.median(apart) / statistics.median(alone)
    print(f"ceiling       {ceiling:.2f}   (two runs at once that exchange nothing, against one)")
    print(f"outputs       {'equal' if len(hashes) == 1 else 'DIFFERENT'}")
    if chosen.json:
        figures = {
            "one": rates[1],
            "two": rates[2],
            "ratio": two / one,
            "ceiling": ceiling,
            "equal": len(hashes) == 1,
        }
        chosen.json.write_text(
            json.dumps({**machine(), **vars(chosen), "json": "", **figures}, indent=2) + "\n"
        )
    return 0 if len(hashes) == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
