"""Durations and times of the command line."""

from __future__ import annotations

import pytest

from segue.errors import SettingsError
from segue.kafka.settings import InputTopic
from segue.run.arguments import deliveries, duration_ms, input_topics, need_inputs, time_ms


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("0s", 0), ("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("2h", 7_200_000), ("1d", 86_400_000)],
)
def test_durations(text, milliseconds):
    assert duration_ms("--x", text) == milliseconds


@pytest.mark.parametrize("text", ["", "5", "m", "-5m", "5 m", "1.5h", "5y", "9" * 40 + "d"])
def test_no_durations(text):
    with pytest.raises(SettingsError, match="no duration"):
        duration_ms("--x", text)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("1970-01-02", 86_400_000), ("1970-01-01T01:00:00Z", 3_600_000), ("1970-01-01T01:00:00.5+01:00", 500)],
)
def test_times(text, milliseconds):
    assert time_ms("--x", text) == milliseconds


def test_no_time():
    with pytest.raises(SettingsError, match="no time"):
        time_ms("--x", "tomorrow")


def test_topics_with_and_without_a_form():
    assert input_topics(["orders", "web:cloudevents"]) == (
        InputTopic("orders", "auto"),
        InputTopic("web", "cloudevents"),
    )


@pytest.mark.parametrize("text", ["", ":json", "web:jsn"])
def test_no_topics(text):
    with pytest.raises(SettingsError, match=r"is not NAME\[:FORM\]"):
        input_topics([text])


@pytest.mark.parametrize(
    ("inputs", "out", "brokers", "topics", "found"),
    [
        ([], "out", "", [], "no input was given"),
        (["a"], "", "", [], "no output folder"),
        (["a"], "out", "", ["t"], "--topic without --brokers"),
        (["a"], "", "b:9092", ["t"], "from files or from topics"),
        ([], "out", "b:9092", ["t"], "goes to topics"),
        ([], "", "b:9092", [], "without a topic"),
    ],
)
def test_files_or_topics(inputs, out, brokers, topics, found):
    with pytest.raises(SettingsError, match=found):
        need_inputs(inputs, out, brokers, topics)


def test_files_and_topics_that_are_right():
    need_inputs(["a"], "out", "", [])
    need_inputs([], "", "b:9092", ["t"])


def test_deliveries() -> None:
    assert deliveries(["web=transactional", "email=idempotent"]) == {
        "web": "transactional",
        "email": "idempotent",
    }


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["web"], "is not CHANNEL=HOW"),
        (["wep=idempotent"], 'did you mean "web"'),
        (["web=idempotant"], 'did you mean "idempotent"'),
        (["web=idempotent", "web=transactional"], "is given twice"),
    ],
)
def test_deliveries_that_are_none(texts: list[str], said: str) -> None:
    with pytest.raises(SettingsError) as told:
        deliveries(texts)
    assert said in str(told.value)
