"""The verifier sees what is right and what is wrong: on what a stand-in engine said, killed in between, on the real
broker."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Producer
from hypothesis import example, given
from hypothesis import strategies as st

from segue.chaos.load import POLICY, Load
from segue.chaos.oracle import EngineOracle
from segue.chaos.topics import Line, lines_of, make_topics
from segue.chaos.verify import (
    WITHDRAWN,
    Input,
    Oracle,
    Output,
    Verdict,
    period_start_ms,
    read_input,
    read_output,
    rules_of,
    verify,
)
from segue.events.names import CHANNELS
from segue.kafka.read import Record, read_topics
from segue.kafka.settings import InputTopic, KafkaSettings
from segue.kafka.topics import plan
from segue.limits import LATENESS_MS_DEFAULT
from segue.outputs import CHANGES, DEAD_LETTERS, DECISIONS, JOINS
from segue.policy.load import load_policies
from segue.settings import Settings, secret
from segue_kernels.plan import WINDOW_DAY, WINDOW_HOUR, WINDOW_MONTH, WINDOW_WEEK
from tests.brokers import have_broker
from tests.kafka.naive_oracle import NaiveOracle
from tests.reference import history

RATE = 600.0
SECONDS = 2.0


@dataclass
class Said:
    """A run of the stand-in: what went in and what came out, and what judges it."""

    settings: Settings
    input: Input
    output: Output

    def verdict(
        self, change: Callable[[Output], Any] = lambda _: None, *, naive: bool = False, one_in: int = 1
    ) -> Verdict:
        policies = load_policies(self.settings.policies, secret=secret(), native=False)
        engine = EngineOracle(policies, self.settings.engine(), self.settings.currency)
        oracle: Oracle = NaiveOracle(self.settings) if naive else engine
        output = deepcopy(self.output)
        change(output)
        return verify(
            deepcopy(self.input),
            output,
            oracle,
            rules_of(policies),
            self.settings.kafka,
            lateness_ms=LATENESS_MS_DEFAULT,
            due_ms=1,
            may_ms=round(time.time() * 1_000),
            one_in=one_in,
        )


def stand_in(settings: Settings, name: str, *more: str) -> subprocess.Popen[bytes]:
    kafka = settings.kafka
    topics = [f"--topic={topic.name}:{topic.form}" for topic in kafka.topics]
    command = [sys.executable, "-m", "tests.kafka.stand_in", f"--brokers={kafka.brokers}", f"--name={name}"]
    command += [f"--prefix={kafka.prefix}", f"--policies={settings.policies[0]}", *topics, *more]
    return subprocess.Popen(command)


@pytest.fixture(scope="module")
def said(broker: Any, tmp_path_factory: pytest.TempPathFactory) -> Said:
    have_broker()
    folder: Path = tmp_path_factory.mktemp("said")
    policy = folder / "chaos.toml"
    policy.write_text(POLICY)
    name = f"verifier-{time.time_ns()}"
    topics = (
        InputTopic(f"{name}.bare", "json"),
        InputTopic(f"{name}.headers", "cloudevents"),
        InputTopic(f"{name}.many", "many"),
    )
    settings = Settings(
        policies=(str(policy),),
        kafka=KafkaSettings(brokers=broker.brokers, topics=topics, prefix=f"{name}.out."),
        shards=2,
    )
    make_topics(settings.kafka, CHANNELS, partitions=2)
    load = Load(broker.brokers, topics, 2, 1, RATE)
    first = stand_in(settings, name)
    load.run(SECONDS)
    _wait_for(lambda: bool(read_output(broker.brokers, settings.kafka.prefix).actions))
    first.send_signal(signal.SIGKILL)
    first.wait()
    load.run(SECONDS / 2)
    load.finish()
    second = stand_in(settings, name)
    try:
        kafka = settings.kafka
        said = Said(settings, read_input(kafka.brokers, kafka.topics), Output())

        def complete() -> bool:
            said.output = read_output(kafka.brokers, kafka.prefix)
            return said.verdict().ok

        _wait_for(complete)
    finally:
        second.terminate()
        assert second.wait(20) == 0
    return said


def _wait_for(done: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_what_is_right_is_right_for_the_naive_reference_too(said: Said) -> None:
    verdict = said.verdict(naive=True)
    assert verdict.ok, str(verdict)
    assert verdict.events > RATE * SECONDS
    assert verdict.unordered == 0
    for output in ("email", "web", "till", DECISIONS, CHANGES, JOINS):
        assert verdict.outputs[output].found > 0, output


def test_a_share_of_the_customers_will_do(said: Said) -> None:
    verdict = said.verdict(naive=True, one_in=4)
    assert verdict.ok, str(verdict)
    assert 0 < verdict.outputs[DECISIONS].found < said.verdict().outputs[DECISIONS].found


def _pop(rows: list[Any]) -> None:
    rows.pop(len(rows) // 2)


def _again(rows: list[Any]) -> None:
    rows.append(deepcopy(rows[len(rows) // 2]))


def _set(rows: list[dict[str, Any]], name: str, value: Any) -> None:
    rows[len(rows) // 2][name] = value


@pytest.mark.parametrize(
    ("change", "output", "kind"),
    [
        (lambda o: _pop(o.actions["email"]), "email", "missing"),
        (lambda o: _pop(o.actions["web"]), "web", "missing"),
        (lambda o: _again(o.actions["email"]), "email", "doubled"),
        (lambda o: _again(o.actions["web"]), "web", "repeated"),
        (lambda o: _set(o.actions["email"], "product_id", "p-other"), "email", "wrong"),
        (lambda o: _set(o.actions["web"], "decision_id", "0" * 32), "web", "wrong"),
        (lambda o: _pop(o.tables[DECISIONS]), DECISIONS, "missing"),
        (lambda o: _again(o.tables[DECISIONS]), DECISIONS, "doubled"),
        (lambda o: _set(o.tables[DECISIONS], "reasons", b"\x07"), DECISIONS, "wrong"),
        (lambda o: _pop(o.tables[CHANGES]), CHANGES, "missing"),
        (lambda o: _again(o.tables[JOINS]), JOINS, "doubled"),
        (lambda o: _pop(o.withdrawn["email"]), WITHDRAWN, "missing"),
        (lambda o: _again(o.withdrawn["email"]), WITHDRAWN, "doubled"),
        (lambda o: _again(o.withdrawn["web"]), WITHDRAWN, "repeated"),
        (lambda o: _set(o.withdrawn["web"], "reason", "other"), WITHDRAWN, "wrong"),
        (lambda o: _set(o.withdrawn["email"], "action_id", "0" * 32), WITHDRAWN, "wrong"),
        (lambda o: o.lines[DEAD_LETTERS].append(b"{}"), DEAD_LETTERS, "doubled"),
        (lambda o: o.misplaced.append("email/1 offset 0"), "placement", "wrong"),
    ],
)
def test_what_is_wrong_is_seen(said: Said, change: Callable[[Output], None], output: str, kind: str) -> None:
    verdict = said.verdict(change)
    assert getattr(verdict.outputs[output], kind) >= 1, str(verdict)
    assert verdict.ok == (kind == "repeated")


def test_a_repeat_must_say_the_same(said: Said) -> None:
    def change(output: Output) -> None:
        _again(output.actions["web"])
        output.actions["web"][-1]["score"] = 0.25

    assert said.verdict(change).outputs["web"].wrong == 1


def test_limits_and_consent_are_checked_in_any_order(said: Said) -> None:
    def change(output: Output) -> None:
        for number in range(4):
            _again(output.actions["email"])
            output.actions["email"][-1]["decision_id"] = f"{number:032x}"

    assert said.verdict(change).passed_caps >= 1

    def elsewhere(output: Output) -> None:
        for number in range(4):
            again = deepcopy(output.actions["email"][0])
            again.update(decision_id=f"{number:032x}", journey="grown-busy", offer="thanks")
            output.actions["email"].append(again)

    assert "a cap was passed" in said.verdict(elsewhere).examples

    def on_one_day(output: Output, days: int = 1) -> None:
        _again(output.actions["sms"])
        first = output.actions["sms"][-1]
        for number in range(8):
            moment = datetime(2026, 3, 28 + number % days, 22, 30, 10 + number, tzinfo=UTC)
            time_text = moment.isoformat().replace("+00:00", "Z")
            again = {**first, "decision_id": f"{number:032x}", "time": time_text, "timezone": "Europe/Berlin"}
            output.actions["sms"].append(again)

    assert "a cap was passed" in said.verdict(on_one_day).examples
    # half past midnight in summer is half past eleven in winter: of three days none has more than four
    assert "a cap was passed" not in said.verdict(lambda output: on_one_day(output, 3)).examples

    def nobody(output: Output) -> None:
        _set(output.actions["email"], "customer_id", "u-unheard-of")

    assert said.verdict(nobody).no_consent == 1


@given(
    st.integers(1_500_000_000_000, 2_000_000_000_000),
    st.sampled_from(
        ("Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Kathmandu")
    ),
    st.sampled_from((WINDOW_HOUR, WINDOW_DAY, WINDOW_WEEK, WINDOW_MONTH)),
)
@example(1_541_300_400_000, "America/Sao_Paulo", WINDOW_DAY)  # its midnight was left out
@example(1_775_315_400_000, "Australia/Lord_Howe", WINDOW_HOUR)  # half an hour back, ten minutes ago
def test_days_begin_where_those_of_the_reference_do(time_ms: int, zone: str, window: int) -> None:
    assert period_start_ms(time_ms, zone, window) == history.period_start_ms(time_ms, zone, window)


def test_no_consent_must_have_been_given_where_silence_is_consent(tmp_path: Path) -> None:
    def needed(more: str) -> int:
        (tmp_path / "p.toml").write_text(POLICY + more)
        return len(rules_of(load_policies([tmp_path], secret=secret(), native=False)).consents)

    silence = '[[purposes]]\nid = "marketing"\nunknown = "granted"\n'
    assert needed("") > needed(silence) > needed(silence + silence.replace("marketing", "service")) == 0


# --- lines of messages, without a broker ---------------------------------------------------------------------


def record(value: bytes, *headers: tuple[str, bytes]) -> Record:
    return Record("t", 0, 0, 0, None, value, headers)


def test_lines_of_messages() -> None:
    assert [line.line for line in lines_of(record(b'{"a":\n1}'), "json")] == [b'{"a": 1}']
    many = b'[{"a":[1,\n2]}, {"b":"]"}]'
    assert [line.line for line in lines_of(record(many), "many")] == [b'{"a":[1, 2]}', b'{"b":"]"}']
    assert [line.line for line in lines_of(record(b'{"a":1}\n\n{"b":2}\n'), "auto")] == [
        b'{"a":1}',
        b'{"b":2}',
    ]
    headers = (("ce_id", b'"7"'), ("ce_type", b"page"), ("content-type", b"application/json"))
    [line] = lines_of(record(b'{"userId":"u"}', *headers), "auto")
    assert line.line == b'{"specversion":"1.0","id":"\\"7\\"","type":"page","data":{"userId":"u"}}'
    assert line.raw == b'{"userId":"u"}'
    assert [line.line for line in lines_of(record(b"[1, oops"), "many")] == [b"[1, oops"]


def view(number: int, who: dict[str, str], **more: str) -> Line:
    fields = {"id": str(number), "type": "page", "time": "2026-03-02T08:00:00Z", **who, **more}
    line = msgspec.json.encode(fields)
    return Line(line, line, 1_772_438_400_000)


def test_whose_order_is_uncertain() -> None:
    ana, ben, eve = ({"userId": name} for name in ("ana", "ben", "eve"))
    visitor = {"anonymousId": "visitor"}
    known = view(5, {**ben, **visitor}, type="identify")
    early = view(6, eve, time="2026-03-02T08:06:00Z")
    input_ = Input({"a": [view(1, ana), view(2, ben), known], "b": [view(3, visitor), view(4, eve), early]})
    input_.study()
    assert input_.unordered == {"ben", "visitor", "eve"}
    assert input_.customers == 3


def verifier(said: Said, prefix: str, *more: str, inputs: int = 3) -> subprocess.CompletedProcess[str]:
    kafka = said.settings.kafka
    command = [sys.executable, "-m", "tests.kafka.verifier", "--brokers", kafka.brokers, "--prefix", prefix]
    command += ["--policies", said.settings.policies[0], *more, "--inputs"]
    command += [f"{topic.name}:{topic.form}" for topic in kafka.topics[:inputs]]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_verifier_is_a_process_of_its_own(said: Said) -> None:
    prefix = said.settings.kafka.prefix
    right = verifier(said, prefix, "--engine")
    assert right.returncode == 0, right.stdout + right.stderr
    wrong = verifier(said, prefix, "--engine", inputs=2)
    assert wrong.returncode == 1, wrong.stdout + wrong.stderr
    assert "a wrong decision" in wrong.stdout


def test_faults_planted_in_the_topics_are_found(said: Said) -> None:
    """A copy of all that was said, in which one action is missing, one stands twice and one is altered."""
    kafka = said.settings.kafka
    copy = msgspec.structs.replace(kafka, prefix=f"copy-{kafka.prefix}")
    make_topics(copy, CHANNELS, partitions=2)
    producer = Producer({"bootstrap.servers": kafka.brokers})
    emails = 0
    for record in read_topics(kafka.brokers, [topic.name for topic in plan(kafka, CHANNELS, inputs=())]):
        value, times = record.value, 1
        is_mail = record.topic == f"{kafka.prefix}email"
        if is_mail and msgspec.json.decode(value)["kind"] == "action":
            emails += 1
            times = {5: 0, 6: 2}.get(emails, 1)
            if emails == 7:
                value = msgspec.json.encode({**msgspec.json.decode(value), "product_id": "p-other"})
        for _ in range(times):
            producer.produce(f"copy-{record.topic}", value, record.key, record.partition)
    producer.flush()
    assert emails > 7
    found = verifier(said, copy.prefix)
    assert found.returncode == 1, found.stdout + found.stderr
    [email] = [line.split() for line in found.stdout.splitlines() if line.startswith("email")]
    # the log says that the missing one was sent: once more missing
    assert email == ["email", str(emails), "2", "1", "1", "0"], found.stdout
    assert {line.split()[0]: line.split()[2:] for line in found.stdout.splitlines()[2:-1]}["web"] == ["0"] * 4
