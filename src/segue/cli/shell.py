"""How commands speak to people, and with which exit code they end."""

from __future__ import annotations

import functools
import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

import typer

from segue.errors import SegueError

Command = TypeVar("Command", bound=Callable[..., None])


def leave(code: int) -> NoReturn:
    """End the command with this exit code."""
    raise typer.Exit(code)


def say(text: str) -> None:
    """A line on standard error: standard output is for results."""
    typer.echo(text, err=True)


def tells_errors(command: Command) -> Command:
    """Errors in one clear message: exit code 1; 130 after Ctrl-C, 143 after SIGTERM."""

    @functools.wraps(command)
    def call(*args: Any, **kwargs: Any) -> None:
        from segue.run.failure import NothingToDo, Stopped, UnexpectedError, debugging, describe, keep_log
        from segue.run.stop import PREPARING, stoppable

        with stoppable() as stop:
            try:
                command(*args, **kwargs)
            except (typer.Exit, typer.Abort, BrokenPipeError):
                raise
            except NothingToDo as nothing:
                again = f"; resumes where it was: {shlex.join(['segue', *sys.argv[1:]])}"
                say(f"{nothing}{again if nothing.resumes else ''}")
            except BaseException as error:
                if stop.signal_number or isinstance(error, KeyboardInterrupt | Stopped):
                    if PREPARING.is_set():
                        say("stopped before the run began: no results were written")
                    else:
                        say("stopped; what was written so far is not complete")
                    leave(128 + (stop.signal_number or signal.SIGINT))
                if debugging() or not isinstance(error, Exception):
                    raise
                if isinstance(error, SegueError):
                    say(f"error: {error}")
                elif isinstance(error, UnexpectedError):
                    say(str(error))
                else:
                    say(str(UnexpectedError(describe(error), keep_log(Path(os.devnull), error))))
                leave(1)

    return cast(Command, call)
