"""Decisions whose offers have vouchers of campaigns ask the one ledger, and go out as it answers; others as they come.

A worker's decisions wait here for those before them, so they go out in their order. The ledger's answers belong to the
epoch of the requests: none waits when an epoch is saved, and nothing is saved here. The ledger itself is what its
changes say, which go out with the decisions.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import bytewax.operators as op
import numpy as np
import numpy.typing as npt
from bytewax.dataflow import Stream
from bytewax.operators import KeyedStream, StatefulBatchLogic

from segue.checkpoints.recovered import Recovered
from segue.decide.decisions import Decisions
from segue.errors import SettingsError
from segue.flow.items import ANONYMOUS, KNOWN, shard_label
from segue.policy.compiled import CompiledPolicies
from segue.settings import Settings, secret
from segue.summary import Part
from segue.vouchers.keys import load_keys
from segue.vouchers.rankings import Answering, Asking, Granted, Rankings
from segue_kernels.plan import OFFER_CAMPAIGN
from segue_kernels.receipt import ANONYMOUS_PART
from segue_kernels.shard import ACTION_OFFER, ACTION_RANKING, SPAN_PART

_LEDGER = "ledger"  # the key of its owner
_RETAIN = StatefulBatchLogic.RETAIN


@dataclass(frozen=True, slots=True)
class _Held:
    """Decisions of a worker in their order, by number from 0 on. asks: whether an answer is to come."""

    number: int
    decisions: Decisions
    asks: bool


@dataclass(frozen=True, slots=True)
class _Request:
    """home: the key under which the decisions wait."""

    home: str
    number: int
    rankings: Rankings


@dataclass(frozen=True, slots=True)
class _Answer:
    home: str
    number: int
    granted: Granted


class _Home:
    """A worker's place for what waits: a key that a part of the state has there, which Bytewax brings back there."""

    def __init__(self, part: int) -> None:
        prefix = ANONYMOUS if part >= ANONYMOUS_PART else KNOWN
        self.key = shard_label(prefix, part % ANONYMOUS_PART)
        self.count = 0


def grant(
    decided: Stream[Any], policies: CompiledPolicies, settings: Settings, recovered: Recovered
) -> Stream[Any]:
    """The decisions as they go out, with the vouchers granted. Raises SettingsError: a campaign has no key."""
    if not policies.campaign_infos:
        return decided
    if settings.kafka.brokers:
        _check_deliveries(policies, settings)
    lanes = settings.kafka.lanes if settings.kafka.brokers else 1
    keyring = load_keys(secret())
    for info in policies.campaign_infos:
        keyring.keys(info.id)
    asking = Asking(policies)
    homes: dict[int, _Home] = {}  # by thread

    def ask(items: list[Any]) -> Iterable[tuple[str, Any]]:
        for item in items:
            if not isinstance(item, Decisions):
                yield "", item
                continue
            thread = threading.get_ident()
            if thread not in homes:
                homes[thread] = _Home(int(item.spans[0, SPAN_PART]))
            home = homes[thread]
            rankings = asking.rankings(item)
            yield home.key, _Held(home.count, item, rankings is not None)
            if rankings is not None:
                yield home.key, _Request(home.key, home.count, rankings)
            home.count += 1

    asked = op.flat_map_batch("ask", decided, ask)

    def only(kind: type) -> KeyedStream[Any]:
        def chosen(items: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
            return [
                (_LEDGER if kind is _Request else key, item) for key, item in items if isinstance(item, kind)
            ]

        return op.flat_map_batch(f"to_{kind.__name__.strip('_').lower()}", asked, chosen)

    answers = op.stateful_batch(
        "ledger",
        only(_Request),
        lambda _: _LedgerLogic(Answering(policies, keyring, _changes(settings, recovered), lanes)),
    )

    def home_again(items: list[tuple[str, _Answer]]) -> list[tuple[str, _Answer]]:
        return [(answer.home, answer) for _, answer in items]

    held = op.merge("held", only(_Held), op.flat_map_batch("answered", answers, home_again))
    settled = op.stateful_batch("settle", held, lambda _: _HeldLogic(asking))

    def plain(items: list[tuple[str, Any]]) -> list[Any]:
        return [item for _, item in items]

    return op.merge(
        "granted",
        op.flat_map_batch("settled", settled, plain),
        op.flat_map_batch("beside", only(Part), plain),
    )


def _check_deliveries(policies: CompiledPolicies, settings: Settings) -> None:
    """A code that somebody gets must be in the ledger: both become visible together, or neither does."""
    for offer, row in zip(policies.offer_infos, policies.offers, strict=True):
        if row[OFFER_CAMPAIGN] and settings.kafka.delivery_of(offer.channel) != "transactional":
            journey = policies.journey_infos[offer.journey]
            raise SettingsError(
                "start",
                f"the offer `{offer.id}` of the journey `{journey.id}` has a voucher of a campaign, and the channel "
                f"{offer.channel} is idempotent",
                f"vouchers go out in transactions: --delivery {offer.channel}=transactional, or another channel",
            )


def _changes(settings: Settings, recovered: Recovered) -> npt.NDArray[np.int64]:
    """All that the ledger has changed before. Of topics it is read when all that wrote to them before are fenced."""
    if not settings.kafka.brokers:
        return recovered.ledger_changes()
    from segue.sinks.kafka.ledger import read_ledger

    return read_ledger(settings.kafka)


class _LedgerLogic(StatefulBatchLogic[_Request, _Answer, None]):
    """The owner of the ledger. Its state is what goes out: nothing of it is saved here."""

    def __init__(self, owner: Answering) -> None:
        self._owner = owner

    def on_batch(self, values: list[_Request]) -> tuple[list[_Answer], bool]:
        answers = [_Answer(each.home, each.number, self._owner.answer(each.rankings)) for each in values]
        return answers, _RETAIN

    def snapshot(self) -> None:
        return None


class _HeldLogic(StatefulBatchLogic["_Held | _Answer", Any, None]):
    """A worker's decisions that wait for answers, and those behind them."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self._waiting: deque[_Held] = deque()
        self._answers: dict[int, Granted] = {}

    def on_batch(self, values: list[_Held | _Answer]) -> tuple[list[Any], bool]:
        for value in values:
            if isinstance(value, _Held):
                self._waiting.append(value)
            else:
                self._answers[value.number] = value.granted
        settled: list[Any] = []
        while self._waiting and not (self._waiting[0].asks and self._waiting[0].number not in self._answers):
            held = self._waiting.popleft()
            granted = self._answers.pop(held.number, None)
            decisions = self._asking.settled(held.decisions, granted)
            settled.append(decisions)
            if granted is not None:
                settled.append(_counted(decisions))
        return settled, _RETAIN

    def snapshot(self) -> None:
        assert not self._waiting, "every answer belongs to the epoch of its request"


def _counted(decisions: Decisions) -> Part:
    """The actions that stand for rankings, which were not counted where they were decided."""
    rows = decisions.actions[decisions.actions[:, ACTION_RANKING] != 0]
    offers, counts = np.unique(rows[:, ACTION_OFFER], return_counts=True)
    return Part(offers=dict(zip(offers.tolist(), counts.tolist(), strict=True)))
