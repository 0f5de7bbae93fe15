"""`segue campaigns`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from segue.cli.options import Currency, Policies, Prefix, SettingsFile
from segue.cli.shell import tells_errors

if TYPE_CHECKING:
    from segue.run.campaigns import Campaigns

campaigns_app = typer.Typer(
    no_args_is_help=True,
    help="Vouchers of the campaigns that policies declare: how many are granted, good, run out and left.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Out = Annotated[str, typer.Option("--out", metavar="DIR", help="What a run on files wrote.")]
Brokers = Annotated[
    str, typer.Option("--brokers", "-b", metavar="HOST:PORT,…", help="Look into the topic instead.")
]
At = Annotated[
    str,
    typer.Option("--at", metavar="TIME", help="Run out is what has by then; by the last grant if not given."),
]
Properties = Annotated[
    str,
    typer.Option(
        "--properties", metavar="FILE", help="librdkafka's properties (TLS, SASL, …), name=value lines."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
Name = Annotated[str, typer.Argument(metavar="CAMPAIGN")]


def _read(
    policies: list[str] | None,
    currency: str,
    out: str,
    brokers: str,
    at: str,
    prefix: str | None,
    settings: str,
    properties: str,
) -> Campaigns:
    from segue.run.arguments import time_ms
    from segue.run.campaigns import Campaigns, changes_in_folder, changes_in_topic
    from segue.run.topics import TopicOptions, deployment_settings

    at_ms = time_ms("--at", at) if at else None
    if brokers:
        options = TopicOptions(
            settings_file=settings, brokers=brokers, prefix=prefix, properties_file=properties
        )
        changes = changes_in_topic(deployment_settings(options).kafka)
    else:
        changes = changes_in_folder(out)
    return Campaigns(policies, currency, changes, at_ms)


@campaigns_app.command("list")
@tells_errors
def list_campaigns(
    policies: Policies = None,
    out: Out = "actions",
    brokers: Brokers = "",
    at: At = "",
    currency: Currency = "EUR",
    prefix: Prefix = None,
    settings: SettingsFile = "",
    properties: Properties = "",
    as_json: AsJson = False,
) -> None:
    """All campaigns of the policies: vouchers granted and left, good and run out, money held for them and left.

    segue campaigns list --policies my.toml --out actions
    """
    from rich.console import Console

    from segue.run import campaigns

    read = _read(policies, currency, out, brokers, at, prefix, settings, properties)
    if as_json:
        typer.echo(campaigns.as_json([read.report(name) for name in read.infos]))
    else:
        campaigns.show_list(read, Console(highlight=False))


@campaigns_app.command("show")
@tells_errors
def show_campaign(
    campaign: Name,
    policies: Policies = None,
    out: Out = "actions",
    brokers: Brokers = "",
    at: At = "",
    currency: Currency = "EUR",
    prefix: Prefix = None,
    settings: SettingsFile = "",
    properties: Properties = "",
    as_json: AsJson = False,
) -> None:
    """One campaign. To stop one give it an earlier `end` and start the engine again: what is out stays good.

    segue campaigns show spring --policies my.toml --out actions
    """
    from rich.console import Console

    from segue.run import campaigns

    report = _read(policies, currency, out, brokers, at, prefix, settings, properties).report(campaign)
    if as_json:
        typer.echo(campaigns.as_json(report))
    else:
        campaigns.show_one(report, Console(highlight=False))


@campaigns_app.command("codes")
@tells_errors
def list_codes(
    campaign: Name,
    policies: Policies = None,
    out: Out = "actions",
    brokers: Brokers = "",
    at: At = "",
    currency: Currency = "EUR",
    prefix: Prefix = None,
    settings: SettingsFile = "",
    properties: Properties = "",
) -> None:
    """The codes of a campaign as JSON Lines: state, when they were granted, until when they are good. Whoever has a
    code can use it: keep them to yourself.

    segue campaigns codes spring --policies my.toml --out actions
    """
    import msgspec

    for code in _read(policies, currency, out, brokers, at, prefix, settings, properties).codes(campaign):
        typer.echo(msgspec.json.encode(code).decode())
