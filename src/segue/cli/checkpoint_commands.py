"""`segue checkpoints`."""

from __future__ import annotations

from typing import Annotated

import typer

from segue.cli.options import KafkaConfig
from segue.cli.shell import leave, tells_errors

checkpoints_app = typer.Typer(
    no_args_is_help=True,
    help="What a deployment could resume, whether it is whole, and going back to it.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

State = Annotated[str, typer.Option("--state", metavar="DIR", help="Folder in which the state survives.")]
Epoch = Annotated[
    int | None, typer.Option("--epoch", metavar="N", help="One of those that `segue checkpoints list` shows.")
]


@checkpoints_app.command("list")
@tells_errors
def list_checkpoints(state: State) -> None:
    """All epochs that can be resumed, newest first: when they were saved, how large they are, and whether their
    files are there.

    segue checkpoints list --state DIR
    """
    from rich.console import Console

    from segue.run.checkpoints import show_list

    show_list(state, Console(highlight=False))


@checkpoints_app.command("verify")
@tells_errors
def verify_checkpoint(state: State, epoch: Epoch = None) -> None:
    """Read every file of a checkpoint and compare all checksums; without --epoch of the one that is resumed next.
    Exit code 1 if anything is damaged or missing.

    segue checkpoints verify --state DIR
    """
    from rich.console import Console

    from segue.run.checkpoints import show_verify

    if not show_verify(state, epoch, Console(highlight=False)):
        leave(1)


@checkpoints_app.command("restore")
@tells_errors
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
