"""`segue check`, `segue test` and `segue language`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segue.cli.options import Currency
from segue.cli.shell import leave, say, tells_errors
from segue.errors import SegueError


@tells_errors
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
        say(f"error: {problem}")
    say(f"{len(problems)} of {len(paths)} files not valid")
    leave(1)


@tells_errors
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
        leave(1)


@tells_errors
def language() -> None:
    """Print how policies are written: grammar, functions, windows, examples."""
    from importlib.resources import files

    typer.echo((files("segue.policy") / "LANGUAGE.md").read_text(encoding="utf-8"))
