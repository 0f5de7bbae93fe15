"""All commands of `segue`; within a panel, the help shows them in the order in which they are added here."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from segue import __version__
from segue.cli.campaign_commands import campaigns_app
from segue.cli.checkpoint_commands import checkpoints_app
from segue.cli.explain_command import explain
from segue.cli.message_commands import schema
from segue.cli.policy_commands import check, language, play_examples
from segue.cli.run_commands import chaos, replay, run
from segue.cli.shell import leave
from segue.cli.topic_commands import topics_app
from segue.cli.try_commands import demo, simulate

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
  segue explain ACTION_ID --out out                why this action, and not another
  segue language                                   how policies are written

Inputs are JSON Lines (plain, gzip or zstd), Parquet or Arrow files, folders of them, or - for standard input.
SEGUE_SECRET holds the key that identifiers are hashed with, SEGUE_DEBUG=1 shows everything about an error.
"""


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"segue {__version__}")
        leave(0)


@app.callback(help=_HELP)
def _segue(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Tell the version.")
    ] = False,
) -> None:
    pass


app.command(rich_help_panel="Run")(run)
app.command(rich_help_panel="Run")(replay)
app.command(rich_help_panel="Try")(demo)
app.command(rich_help_panel="Try")(simulate)
app.command(rich_help_panel="Policies")(check)
app.command("test", rich_help_panel="Policies")(play_examples)
app.command(rich_help_panel="Policies")(language)
app.command(rich_help_panel="Run")(chaos)
app.command(rich_help_panel="Messages")(explain)
app.command(rich_help_panel="Messages")(schema)
app.add_typer(topics_app, rich_help_panel="Kafka")
app.add_typer(checkpoints_app, name="checkpoints", rich_help_panel="Operate")
app.add_typer(campaigns_app, name="campaigns", rich_help_panel="Operate")


def main() -> None:
    """The entry point."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that knows no "…" is no reason to fail
    app()
