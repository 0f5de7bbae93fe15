"""`segue schema`: messages as others read them."""

from __future__ import annotations

from typing import Annotated

import typer

from segue.cli.options import OfPolicies, Prefix, SettingsFile, TopicTables
from segue.cli.shell import tells_errors
from segue.errors import SettingsError, did_you_mean


@tells_errors
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
