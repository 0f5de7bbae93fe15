"""A broker that is away: briefly, and the engine waits; for longer, and it ends, is started again and goes on exactly.
Or it stands still: what goes out at once is sent again, and a stop does not wait for it.

The long one takes minutes: python -m pytest -m long tests/kafka/test_engine_outage.py
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.kafka.broker import Broker
from segue.chaos.engine import STOP_S_MAX
from segue.run.stop import FAILED
from segue.sinks.kafka.lane import Lane
from segue.sinks.kafka.tail import prepare_outputs
from tests.brokers import have_broker
from tests.kafka.engines import Deployment, consent, event, make_topics, now_ms
from tests.kafka.lanes import LANES, NAMES, item, settings_of, topic_names, visible, visible_soon
from tests.kafka.slow_lanes import SAYS

LATENESS_MS = 8_000  # there is time to kill the broker before anything is due
WAIT_MS = 2_000  # of a cart, in the policies
CHANNELS = ("web", "till", "email")


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that goes and comes back."""
    have_broker()
    own = Broker(tmp_path_factory.mktemp("fragile") / "broker").create(port=0)
    try:
        yield own.start(dies_with_parent=True)
    finally:
        own.kill()
        own.wipe()


@pytest.mark.parametrize("pause_s", [1, 4, 6])
def test_lanes_ride_out_a_broker_that_stands_still(fragile: Broker, pause_s: float) -> None:
    """For longer than a message that goes out at once may be under way, and than its lease: it is given back, while the
    transaction with its log row waits for it."""
    FAILED.clear()
    prefix = f"still-{pause_s}."
    make_topics(fragile.brokers, {prefix + name: LANES for name in {*NAMES, *CHANNELS}})
    settings = settings_of(fragile.brokers, prefix)
    tail = prepare_outputs(settings, {*topic_names(prefix), prefix + "till"}, {})
    lanes = [Lane(settings, number, tail) for number in range(LANES)]
    for lane in lanes:
        lane.snapshot()
    fragile.pause()
    try:
        back = time.monotonic() + pause_s
        number = 0
        while time.monotonic() < back:
            channel = CHANNELS[number // LANES % len(CHANNELS)]
            lanes[number % LANES].write([item(prefix, number, number % LANES, channel)])
            number += 1
            time.sleep(0.005)
    finally:
        fragile.resume()
    for lane in lanes:
        lane.snapshot()
        lane.close()
    wanted: dict[str, list[list[int]]] = {
        name: [[] for _ in range(LANES)] for name in ("decisions", *CHANNELS)
    }
    for each in range(number):
        wanted["decisions"][each % LANES].append(each)
        wanted[CHANNELS[each // LANES % len(CHANNELS)]][each % LANES].append(each)
    for name in ("decisions", "email"):  # both in transactions, whose marks come one by one
        assert visible_soon(settings, name, wanted[name]) == wanted[name], name
    for name in ("web", "till"):  # what went out at once may be there twice
        assert [sorted(set(each)) for each in visible(settings, name)] == wanted[name], name


@pytest.mark.parametrize(
    ("when", "processes"), [("preparing", 1), ("opening", 1), ("at work", 1), ("at work", 2)]
)
def test_a_stop_while_the_broker_stands_still(
    fragile: Broker, tmp_path: Path, when: str, processes: int
) -> None:
    """The engine gives the epoch up and ends; started again it has lost nothing."""
    prefix = f"stop-{when.replace(' ', '-')}-{processes}."
    engine = Deployment(fragile.brokers, prefix, tmp_path / "engine", program="tests.kafka.slow_lanes")
    try:
        engine.make_topics()
        engine.send([consent(f"c{n}", f"u{n}", now_ms()) for n in range(20)])
        engine.send(views("before", 20))
        process = engine.start("--processes", str(processes))
        if when == "preparing":
            engine.wait_for((engine.state / "run.json").exists)
        elif when == "opening":
            engine.wait_for(lambda: SAYS in engine.said())
        else:
            engine.wait_for_actions(20)
            engine.send(views("more", 20))
        fragile.pause()
        try:
            time.sleep(2)
            process.send(signal.SIGTERM)
            code = process.wait(STOP_S_MAX)
        finally:
            fragile.resume()
        said = engine.said()
        assert "Traceback" not in said
        if when == "preparing":
            assert code in (0, 128 + signal.SIGTERM), said  # nothing had begun
        else:
            assert code == 1, said
            assert "error: stop: the epoch under way could not be finished" in said
        engine.start()
        engine.send(views("again", 20))  # right is only an engine that has begun
        engine.judged()
        engine.stop()
    finally:
        engine.close()


@pytest.fixture(scope="module")
def deployment(fragile: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """An engine on it that has greeted twenty people. Tests go on with it, one after the other."""
    folder = tmp_path_factory.mktemp("outage")
    made = Deployment(fragile.brokers, "out.", folder, lateness_ms=LATENESS_MS).make_topics()
    try:
        made.send([consent(f"c{n}", f"u{n}", now_ms()) for n in range(20)])
        made.send(views("first", 40))
        made.start()
        made.wait_for_actions(20)
        yield made
    finally:
        made.close()


def views(name: str, count: int) -> list[dict[str, object]]:
    """Of twenty people."""
    return [
        event(f"{name}{n}", "Product Viewed", f"u{n % 20}", now_ms()) | {"product_id": "p"}
        for n in range(count)
    ]


def supervised(deployment: Deployment, said: list[str]) -> None:
    """What ended for want of a broker is started again, as whatever supervises it would."""
    assert deployment.engine is not None
    if deployment.engine.code is not None:
        said.append(deployment.said())
        assert deployment.engine.code == 1, said[-1]
        assert "error: " in said[-1]
        assert "Traceback" not in said[-1]
        deployment.start()


def judged(deployment: Deployment, due_ms: int | None = None) -> list[str]:
    """Exact, at the latest in a minute; what ended engines said meanwhile."""
    said: list[str] = []
    until = time.monotonic() + 60
    while not (verdict := deployment.verdict(due_ms)).ok:
        assert not verdict.beyond_repair, f"{verdict}\n{deployment.said()}"
        assert time.monotonic() < until, f"{verdict}\n{deployment.said()}"
        supervised(deployment, said)
        time.sleep(0.3)
    return said


def test_a_broker_that_is_killed_and_comes_back(deployment: Deployment, fragile: Broker) -> None:
    """Under load: the engine rides it out, or ends and goes on, depending on how long it took."""
    deployment.send(views("before", 400), wait=False)
    fragile.kill()
    deployment.send(views("meanwhile", 100), wait=False)
    fragile.start(dies_with_parent=True)
    deployment.flush()
    for text in judged(deployment):
        assert "did not answer in time" in text


def test_three_processes_whose_broker_is_killed(deployment: Deployment, fragile: Broker) -> None:
    """Under load, as one process is."""
    deployment.stop()
    one = deployment.options
    deployment.options = (*one, "--processes", "3")
    engine = deployment.start()
    before = len(deployment.records("decisions"))
    deployment.send(views("three", 300))
    deployment.wait_for(lambda: len(deployment.records("decisions")) > before)
    assert len(engine.family()) >= 4
    deployment.send(views("under-way", 300), wait=False)
    fragile.kill()
    deployment.send(views("no-broker", 100), wait=False)
    fragile.start(dies_with_parent=True)
    deployment.flush()
    for text in judged(deployment):
        assert "did not answer in time" in text
    deployment.options = one


def outage(deployment: Deployment, broker: Broker, seconds: float, name: str) -> None:
    """Carts are left, the broker goes before anything is due, customers buy, it comes back and hears of that."""
    people = [f"{name}{n}" for n in range(6)]
    added_ms = now_ms()
    carts = [
        event(f"a{p}", "Product Added", p, added_ms) | {"product_id": "p", "quantity": 1} for p in people
    ]
    deployment.send([consent(f"c{p}", p, now_ms(), "push") for p in people])
    deployment.send(carts)
    deployment.send([event(f"v{p}", "Product Viewed", p, now_ms()) | {"product_id": "p"} for p in people])
    deployment.wait_for(
        lambda: {p for a in deployment.actions("web") if (p := a["customer_id"])} >= set(people)
    )
    assert now_ms() < added_ms + WAIT_MS + LATENESS_MS, (
        "too slow: the carts were due before the broker was gone"
    )
    broker.kill()
    said: list[str] = []
    back = time.monotonic() + seconds
    while time.monotonic() < back:
        supervised(deployment, said)
        time.sleep(0.2)
    broker.start(dies_with_parent=True)
    assert "did not answer in time" in said[0]
    assert "start again" in said[0]
    # the clock stood still: these orders come before what was due long ago
    bought = people[:3]
    deployment.send([event(f"o{p}", "Order Completed", p, added_ms + 1_000) for p in bought])
    supervised(deployment, said)
    assert "waiting" in "".join(said) + deployment.said()
    judged(deployment, due_ms=added_ms + WAIT_MS + 1)
    reminded = {a["customer_id"] for a in deployment.actions("push")}
    assert reminded & set(people) == set(people) - set(bought)


def test_a_broker_that_is_away_for_ten_seconds_and_more(deployment: Deployment, fragile: Broker) -> None:
    outage(deployment, fragile, 13, "ten")


@pytest.mark.long
def test_a_broker_that_is_away_for_two_minutes(deployment: Deployment, fragile: Broker) -> None:
    outage(deployment, fragile, 120, "two")
