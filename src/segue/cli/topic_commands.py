"""`segue topics`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from segue import limits
from segue.cli.options import OfPolicies, Prefix, SettingsFile, TopicTables
from segue.cli.shell import leave, tells_errors

topics_app = typer.Typer(
    name="topics",
    no_args_is_help=True,
    help="The Kafka topics of a deployment: planned in one place, made, compared with a cluster.",
)

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
Brokers = Annotated[str, typer.Option("--brokers", "-b", metavar="HOST:PORT,…", help="Where the cluster is.")]
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
    return tells_errors(call)


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
        leave(1)


@topics_app.command("list")
@_with_topic_options
def topics_list(options: Any, console: Any) -> None:
    """Show the plan and, with brokers, which of its topics are there.

    segue topics list events --policies my.toml
    """
    from segue.run.topics import show

    show(options, console)
