"""The engine killed at its named points under load, whatever the point, the pass and the number of processes.

    python -m tests.kafka.kill_matrix [--seeds 3] [--first-seed 1] [--processes 1 2] [--points after_poll …]
        [--brokers HOST:PORT]

A round is one deployment (a seed, a number of processes). In it the engine is killed once at each pass of PASSES of
each point, in an order drawn from the seed, some of them twice in a row; then everything must be right for the naive
reference (tests/kafka/verifier.py). A failure prints the command that repeats the round.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from segue.chaos.broker import own_broker
from segue.chaos.deployment import Deployment, DeploymentSettings, Tell
from segue.errors import SegueError
from segue.events.time import time_text
from segue.run.kill import POINTS

PASSES = (1, 2, 5, 20)
SETTINGS = DeploymentSettings(rate=150, shards=2, lanes=2, epoch_ms=150, lateness_ms=8_000)
POINT_S_MAX = 30.0
_AGAIN = 0.25  # of the kills come while the engine still takes up what the one before left


def survive(deployment: Deployment, kills: Sequence[str], tell: Tell) -> None:
    """Under load, start the engine to be killed at one point after the other, and once more to live on."""
    with deployment.under_load():
        for number, kill_at in enumerate(kills):
            if number == 0:  # there is something to lose
                deployment.start()
                deployment.wait_for_life()
                deployment.running().kill()
            began = time.monotonic()
            deployment.start(kill_at)
            reached = deployment.crash(POINT_S_MAX)
            what = kill_at if reached else f"{kill_at} not reached, killed as it ran"
            tell(f"  {number + 1:3d}  {what}, {time.monotonic() - began:.1f} s after its start")
        began = time.monotonic()
        deployment.start()
        deployment.wait_for_life()
        tell(f"       alive, {time.monotonic() - began:.1f} s after its start")


def verified(deployment: Deployment) -> str:
    """Wait until all is there, stop the engine, and let a verifier look in a process of its own; what it says.
    SegueError if something is missing, doubled or wrong.

    Stopped, because of an engine at work one may see what goes out at once before the log row that follows it.
    """
    due_ms = deployment.due_ms()
    deployment.check(due_ms)
    deployment.stop()
    kafka = deployment.settings.kafka
    command = [sys.executable, "-m", "tests.kafka.verifier", "--brokers", kafka.brokers]
    command += ["--prefix", kafka.prefix, "--policies", *deployment.settings.policies]
    command += ["--lateness", f"{deployment.settings.lateness_ms}ms", "--due-before", time_text(due_ms)]
    command += ["--inputs", *(f"{topic.name}:{topic.form}" for topic in kafka.topics)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    if said.returncode:
        raise SegueError("compare with the naive reference", said.stdout + said.stderr)
    return said.stdout


def kills_of(seed: int, points: Sequence[str] = POINTS, passes: Sequence[int] = PASSES) -> list[str]:
    """Each point at each pass, in an order drawn from the seed; some are followed by a kill at once."""

    def drawn() -> Iterator[str]:
        chance = random.Random(f"kills {seed}")
        all_of_them = [f"{point}:{number}" for point in points for number in passes]
        chance.shuffle(all_of_them)
        for kill_at in all_of_them:
            yield kill_at
            if chance.random() < _AGAIN:
                yield f"{chance.choice(points)}:1"

    return list(drawn())


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if all rounds were right."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.kafka.kill_matrix",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=3, help="so many, one after the other")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--points", nargs="+", choices=POINTS, default=list(POINTS))
    parser.add_argument("--brokers", default="", help="if not given, a broker of its own")
    chosen = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="segue-kills-"))
    broker = None if chosen.brokers else own_broker(folder / "broker")
    brokers = chosen.brokers or broker.brokers
    try:
        for seed in range(chosen.first_seed, chosen.first_seed + chosen.seeds):
            for processes in chosen.processes:
                print(f"seed {seed}, {processes} process(es), in {folder}", flush=True)
                round_folder = folder / f"{seed}-{processes}"
                round_folder.mkdir()
                try:
                    _round(brokers, round_folder, seed, processes, chosen.points)
                except SegueError as error:
                    again = f"--first-seed {seed} --seeds 1 --processes {processes}"
                    print(f"\n{error}\n\nto repeat it:  python -m tests.kafka.kill_matrix {again}")
                    return 1
    finally:
        if broker is not None:
            broker.kill()
    return 0


def _round(brokers: str, folder: Path, seed: int, processes: int, points: Sequence[str]) -> None:
    def tell(line: str) -> None:
        print(line, flush=True)

    deployment = Deployment(brokers, folder, replace(SETTINGS, seed=seed))
    deployment.processes = processes
    try:
        survive(deployment, kills_of(seed, points), tell)
        tell(verified(deployment))
    finally:
        deployment.close()


if __name__ == "__main__":
    sys.exit(main())
