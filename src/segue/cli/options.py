"""Options that several commands take."""

from __future__ import annotations

from typing import Annotated

import typer

Policies = Annotated[
    list[str] | None,
    typer.Option(
        "--policies", "-p", metavar="FILE|DIR", help="Policies, may be repeated. Without: those shipped."
    ),
]
Processes = Annotated[int, typer.Option("--processes", "-n", help="Worker processes; one a core at most.")]
Batch = Annotated[int, typer.Option("--batch", help="Rows of a batch: large is fast, small is prompt.")]
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
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the results of an earlier run.")]
NoNative = Annotated[
    bool,
    typer.Option("--no-native", help="Run policies in the virtual machine: nothing is compiled for them."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing unless something is wrong.")]
KafkaConfig = Annotated[
    str,
    typer.Option(
        "--kafka-config", metavar="FILE", help="librdkafka's properties, a name=value a line: TLS, SASL, …"
    ),
]
Prefix = Annotated[
    str | None, typer.Option("--prefix", help="In front of output topics; segue. if not given.")
]
TopicTables = Annotated[
    list[str] | None,
    typer.Option(
        "--table",
        metavar="NAME=topic:TOPIC",
        help="A topic of rows of catalogue, price, stock or profile: of each key the newest is kept. May be repeated.",
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
SettingsFile = Annotated[
    str,
    typer.Option(
        "--settings",
        metavar="FILE",
        envvar="SEGUE_SETTINGS",
        help="JSON: what options leave out stands there.",
    ),
]
