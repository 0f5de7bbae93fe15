"""A decision by the number of its actions: eligibility, consent, caps, scores and the winner, without all around it.

    python -m benchmarks.kernels [--actions 16,64,256,500] [--features N] [--events N] [--repeat N] [--json FILE]

Every product view of benchmarks/stream.py's events (a fifth of them) decides among so many actions, each scored by so
many features of the customer's state. Two shapes:
- one slot: the actions share a slot and have no condition of their own, so they are looked at column by column;
- four slots: four placements, each action with a condition of its own, and a cap that is asked for each channel.
Measured is the engine's kernel alone, in a run of the whole flow with one worker. The cost of a decision is the
difference to the same run whose journey never fires: windows and customers are the same in both, so it is features,
checks, scores, the winner, its row of the log and its action, but not their encoding.
The oracle: the naive reference decides the first events one by one, and must agree on actions and reasons.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.engine import ARRIVAL_MS, machine, run
from benchmarks.stages import Stages
from benchmarks.stream import write_stream
from segue.policy.load import load_policies
from segue.settings import Settings, secret
from segue.summary import read_summary

ACTIONS = (16, 64, 256, 500)
FEATURES = 100
SHAPES = ("one slot", "four slots")
SLOTS = 4
CUSTOMERS = 10_000
REFERENCE_EVENTS = 1_000
_KERNEL = "engine: customers, windows and decisions"
_TYPES = (
    "Product Viewed",
    "Product List Viewed",
    "Product Clicked",
    "Products Searched",
    "Cart Viewed",
    "Product Added",
    "Promotion Viewed",
    "Order Completed",
)
_WINDOWS = ("5m", "10m", "20m", "30m", "1h", "2h", "4h", "8h", "12h", "1d", "2d", "3d", "7d")


def feature(number: int) -> str:
    """The number-th feature: how often something happened within some time."""
    name = _TYPES[number % len(_TYPES)]
    window = _WINDOWS[number // len(_TYPES) % len(_WINDOWS)]
    return f'log1p(count("{name}", within="{window}", up_to=8))'


def policy(shape: str, actions: int, features: int, fires: bool) -> str:
    """TOML: product views decide among so many actions; or, with the same state, none does."""
    lines = [
        'policy = "benchmark-kernels"',
        "version = 1",
        'title = "a decision by the number of its actions"',
        'currency = "EUR"',
        "[[journeys]]",
        'id = "decide"',
        'on = ["Product Viewed"]',
        f'when = "event.quantity {">=" if fires else "<"} 0"',
        "[journeys.model]",
        'name = "benchmark"',
        'version = "1"',
        "features = [",
        *(f"  {{ name = \"f{i:03d}\", value = '{feature(i)}' }}," for i in range(features)),
        "]",
    ]
    for action in range(actions):
        weights = ", ".join(
            f"f{f:03d} = {((action * 37 + f * 101) % 197 - 98) / 800:.5f}" for f in range(features)
        )
        lines += [
            "[[journeys.offers]]",
            f'id = "action-{action:03d}"',
            'channel = "web"',
            f"value = {1 + action * 13 % 29}.0",
            f"bias = {-1 - (action * 7 % 11) / 10}",
            f"weights = {{ {weights} }}",
        ]
        if shape == "four slots":
            lines += [f'placement = "place-{action % SLOTS}"', f'when = "event.price >= {action % 7}"']
    if shape == "four slots":
        lines += ["[[caps]]", 'id = "a-day"', 'channels = ["web"]', "times = 20", 'calendar = "day"']
    return "\n".join(lines) + "\n"


def kernel_seconds(settings: Settings) -> float:
    """Seconds in the engine's kernel during one run."""
    stages = Stages()
    with stages.timed():
        run(settings, 1)
    return stages.seconds[_KERNEL]


def settings_of(stream: Path, folder: Path, text: str) -> Settings:
    """A run of this policy over the stream."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "policy.toml").write_text(text)
    return Settings(
        inputs=(str(stream),),
        out=str(folder / "out"),
        policies=(str(folder / "policy.toml"),),
        arrival_ms=ARRIVAL_MS,
    )


def agrees(stream: Path, folder: Path, settings: Settings) -> str:
    """What the naive reference found equal on the first events; AssertionError if anything differs."""
    from tests.reference.oracle import compare_with_run

    part = folder / "part.jsonl"
    with stream.open("rb") as source, part.open("wb") as target:
        for _ in range(REFERENCE_EVENTS):
            target.write(source.readline())
    of_part = msgspec.structs.replace(settings, inputs=(str(part),), out=str(folder / "part-out"))
    run(of_part, 1)
    return compare_with_run(part, of_part, folder / "part-out")


def measure(
    stream: Path, folder: Path, shape: str, actions: int, features: int, repeat: int
) -> dict[str, Any]:
    """The figures of one shape and number of actions."""
    deciding = settings_of(stream, folder / "deciding", policy(shape, actions, features, True))
    silent = settings_of(stream, folder / "silent", policy(shape, actions, features, False))
    for each in (deciding, silent):
        run(each, 1)  # machine code and memory are there
    seconds = [(kernel_seconds(deciding), kernel_seconds(silent)) for _ in range(repeat)]
    summary = read_summary(folder / "silent/out")
    assert summary.counters["decisions"] == 0
    kernel_seconds(deciding)
    counters = read_summary(folder / "deciding/out").counters
    decided = counters["candidates"] // actions
    # the least of each: what others take of a shared machine's memory and cores only ever adds
    took, without = (min(each) for each in zip(*seconds, strict=True))
    cost_us = (took - without) / decided * 1e6
    compiled = load_policies(deciding.policies, secret=secret(), native=False)
    return {
        "shape": shape,
        "actions": actions,
        "features": features,
        "decided": decided,
        "sent": counters["actions"],
        "us_per_decision": round(cost_us, 3),
        "ns_per_action": round(cost_us * 1e3 / actions, 1),
        "row_bytes": compiled.row_words * 8,
        "reference": agrees(stream, folder / "deciding", deciding),
    }


def report(one: dict[str, Any]) -> str:
    """A line for people."""
    cost = f"{one['us_per_decision']:8.2f} µs ({one['ns_per_action']:.0f} ns)"
    counts = f"{one['decided']:,} decided, {one['sent']:,} sent"
    return f"  {one['shape']}, {one['actions']:3d} actions: {cost}; {counts}; {one['reference']}"


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and fail if the reference disagrees."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kernels",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--actions", default=",".join(map(str, ACTIONS)), help="numbers, with commas")
    parser.add_argument("--features", type=int, default=FEATURES)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args(arguments)
    figures: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        stream = folder / "stream.jsonl"
        write_stream(stream, chosen.events, CUSTOMERS)
        print(f"{chosen.features} features; µs a decision (ns an action)")
        for shape in SHAPES:
            for actions in map(int, chosen.actions.split(",")):
                place = folder / f"{shape.replace(' ', '-')}-{actions}"
                one = measure(stream, place, shape, actions, chosen.features, chosen.repeat)
                figures.append(one)
                print(report(one), flush=True)
    if chosen.json is not None:
        chosen.json.write_text(json.dumps({**machine(), "figures": figures}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
