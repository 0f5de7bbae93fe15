"""The `segue` command. What a command needs is imported when it runs: `segue --help` answers at once."""

from segue.cli.commands import app, main

__all__ = ["app", "main"]
