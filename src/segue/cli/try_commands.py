"""`segue demo` and `segue simulate`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from segue.cli.options import Quiet
from segue.cli.shell import tells_errors


@tells_errors
def demo(
    seed: Annotated[int, typer.Option("--seed", help="Other shoppers.")] = 1,
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="DIR", help="Folder of events and results.")
    ] = "segue-demo",
    events: Annotated[int, typer.Option("--events", help="How many things they do.")] = 150_000,
    fast: Annotated[
        bool, typer.Option("--fast", help="As fast as it goes, not as fast as one can watch.")
    ] = False,
) -> None:
    """See it work: shoppers are simulated, decided on, and shown while it happens.

    The first time everything is compiled, which takes about half a minute.
    """
    from segue.run.demo import run_demo

    run_demo(out, seed, events, fast)


@tells_errors
def simulate(
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="FILE", help="File to write, or - for standard output.")
    ],
    customers: Annotated[int, typer.Option("--customers", help="Shoppers.")] = 10_000,
    events: Annotated[int, typer.Option("--events", help="Lines to write.")] = 100_000,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same bytes.")] = 1,
    start: Annotated[
        str,
        typer.Option(
            "--start", metavar="TIME", help="Time of the first event; 2026-03-02T08:00:00Z if not given."
        ),
    ] = "",
    rate: Annotated[
        float, typer.Option("--events-per-second", help="In event time; 0: what so many shoppers do.")
    ] = 0.0,
    catalogue: Annotated[
        str,
        typer.Option(
            "--catalogue",
            metavar="FILE",
            help="Write the products too, .csv or .parquet: product_id, category, brand, price, margin.",
        ),
    ] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the files.")] = False,
    quiet: Quiet = False,
) -> None:
    """Write events of shoppers that are not there: they browse, fill carts, buy, leave, return.

    segue simulate --out events.jsonl --customers 100000 --events 1000000
    segue simulate --out - | segue run - --out out
    segue simulate --out events.jsonl --catalogue catalogue.csv
    """
    from segue.run.progress import display, terminal
    from segue.run.simulating import simulate_to

    options: dict[str, Any] = {
        "seed": seed,
        "customers": customers,
        "events": events,
        "events_per_second": rate,
    }
    if start:
        from segue.run.arguments import time_ms

        options["start_ms"] = time_ms("--start", start)
    simulate_to(out, options, display(terminal(), quiet=quiet), catalogue=catalogue, overwrite=overwrite)
