"""`segue topics`: the plan of a deployment's topics, made in a cluster, compared with one, or as a document."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Column, Table

from segue import limits
from segue.errors import SettingsError
from segue.events.names import CHANNELS
from segue.kafka.asyncapi import asyncapi
from segue.kafka.settings import InputTopic, KafkaSettings
from segue.kafka.topics import Cluster, Difference, TopicPlan, compare, plan
from segue.policy.load import load_policies
from segue.run.arguments import table_topics
from segue.settings import Settings, secret

_STEP = "read the settings"


class TopicOptions(msgspec.Struct, frozen=True):
    """What the command line says; what it leaves out is in the settings file, or has its default.

    compact      names among the inputs
    tables       topics of their rows: {"catalogue": "topic:products"}
    replication  0: as many as the cluster has brokers, TOPIC_REPLICAS_MAX at most
    """

    inputs: tuple[str, ...] = ()
    compact: tuple[str, ...] = ()
    tables: dict[str, str] = {}
    settings_file: str = ""
    brokers: str = ""
    prefix: str | None = None
    lanes: int = 0
    partitions: int = limits.TOPIC_PARTITIONS_DEFAULT
    replication: int = 0
    retention_ms: int = limits.TOPIC_RETENTION_MS_DEFAULT
    policies: tuple[str, ...] = ()
    properties_file: str = ""


def create(options: TopicOptions, console: Console) -> None:
    """Make what is missing, and tell what was made."""
    cluster, topics = _planned(options)
    made = set(cluster.create(topics))
    _show(topics, console, {topic.name: "created" if topic.name in made else "was there" for topic in topics})
    console.print(f"{len(made)} created, {len(topics) - len(made)} were there, at {cluster.brokers}")
    for difference in _fatal(compare(topics, cluster)):
        console.print(f"not as planned: {_text(difference)}", style="bold")


def check(options: TopicOptions, console: Console) -> bool:
    """Tell all differences; whether an engine can run."""
    cluster, topics = _planned(options)
    differences = compare(topics, cluster)
    if not differences:
        console.print(f"{len(topics)} topics at {cluster.brokers} are as planned")
        return True
    table = Table(Column("topic", no_wrap=True), "", "what", "planned", "found", box=None)
    for each in differences:
        kind = "error" if each.is_fatal else "note"
        table.add_row(each.topic, kind, each.what, each.planned, each.found)
    console.print(table)
    fatal = len(_fatal(differences))
    if fatal:
        console.print(f"{fatal} of {len(differences)} differences must be set right before an engine runs")
    if any(each.found == "missing" for each in differences):
        console.print("missing ones are made by: segue topics create, with the same options")
    return not fatal


def show(options: TopicOptions, console: Console) -> None:
    """Tell the plan and, if brokers are given, which of its topics are there."""
    if not options.brokers and not deployment_settings(options).kafka.brokers:
        _show(
            _plan_of(options, deployment_settings(options), replication=max(1, options.replication)),
            console,
            {},
        )
        return
    cluster, topics = _planned(options)
    there = cluster.describe([topic.name for topic in topics])
    _show(topics, console, {topic.name: "there" if topic.name in there else "missing" for topic in topics})


def document(options: TopicOptions) -> dict[str, Any]:
    """The AsyncAPI document of the topics."""
    settings = deployment_settings(options)
    return asyncapi(settings.kafka, *_used(settings))


def _fatal(differences: Sequence[Difference]) -> list[Difference]:
    return [each for each in differences if each.is_fatal]


def _text(each: Difference) -> str:
    return f"{each.topic}: {each.what} is {each.found}, planned {each.planned}"


def _show(topics: Sequence[TopicPlan], console: Console, states: dict[str, str]) -> None:
    table = Table(Column("topic", no_wrap=True), "for", "partitions", "replicas", "kept", "", box=None)
    for topic in topics:
        config = topic.config
        kept = "newest of a key"
        if config["cleanup.policy"] == "delete":
            hours = int(config["retention.ms"]) / limits.HOUR_MS
            kept = f"{hours:.3g} h" if hours < 24 else f"{hours / 24:.3g} d"
        table.add_row(
            topic.name,
            topic.role,
            str(topic.partitions),
            str(topic.replication),
            kept,
            states.get(topic.name, ""),
        )
    console.print(table)


def _planned(options: TopicOptions) -> tuple[Cluster, list[TopicPlan]]:
    settings = deployment_settings(options)
    cluster = Cluster(settings.kafka)
    if options.replication > cluster.size:
        raise SettingsError(
            "plan topics",
            f"--replication {options.replication}, but the cluster has {cluster.size} brokers",
            f"at most {cluster.size}",
        )
    replication = options.replication or min(cluster.size, limits.TOPIC_REPLICAS_MAX)
    return cluster, _plan_of(options, settings, replication)


def deployment_settings(options: TopicOptions) -> Settings:
    """The settings file's, changed by what the command line says. Raises SettingsError."""
    settings = Settings()
    if options.settings_file:
        path = options.settings_file
        try:
            settings = msgspec.json.decode(Path(path).read_bytes(), type=Settings)
        except OSError as error:
            raise SettingsError(
                _STEP, f'"{path}" can\'t be read ({error.strerror})', "check the path"
            ) from error
        except msgspec.DecodeError as error:
            raise SettingsError(_STEP, f'"{path}": {error}', "see README, Settings") from error
    kafka = settings.kafka
    topics = {topic.name: topic for topic in kafka.topics}
    topics |= {name: topics.get(name, InputTopic(name)) for name in options.inputs}
    files, of_tables = table_topics(options.tables, options.brokers or kafka.brokers or "any")
    if files:
        name, path = next(iter(files.items()))
        raise SettingsError(
            "plan topics", f'--table "{name}={path}" is no topic', f"--table {name}=topic:NAME"
        )
    topics |= {topic.name: topic for topic in of_tables}
    for name in options.compact:
        if name not in topics:
            raise SettingsError(
                "plan topics", f'--compact "{name}" is no input', "name it among the inputs too"
            )
        topics[name] = msgspec.structs.replace(topics[name], compact=True)
    changed: dict[str, object] = {"topics": tuple(topics.values())}
    if options.brokers:
        changed["brokers"] = options.brokers
    if options.prefix is not None:
        changed["prefix"] = options.prefix
    if options.lanes:
        changed["lanes"] = options.lanes
    if options.properties_file:
        changed["properties_file"] = options.properties_file
    kafka = msgspec.structs.replace(kafka, **changed)
    _check(kafka, options)
    return msgspec.structs.replace(settings, kafka=kafka, policies=options.policies or settings.policies)


