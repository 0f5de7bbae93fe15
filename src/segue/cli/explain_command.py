"""`segue explain`."""

from __future__ import annotations

from typing import Annotated

import typer

from segue.cli.options import Prefix, SettingsFile
from segue.cli.shell import tells_errors


@tells_errors
def explain(
    asked: Annotated[
        str, typer.Argument(metavar="ACTION_ID|CUSTOMER", help="Or the id of a decision. As in the messages.")
    ],
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="What a run on files wrote.")] = "actions",
    brokers: Annotated[
        str,
        typer.Option("--brokers", "-b", metavar="HOST:PORT,…", help="Look into topics instead."),
    ] = "",
    at: Annotated[
        str, typer.Option("--at", metavar="TIME", help="Of a customer: as of then; the latest if not given.")
    ] = "",
    since: Annotated[
        str,
        typer.Option(
            "--since", metavar="TIME", help="Of topics: look only at what was written since; faster."
        ),
    ] = "",
    policies: Annotated[
        list[str] | None,
        typer.Option(
            "--policies",
            "-p",
            metavar="FILE|DIR",
            help="For their conditions and limits. Without: those shipped.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All of it, for programs.")] = False,
    prefix: Prefix = None,
    settings: SettingsFile = "",
    properties: Annotated[
        str,
        typer.Option(
            "--properties", metavar="FILE", help="librdkafka's properties (TLS, SASL, …), name=value lines."
        ),
    ] = "",
) -> None:
    """Why this action, and why not the others; or why a customer got what they got, or nothing.

    segue explain f13421b0c8c610375117e8c7548e1fdb --out actions
    segue explain customer-17 --at 2026-03-02T12:00:00Z --brokers localhost:9092
    """
    import msgspec
    from rich.console import Console

    from segue.explain.logs import FolderLogs, Logs, TopicLogs
    from segue.explain.moment import explain as explained
    from segue.explain.words import Policies
    from segue.policy.load import SHIPPED
    from segue.run.arguments import time_ms
    from segue.run.explaining import show
    from segue.run.topics import TopicOptions, deployment_settings

    at_ms = time_ms("--at", at) if at else None
    since_ms = time_ms("--since", since) if since else 0
    at_hand = Policies(policies or [SHIPPED])
    logs: Logs
    if brokers:
        options = TopicOptions(
            settings_file=settings, brokers=brokers, prefix=prefix, properties_file=properties
        )
        logs = TopicLogs(deployment_settings(options).kafka, since_ms)
    else:
        logs = FolderLogs(out)
    with Console(stderr=True).status("reading the logs"):
        explanation = explained(logs, asked, at_ms)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(explanation)).decode())
    else:
        show(explanation, at_hand, Console(highlight=False))
