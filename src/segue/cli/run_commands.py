"""`segue run`, `segue replay`, and `segue chaos`, which breaks what they do."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from segue import limits
from segue.cli.options import (
    Batch,
    Currency,
    KafkaConfig,
    NoNative,
    Overwrite,
    Policies,
    Processes,
    Quiet,
    Tables,
    Timezone,
)
from segue.cli.shell import leave, say, tells_errors
from segue.errors import SettingsError

LOOPBACK_BROKERS = "127.0.0.1:9092"

Inputs = Annotated[
    list[str] | None, typer.Argument(metavar="IN…", help="Files, folders, or - for standard input.")
]
Out = Annotated[str, typer.Option("--out", "-o", metavar="DIR", help="Folder of the results.")]
Shards = Annotated[
    int, typer.Option("--shards", help="Shards of customers; fixed for the life of a deployment.")
]
Interleave = Annotated[
    bool, typer.Option("--interleave", help="Merge a folder's files by time instead of one after the other.")
]
Live = Annotated[
    bool,
    typer.Option(
        "--live", help="The events happen now: the wall clock tells when an idle input's waits are due."
    ),
]
Lateness = Annotated[str, typer.Option("--lateness", help="Events may come so much later than others.")]
Retention = Annotated[str, typer.Option("--retention", help="A customer idle for longer starts again.")]
Log = Annotated[
    str,
    typer.Option(
        "--log",
        metavar="complete|off|sampled[=SHARE]",
        help="The decision log: with every candidate's numbers, or those of a share of the decisions; or none.",
    ),
]
LogFormat = Annotated[
    str,
    typer.Option(
        "--log-format",
        metavar="arrow|parquet",
        help="Of decisions in files: a stream that can be read at any moment, or Parquet when the run has ended.",
    ),
]
State = Annotated[
    str,
    typer.Option(
        "--state",
        metavar="DIR",
        help="Folder in which the state survives: after a stop or a crash the same command goes on where it was.",
    ),
]
Brokers = Annotated[
    str,
    typer.Option(
        "--brokers",
        metavar="HOST:PORT",
        help=f"Kafka instead of files: topics in, topics out; {LOOPBACK_BROKERS} if only --topic is given.",
    ),
]
Topics = Annotated[
    list[str] | None,
    typer.Option(
        "--topic",
        metavar="NAME[:FORM]",
        help="To read; FORM is json, cloudevents, many, arrow, or auto if not given. May be repeated.",
    ),
]
OutputPrefix = Annotated[str, typer.Option("--prefix", help="In front of the names of output topics.")]
Lanes = Annotated[
    int, typer.Option("--lanes", help="Partitions of output topics; fixed for the life of a deployment.")
]
Delivery = Annotated[
    list[str] | None,
    typer.Option(
        "--delivery",
        metavar="CHANNEL=HOW",
        help="transactional: exactly once; idempotent: milliseconds faster, after a crash an action may be "
        "repeated with the same decision id (web and till if not given). May be repeated.",
    ),
]
Name = Annotated[
    str, typer.Option("--name", help="Of the deployment: of two engines with one name the second wins.")
]
Epoch = Annotated[str, typer.Option("--epoch", help="Time between two checkpoints, with --state.")]
EraseWithin = Annotated[
    str, typer.Option("--erase-within", help="Who was erased is in no file of the state after so long.")
]

_LATENESS = f"{limits.LATENESS_MS_DEFAULT // limits.MINUTE_MS}m"
_EPOCH = f"{limits.EPOCH_MS_DEFAULT // 1_000}s"
_RETENTION = f"{limits.RETENTION_MS_DEFAULT // limits.DAY_MS}d"
_ERASE_WITHIN = f"{limits.ERASE_WITHIN_MS_DEFAULT // limits.DAY_MS}d"


@tells_errors
def run(
    inputs: Inputs = None,
    out: Out = "",
    policies: Policies = None,
    processes: Processes = 1,
    batch: Batch = limits.BATCH_ROWS_DEFAULT,
    shards: Shards = limits.SHARDS_DEFAULT,
    interleave: Interleave = False,
    live: Live = False,
    currency: Currency = "EUR",
    timezone: Timezone = "UTC",
    table: Tables = None,
    lateness: Lateness = _LATENESS,
    retention: Retention = _RETENTION,
    log: Log = "sampled",
    log_format: LogFormat = "arrow",
    state: State = "",
    epoch: Epoch = _EPOCH,
    erase_within: EraseWithin = _ERASE_WITHIN,
    brokers: Brokers = "",
    topic: Topics = None,
    prefix: OutputPrefix = "segue.",
    lanes: Lanes = limits.LANES_DEFAULT,
    delivery: Delivery = None,
    name: Name = "segue",
    kafka_config: KafkaConfig = "",
    overwrite: Overwrite = False,
    no_native: NoNative = False,
    quiet: Quiet = False,
) -> None:
    """Decide on your own events.

    DIR gets a file a channel (email.jsonl, …), decisions.arrows, dead_letters.jsonl,
    late.jsonl and summary.json; changes.arrows and joins.arrows if policies have
    segments, stages or joins.
    Everything is checked before anything starts.

      segue run events.jsonl.gz --out out
      zcat old/*.gz | segue run - --out out --policies policies/
      segue run web.jsonl shop.parquet --out out --processes 2
      segue run web.jsonl --out out --timezone Europe/Berlin --table catalogue=products.csv
      tail -f shop.jsonl | segue run - --out out --live
      segue run year.jsonl.gz --out out --state state
      segue run --brokers localhost:9092 --topic events --state state
      segue run --brokers localhost:9092 --topic events --table catalogue=topic:products
    """
    _nothing_is_written_yet()
    from segue.kafka.settings import KafkaSettings
    from segue.run.arguments import (
        deliveries,
        duration_ms,
        format_of_log,
        input_topics,
        log_settings,
        named_files,
        need_inputs,
        table_topics,
    )
    from segue.settings import Settings

    if topic and not inputs:
        brokers = brokers or LOOPBACK_BROKERS
    need_inputs(inputs or (), out, brokers, topic or ())
    log_mode, sample_share = log_settings(log)
    files, rows = table_topics(named_files("--table", table or ()), brokers)
    settings = Settings(
        inputs=tuple(inputs or ()),
        interleave=interleave,
        live=live,
        out=out,
        kafka=KafkaSettings(
            brokers=brokers,
            name=name,
            topics=(*input_topics(topic or ()), *rows),
            prefix=prefix,
            lanes=lanes,
            delivery=deliveries(delivery or ()),
            properties_file=kafka_config,
        ),
        policies=tuple(policies or ()),
        native=not no_native,
        currency=currency,
        timezone=timezone,
        tables=files,
        batch_rows=batch,
        arrival_ms=_now_ms(),
        shards=shards,
        lateness_ms=duration_ms("--lateness", lateness),
        retention_ms=duration_ms("--retention", retention),
        log=log_mode,
        log_format=format_of_log(log_format),
        sample_share=sample_share,
        state=state,
        epoch_ms=duration_ms("--epoch", epoch),
        erase_within_ms=duration_ms("--erase-within", erase_within),
    )
    _run(settings, processes, overwrite, quiet)


@tells_errors
def replay(
    dataset: Annotated[str, typer.Option("--dataset", metavar="NAME", help="completejourney.")],
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="DIR", help="Folder of the results; NAME-out if not given.")
    ] = "",
    policies: Policies = None,
    timezone: Timezone = "UTC",
    table: Tables = None,
    processes: Processes = 1,
    batch: Batch = limits.BATCH_ROWS_DEFAULT,
    overwrite: Overwrite = False,
    no_native: NoNative = False,
    quiet: Quiet = False,
) -> None:
    """Decide on a public data set, as if it happened now.

    completejourney: 1.5 million transaction lines of 2,469 households of a grocer in one year, its campaigns
    and coupons (pip install "segue\\[data]").

      segue replay --dataset completejourney --out out
    """
    _nothing_is_written_yet()
    from segue.datasets.source import dataset_currency
    from segue.run.arguments import named_files
    from segue.settings import Settings

    settings = Settings(
        dataset=dataset,
        out=out or f"{dataset}-out",
        policies=tuple(policies or ()),
        native=not no_native,
        currency=dataset_currency(dataset),
        timezone=timezone,
        tables=named_files("--table", table or ()),
        batch_rows=batch,
        arrival_ms=_now_ms(),
    )
    _run(settings, processes, overwrite, quiet)


def _nothing_is_written_yet() -> None:
    """Call it first: the imports alone take long enough to be stopped in."""
    from segue.run.stop import PREPARING

    PREPARING.set()


def _run(settings: Any, processes: int, overwrite: bool, quiet: bool) -> None:
    from rich.console import Console

    from segue.run.failure import say_warnings
    from segue.run.progress import display, terminal
    from segue.run.report import show
    from segue.run.runner import prepare
    from segue.run.runner import run as run_flow

    say_warnings()
    shown = display(terminal(), quiet=quiet)
    with shown.step("checking inputs and policies"):
        prepared = prepare(settings, processes, overwrite=overwrite)
    skipped = getattr(prepared.source, "skipped", ())
    if skipped and not quiet:
        more = f" and {len(skipped) - 1} more" if len(skipped) > 1 else ""
        say(f"not read, in no known format: {skipped[0]}{more}")
    summary = run_flow(prepared, shown)
    if not quiet:
        show(summary, Console(highlight=False), settings.out)


def _now_ms() -> int:
    from segue.clock import WALL_CLOCK

    return WALL_CLOCK.now_ms()


@tells_errors
def chaos(
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same disturbances.")] = 1,
    minutes: Annotated[float, typer.Option("--minutes", help="How long, checks not counted.")] = 5.0,
    processes: Annotated[int, typer.Option("--processes", "-n", help="Of the engine, at most.")] = 1,
    rate: Annotated[float, typer.Option("--rate", help="Events a second.")] = 500.0,
    brokers: Annotated[
        str,
        typer.Option(
            "--brokers", "-b", metavar="HOST:PORT", help="A broker to fill; if not given, one of its own."
        ),
    ] = "",
    folder: Annotated[
        str, typer.Option("--folder", metavar="DIR", help="Keep logs, states and the broker's data here.")
    ] = "",
) -> None:
    """Kill the engine and the broker at random, under load, and check that nothing was lost or said twice.

    A failure prints the command that repeats it and keeps everything. Without --brokers a broker is started from
    deploy/kafka, and disturbed too.

      segue chaos --seed 7 --minutes 10 --processes 3
    """
    from segue.chaos.run import ChaosSettings, run_chaos

    if minutes < 0 or rate <= 0 or not 1 <= processes <= 16:
        found = f"--minutes {minutes:g}, --rate {rate:g}, --processes {processes}"
        raise SettingsError("read the arguments", found, "minutes from 0, a rate above 0, 1 to 16 processes")
    chosen = ChaosSettings(seed, minutes, processes, rate, brokers, folder)
    if run_chaos(chosen, say):
        leave(1)