def _check(kafka: KafkaSettings, options: TopicOptions) -> None:
    bounds = {
        "lanes": (kafka.lanes, 1, limits.LANES_MAX),
        "partitions": (options.partitions, 1, limits.PARTITIONS_MAX),
        "replication": (options.replication, 0, 1_000),
        "retention": (options.retention_ms, limits.TOPIC_RETENTION_MS_MIN, limits.WINDOW_MS_MAX),
    }
    for name, (value, least, most) in bounds.items():
        if not least <= value <= most:
            unit = " ms" if name == "retention" else ""
            raise SettingsError("plan topics", f"{name} is {value}{unit}", f"from {least} to {most}{unit}")


def _plan_of(options: TopicOptions, settings: Settings, replication: int) -> list[TopicPlan]:
    channels, has_campaigns = _used(settings)
    return plan(
        settings.kafka,
        channels,
        has_campaigns=has_campaigns,
        partitions=options.partitions,
        replication=replication,
        retention_ms=options.retention_ms,
    )


def _used(settings: Settings) -> tuple[list[str], bool]:
    """The channels that the policies use, and whether they have campaigns; without policies all."""
    if not settings.policies:
        return list(CHANNELS), True
    policies = load_policies(settings.policies, secret=secret(), currency=settings.currency, native=False)
    used = {offer.channel for offer in policies.offer_infos}
    return [channel for channel in CHANNELS if channel in used], bool(policies.campaign_infos)
