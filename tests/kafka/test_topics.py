"""`segue topics`: the plan of a deployment's topics, made in a real cluster and compared with it."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, ResourceType
from typer.testing import CliRunner, Result

from deploy.kafka.broker import Broker
from segue import limits
from segue.cli import app
from segue.errors import SettingsError
from segue.events.names import CHANNELS
from segue.kafka.settings import InputTopic, KafkaSettings
from segue.kafka.topics import Cluster, Difference, TopicError, compare, plan
from tests.brokers import Topics, until

SETTINGS = KafkaSettings(
    topics=(InputTopic("events"), InputTopic("catalogue", compact=True)), prefix="shop.", lanes=2
)


def test_the_plan_has_every_topic_once() -> None:
    topics = {topic.name: topic for topic in plan(SETTINGS, partitions=8)}
    outputs = (*CHANNELS, "decisions", "changes", "joins", "dead_letters", "late", "heartbeat", "ledger")
    assert list(topics) == ["events", "catalogue", *(f"shop.{name}" for name in outputs)]
    assert topics["events"].partitions == 8
    assert {topic.partitions for topic in topics.values() if topic.role != "input"} == {2}
    compacted = {name for name, topic in topics.items() if topic.config["cleanup.policy"] == "compact"}
    assert compacted == {"catalogue", "shop.ledger"}
    assert not any("retention.ms" in topics[name].config for name in compacted)
    without = plan(SETTINGS, partitions=8, has_campaigns=False)
    assert {topic.name for topic in without} == topics.keys() - {"shop.ledger"}


def test_an_input_that_is_an_output_is_refused() -> None:
    with pytest.raises(SettingsError, match=r'two topics are called "shop\.email"'):
        plan(KafkaSettings(topics=(InputTopic("shop.email"),), prefix="shop."))


def test_what_was_acknowledged_survives_the_loss_of_a_replica() -> None:
    (topic, *_) = plan(SETTINGS, replication=3)
    assert topic.replication == 3
    assert topic.config["min.insync.replicas"] == "2"
    assert topic.config["unclean.leader.election.enable"] == "false"


def cluster_of(broker: Broker) -> Cluster:
    return Cluster(KafkaSettings(broker.brokers))


def test_create_makes_what_is_missing_and_leaves_what_is_there(broker: Broker, topics: Topics) -> None:
    settings = KafkaSettings(topics=(InputTopic(f"{topics.prefix}in"),), prefix=topics.prefix, lanes=3)
    planned = plan(settings, ("email", "web"))
    cluster = cluster_of(broker)
    assert {each.what for each in compare(planned, cluster)} == {"topic"}
    topics("email", partitions=3, config=planned[1].config)
    assert sorted(cluster.create(planned)) == sorted(
        {topic.name for topic in planned} - {f"{topics.prefix}email"}
    )
    assert cluster.create(planned) == []
    assert compare(planned, cluster) == []
    assert topics.names() == sorted(topic.name for topic in planned)


def _set(topics: Topics, name: str, **config: str) -> None:
    entries = [
        ConfigEntry(key.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
        for key, value in config.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, topics.prefix + name, incremental_configs=entries)
    for future in topics.admin.incremental_alter_configs([resource]).values():
        future.result(30)


def test_every_difference_is_told_and_what_loses_data_is_fatal(broker: Broker, topics: Topics) -> None:
    settings = KafkaSettings(topics=(InputTopic(f"{topics.prefix}in"),), prefix=topics.prefix, lanes=2)
    planned = plan(settings, ("email", "web"))
    cluster = cluster_of(broker)
    topics("late", partitions=1)  # fewer than lanes, kept for less than planned
    cluster.create(planned)
    _set(topics, "email", cleanup_policy="compact")
    _set(topics, "web", retention_ms=str(limits.HOUR_MS), compression_type="gzip")
    _set(topics, "decisions", retention_ms=str(2 * limits.DAY_MS), retention_bytes="1000")
    _set(topics, "heartbeat", retention_ms="-1")  # longer is fine
    more = {topics.prefix + "joins": NewPartitions(topics.prefix + "joins", 5)}
    for future in topics.admin.create_partitions(list(more.values())).values():
        future.result(30)
    for future in topics.admin.delete_topics([topics.prefix + "changes"]).values():
        future.result(30)
    expected = {
        ("email", "cleanup.policy", "compact", True),
        ("web", "retention.ms", str(limits.HOUR_MS), True),
        ("web", "compression.type", "gzip", False),
        ("decisions", "retention.ms", str(2 * limits.DAY_MS), False),
        ("decisions", "retention.bytes", "1000", True),
        ("changes", "topic", "missing", True),
        ("joins", "partitions", "5", False),
        ("late", "partitions", "1", True),
        ("late", "retention.ms", str(7 * limits.DAY_MS), False),
    }

    def found() -> set[tuple[str, str, str, bool]]:
        differences = compare(planned, cluster)
        return {(d.topic.removeprefix(topics.prefix), d.what, d.found, d.is_fatal) for d in differences}

    with contextlib.suppress(AssertionError):
        until(lambda: found() == expected, 10)
    assert found() == expected
    assert Difference(topics.prefix + "late", "partitions", "2", "1", True) in compare(planned, cluster)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["topics", *arguments], env={"COLUMNS": "200", "SEGUE_SETTINGS": ""})


def test_the_commands(broker: Broker, topics: Topics) -> None:
    options = (f"{topics.prefix}in", "--brokers", broker.brokers, "--prefix", topics.prefix, "--lanes", "2")
    missing = run("check", *options)
    assert missing.exit_code == 1
    assert "16 of 16 differences must be set right" in missing.stdout
    created = run("create", *options)
    assert created.exit_code == 0, created.stderr
    assert "16 created, 0 were there" in created.stdout
    assert "0 created, 16 were there" in run("create", *options).stdout
    checked = run("check", *options)
    assert checked.exit_code == 0
    assert "16 topics" in checked.stdout
    other_lanes = run("check", *options[:-1], "3")
    assert other_lanes.exit_code == 1
    assert f"{topics.prefix}decisions" in other_lanes.stdout
    assert run("list", *options).stdout.count("there") == 16


def test_channels_are_those_of_the_policies() -> None:
    shipped = Path(__file__).parents[2] / "src/segue/policy/shipped/a10_abandonment.toml"
    told = run("list", "--policies", str(shipped)).stdout
    assert "segue.email" in told
    assert "segue.call" not in told
    assert "segue.decisions" in told


def test_settings_come_from_a_file_and_options_win(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    kafka = {"prefix": "file.", "lanes": 7, "topics": [{"name": "clicks"}]}
    path.write_text(json.dumps({"kafka": kafka}))
    told = run("list", "--settings", str(path), "--lanes", "9").stdout
    assert "clicks" in told
    assert "file.email" in told
    assert " 9 " in told
    path.write_text("{")
    assert run("list", "--settings", str(path)).exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("check", "events"), "no brokers are given"),
        (("list", "--lanes", "65"), "lanes is 65"),
        (("list", "--retention", "1h"), "retention is 3600000 ms"),
        (("list", "events", "--compact", "stock"), '--compact "stock" is no input'),
        (("list", "--properties", "/nowhere", "--brokers", "127.0.0.1:1"), "can't be read"),
    ],
)
def test_wrong_options_are_told(arguments: tuple[str, ...], said: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 1
    assert said in done.stderr


def test_more_replicas_than_brokers_are_refused(broker: Broker) -> None:
    done = run("create", "--brokers", broker.brokers, "--replication", "3", "--prefix", "never.")
    assert done.exit_code == 1
    assert "the cluster has 1 brokers" in done.stderr


def test_brokers_that_do_not_answer_are_told() -> None:
    with pytest.raises(TopicError, match="no broker can be reached"):
        Cluster(KafkaSettings("127.0.0.1:1"), wait_ms=500)
