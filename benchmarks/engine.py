"""Bytes in, action bytes out, on one core: the reference work without Kafka.

    python -m benchmarks.engine [--work shipped|scoring|deciding|N] [--curve] [--customers N] [--events N] [--batch N]
                                [--log off|sampled|complete] [--repeat N] [--json FILE]

The stream is benchmarks/stream.py's. The work: all shipped policies; or `scoring`, a policy that scores 64 offers by 24
features on 20 % of the events beside three that count; `deciding`, all shipped policies beside one that asks for those
offers all that a decision can (four slots, layers, consent, caps, quiet hours, vouchers of the ledger, mail taken
back); or the first N mixed policies (benchmarks/policies.py).
`--curve` measures 1, 8 and 64 mixed policies in turn, and how long they take to compile. Figures:
- decode: bytes -> records (memory to memory);
- engine: records -> decisions, encoding and output not counted;
- whole: file -> decode -> shards -> decisions -> JSON lines and decision log in files, through Bytewax, one worker;
- compile: policy files -> machine code, without a cache and with one.
`--log` is that of `segue run`: what the decision log costs.
The oracle: the naive reference decides the first events of the stream, one by one, and must agree with the run on
actions and reasons (without a log: with one of them that has one); and one and two workers must give the same outputs
(an order-independent hash over all).
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
from bytewax.testing import cluster_main

from benchmarks.policies import write_deciding, write_mixed, write_policies
from benchmarks.stages import Stages
from benchmarks.stream import write_stream
from flows.next_best_action import next_best_action
from segue import __version__
from segue.events.batch import Origin
from segue.events.decode import Decoder
from segue.outputs import ALL_OUTPUTS, CHANGES, JOINS
from segue.policy.load import SHIPPED, load_policies
from segue.settings import LogMode, Settings, secret
from segue.sinks.files import prepare_folder, read_decisions
from segue.summary import Part, read_summary

SHIPPED_WORK = "shipped"
SCORING_WORK = "scoring"
DECIDING_WORK = "deciding"
CURVE = (1, 8, 64)
COUNTING_POLICIES = 3  # beside the scoring one
SCORE_MIN = 2.0  # about one scored event in ten has an offer above it
DECIDING_SCORE_MIN = 1.0  # about one event in fifty leads to an action of it
ARRIVAL_MS = 1_798_761_600_000  # 2027-01-01: after every event of the stream
WARM_EVENTS = 20_000
REFERENCE_EVENTS = 20_000


def run(settings: Settings, workers: int) -> float:
    """Seconds for one run of the flow."""
    prepare_folder(settings.out, ALL_OUTPUTS, overwrite=True)
    flow = next_best_action(settings)
    gc.collect()  # what is left of earlier runs made the third one take 1.6 s instead of 1.05 s for a million events
    start = time.perf_counter()
    cluster_main(flow, [], 0, worker_count_per_proc=workers)  # type: ignore[no-untyped-call]
    return time.perf_counter() - start


def output_hash(folder: Path) -> str:
    """The same for the same messages in any order: a sum of hashes over action lines and rows of the logs."""
    total = 0
    for path in sorted(folder.glob("*.jsonl")):
        if path.stem != "summary":
            for line in path.read_bytes().splitlines():
                total += int.from_bytes(hashlib.blake2b(line, digest_size=16).digest(), "little")
    log = folder / "decisions.arrows"
    for batch in read_decisions(log) if log.exists() else ():
        ids = batch.column("decision_id").to_pylist()
        reasons = batch.column("reasons").to_pylist()
        for decision, reason in zip(ids, reasons, strict=True):
            digest = hashlib.blake2b(decision.encode() + reason, digest_size=16).digest()
            total += int.from_bytes(digest, "little")
    for name in (CHANGES, JOINS):
        path = folder / f"{name}.arrows"
        if path.exists():
            with pa.OSFile(str(path)) as file:
                for row in pa.ipc.open_stream(file).read_all().to_pylist():
                    digest = hashlib.blake2b(repr(row).encode(), digest_size=16).digest()
                    total += int.from_bytes(digest, "little")
    return f"{total % (1 << 128):032x}"


def decode_rate(path: Path, batch: int) -> float:
    """Events a second, bytes in memory to stamped records."""
    payload = np.fromfile(path, np.uint8)
    decoder = Decoder(secret(), "EUR", ARRIVAL_MS, 300_000)
    events = at = 0
    clock = -1
    start = time.perf_counter()
    while at < len(payload):
        decoded, at = decoder.json_lines(payload, at, batch, Origin(path.name))
        count = decoded.events
        clock = decoder.stamp(decoded, clock, 0, events)
        events += count
    return events / (time.perf_counter() - start)


def check_reference(folder: Path, settings: Settings, stream: Path) -> str:
    """Run the naive reference on the first events and compare with a run on the same; says what was compared."""
    from tests.reference.oracle import compare_with_run

    part = folder / "part.jsonl"
    with stream.open("rb") as source, part.open("wb") as target:
        for _ in range(REFERENCE_EVENTS):
            target.write(source.readline())
    out = folder / "part-out"
    log = settings.log if settings.is_logged else "sampled"
    part_settings = _with(settings, inputs=(str(part),), out=str(out), log=log)
    run(part_settings, 1)
    return compare_with_run(part, part_settings, out)


def _with(settings: Settings, **changes: Any) -> Settings:
    import msgspec

    return msgspec.structs.replace(settings, **changes)


def _median(measure: Callable[[], float], repeat: int) -> float:
    return statistics.median(measure() for _ in range(repeat))


def policies_of(work: str, folder: Path) -> str:
    """The folder with the policies of a work."""
    if work == SHIPPED_WORK:
        return str(SHIPPED)
    target = folder / f"policies-{work}"
    if work == SCORING_WORK:
        write_policies(target, COUNTING_POLICIES, SCORE_MIN)
    elif work == DECIDING_WORK:
        write_deciding(target, SHIPPED, DECIDING_SCORE_MIN)
    else:
        write_mixed(target, int(work))
    return str(target)


def compile_times(settings: Settings, folder: Path, repeat: int) -> dict[str, float]:
    """Seconds to load the policies: with nothing in the cache, and again."""
    before = os.environ.get("SEGUE_CACHE_DIR")
    cold: list[float] = []
    warm: list[float] = []
    try:
        for turn in range(repeat):
            os.environ["SEGUE_CACHE_DIR"] = str(folder / f"cache-{time.time_ns()}-{turn}")
            for times in (cold, warm):
                start = time.perf_counter()
                compiled = load_policies(settings.policies, secret=secret(), native=True)
                times.append(time.perf_counter() - start)
                assert compiled.native is not None, compiled.native_problem
                assert compiled.native.from_cache == (times is warm)
    finally:
        if before is None:
            del os.environ["SEGUE_CACHE_DIR"]
        else:
            os.environ["SEGUE_CACHE_DIR"] = before
    return {"compile_s": statistics.median(cold), "compile_cached_s": statistics.median(warm)}


def measure(
    work: str,
    customers: int,
    events: int,
    batch: int,
    repeat: int,
    folder: Path,
    *,
    log: LogMode = "sampled",
    reference: bool = True,
) -> dict[str, Any]:
    """All figures of one configuration."""
    stream = folder / f"stream-{customers}-{events}.jsonl"
    if not stream.exists():
        write_stream(stream, events, customers)
    settings = Settings(
        inputs=(str(stream),),
        out=str(folder / "out"),
        policies=(policies_of(work, folder),),
        batch_rows=batch,
        arrival_ms=ARRIVAL_MS,
        log=log,
    )
    warm = folder / "warm.jsonl"
    write_stream(warm, WARM_EVENTS, 1_000)
    run(_with(settings, inputs=(str(warm),), batch_rows=min(batch, WARM_EVENTS // 4)), 1)
    compiled = load_policies(settings.policies, secret=secret(), native=False)

    decoded = _median(lambda: decode_rate(stream, batch), repeat)
    whole = [run(settings, 1) for _ in range(repeat)]
    stages: list[dict[str, float]] = []
    one = output_hash(folder / "out")
    summary = read_summary(folder / "out")
    for _ in range(repeat):
        timer = Stages()
        with timer.timed():
            total = run(settings, 1)
        stages.append({**timer.seconds, "Bytewax and the rest": total - sum(timer.seconds.values())})
    table = {stage: statistics.median(s[stage] for s in stages) / events * 1e9 for stage in stages[0]}
    engine_ns = sum(ns for stage, ns in table.items() if stage.startswith("engine"))
    run(settings, 2)
    two = output_hash(folder / "out")
    checked = check_reference(folder, settings, stream) if reference else "not compared with the reference"
    return {
        "work": work,
        "customers": customers,
        "events": events,
        "policies": len(compiled.policies),
        "journeys": len(compiled.journey_infos),
        "offers": len(compiled.offer_infos),
        "row_bytes": compiled.row_words * 8,
        "batch": batch,
        "log": log,
        "decode_events_per_s": decoded,
        "engine_events_per_s": 1e9 / engine_ns,
        "whole_events_per_s": events / statistics.median(whole),
        "whole_events_per_s_runs": [events / seconds for seconds in whole],
        **compile_times(settings, folder, repeat),
        "stages_ns_per_event": table,
        "output_hash_one_worker": one,
        "output_hash_two_workers": two,
        "reference": checked,
        **_shares(summary, events),
    }


def _shares(summary: Part, events: int) -> dict[str, Any]:
    counters = summary.counters
    return {
        "customers_seen": summary.customers,
        "state_bytes_per_customer": summary.state_bytes / max(1, summary.customers),
        "share_decided": counters["decisions"] / events,
        "share_acted": counters["actions"] / events,
        "share_duplicate": counters["duplicates"] / events,
        "share_quarantined": counters["quarantined_events"] / events,
        "candidates_per_event": counters["candidates"] / events,
        "customers_with_timers": counters["timers_now"],
        "waits_pending": counters["waits_now"],
        "timers_fired": counters["timers_fired"],
    }


def machine() -> dict[str, str]:
    """What the figures were read on."""
    model = ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "segue": __version__,
        "commit": commit,
        "python": platform.python_version(),
        "processor": model,
        "cores": str(os.cpu_count()),
    }


def report(figures: dict[str, Any]) -> str:
    """The figures as people read them."""
    lines = [
        f"{figures['work']}: {figures['policies']} policies ({figures['offers']} offers), "
        f"{figures['events']:,} events, {figures['customers']:,} customers, batches of {figures['batch']:,}, "
        f"log {figures['log']}",
        f"  decode  {figures['decode_events_per_s'] / 1e6:6.2f} M events/s",
        f"  engine  {figures['engine_events_per_s'] / 1e6:6.2f} M events/s",
        f"  whole   {figures['whole_events_per_s'] / 1e6:6.2f} M events/s  bytes -> action bytes, Bytewax, one worker",
        f"  decided {figures['share_decided']:.1%}, acted {figures['share_acted']:.1%}, duplicates "
        f"{figures['share_duplicate']:.1%}, quarantined {figures['share_quarantined']:.1%}; "
        f"{figures['customers_seen']:,} customers of {figures['state_bytes_per_customer']:,.0f} bytes "
        f"(rows of {figures['row_bytes']:,})",
        f"  timers  {figures['timers_fired']:,} fired; at the end {figures['customers_with_timers']:,} customers have "
        f"some, {figures['waits_pending']:,} waits among them",
        f"  compile {figures['compile_s']:.2f} s without a cache, {figures['compile_cached_s'] * 1e3:.0f} ms with one",
        "  ns an event by stage:",
    ]
    for stage, ns in figures["stages_ns_per_event"].items():
        lines.append(f"    {stage:32s} {ns:7.1f}")
    total = sum(figures["stages_ns_per_event"].values())
    lines.append(f"    {'in all (with the timers)':32s} {total:7.1f}")
    same = figures["output_hash_one_worker"] == figures["output_hash_two_workers"]
    lines.append(f"  outputs of one and two workers: {'equal' if same else 'DIFFERENT'}")
    lines.append(f"  {figures['reference']}")
    return "\n".join(lines)


def curve(figures: list[dict[str, Any]]) -> str:
    """The figures of several numbers of policies side by side."""
    lines = ["policies  whole M/s  engine M/s  bytes/customer  compile s  cached ms"]
    lines += [
        f"{one['policies']:8d}  {one['whole_events_per_s'] / 1e6:9.2f}  {one['engine_events_per_s'] / 1e6:10.2f}"
        f"  {one['state_bytes_per_customer']:14,.0f}  {one['compile_s']:9.2f}  {one['compile_cached_s'] * 1e3:9.0f}"
        for one in figures
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and fail if an oracle disagrees."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.engine",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--work", default=SHIPPED_WORK, help="shipped, scoring, deciding, or a number of mixed policies"
    )
    parser.add_argument("--curve", action="store_true", help="1, 8 and 64 mixed policies, side by side")
    parser.add_argument("--customers", type=int, default=100_000)
    parser.add_argument("--events", type=int, default=3_000_000)
    parser.add_argument("--batch", type=int, default=65_536)
    parser.add_argument("--log", choices=get_args(LogMode), default="sampled")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", type=Path, help="keep streams and outputs here")
    chosen = parser.parse_args(arguments)
    works = [str(n) for n in CURVE] if chosen.curve else [chosen.work]
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        figures: list[dict[str, Any]] = []
        for work in works:
            one = measure(
                work, chosen.customers, chosen.events, chosen.batch, chosen.repeat, folder, log=chosen.log
            )
            print(report(one), flush=True)
            figures += [one]
    if chosen.curve:
        print(curve(figures))
    if chosen.json:
        result = {"curve": figures} if chosen.curve else figures[0]
        chosen.json.write_text(json.dumps({**machine(), **result}, indent=2) + "\n")
    agree = all(one["output_hash_one_worker"] == one["output_hash_two_workers"] for one in figures)
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
