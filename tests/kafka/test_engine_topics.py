"""Topics that are missing or too small are told before anything is decided, with the command that makes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.kafka.broker import Broker
from tests.brokers import Topics
from tests.kafka.engines import OUTPUTS, Deployment, make_topics


@pytest.mark.parametrize(
    ("inputs", "missing", "lanes", "said"),
    [
        (0, "", 2, ['the topic "{}events" is not on', "segue topics create"]),
        (1, "decisions", 2, ['topic "{}decisions": it is not there', "segue topics create"]),
        (1, "", 2, ['the topic "{}email" is an input and an output of this run', "--prefix"]),
        (1, "", 1, ['topic "{}', "has 1 partitions; 2 lanes need as many", "segue topics create"]),
    ],
)
def test_what_is_missing_is_told(
    broker: Broker, topics: Topics, tmp_path: Path, inputs: int, missing: str, lanes: int, said: list[str]
) -> None:
    read = {"email": "json"} if "an input and an output" in said[0] else {"events": "json"}
    deployment = Deployment(broker.brokers, topics.prefix, tmp_path / "engine", read)
    if inputs:
        make_topics(broker.brokers, {f"{topics.prefix}events": 1})
    make_topics(broker.brokers, {topics.prefix + name: lanes for name in OUTPUTS if name != missing})
    deployment.start()
    code, told = deployment.ended()
    assert code == 1
    for text in said:
        assert text.format(topics.prefix) in told
