"""Rows of the decision log taken apart: each candidate of a slot with its reason and, where the row was sampled, its
numbers.

A row lists the journeys that fired and one reason byte a candidate; who the candidates are follows from the names in
the schema (segue.actions.log).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import msgspec
import pyarrow as pa

from segue.errors import SegueError

STEP = "explain"


class Candidate(msgspec.Struct, frozen=True):
    """An offer that competed for a slot. `policy`, `model`: name@version; "" = it has no model.

    Without numbers (score = propensity x context x value x lever): the row was not sampled, or something forbade the
    offer before it was scored.
    """

    offer: str
    journey: str
    policy: str
    reason: str
    model: str
    propensity: float | None = None
    context: float | None = None
    value: float | None = None
    lever: float | None = None
    score: float | None = None


class Decision(msgspec.Struct, frozen=True):
    """What was decided about one slot. `winner`: the offer that goes out, None = nothing does."""

    decision_id: str
    customer_id: str
    time_ms: int
    causation_id: str | None
    channel: str
    placement: str
    winner: str | None
    candidates: list[Candidate]


class _Journey(msgspec.Struct):
    id: str
    policy: str
    version: int
    model: str


class _Offer(msgspec.Struct):
    id: str
    journey: int
    channel: str
    placement: str
    value: float
    lever: float


class _Names:
    """What the numbers of a log mean."""

    def __init__(self, metadata: dict[bytes, bytes]) -> None:
        try:
            self.journeys = msgspec.json.decode(metadata[b"segue.journeys"], type=list[_Journey])
            offers = msgspec.json.decode(metadata[b"segue.offers"], type=list[_Offer])
            self.reasons = msgspec.json.decode(metadata[b"segue.reasons"], type=list[str])
        except (KeyError, msgspec.MsgspecError) as error:
            raise SegueError(
                STEP,
                f"this is no decision log: its schema lacks the names ({error})",
                "decisions.arrows of a run, or the topic of decisions",
            ) from error
        self.offers: list[list[_Offer]] = [[] for _ in self.journeys]
        for offer in offers:
            self.offers[offer.journey].append(offer)

    def candidates(self, row: dict[str, Any]) -> list[Candidate]:
        slot = row["channel"], row["placement"]
        among = [
            (self.journeys[journey], offer)
            for journey in row["journeys"]
            for offer in self.offers[journey]
            if (offer.channel, offer.placement) == slot
        ]
        reasons = row["reasons"]
        if len(reasons) != len(among):
            raise SegueError(
                STEP,
                f"decision {row['decision_id']} has {len(reasons)} reasons for {len(among)} candidates",
                "the log is damaged",
            )
        found = []
        for i, ((journey, offer), reason) in enumerate(zip(among, reasons, strict=True)):
            policy = f"{journey.policy}@{journey.version}"
            candidate = Candidate(offer.id, journey.id, policy, self.reasons[reason], journey.model)
            if row["scores"] is not None and row["propensities"][i] > 0:  # a logistic one is never 0
                candidate = msgspec.structs.replace(
                    candidate,
                    propensity=row["propensities"][i],
                    context=row["contexts"][i],
                    value=offer.value,
                    lever=offer.lever,
                    score=row["scores"][i],
                )
            found.append(candidate)
        return found


@lru_cache(maxsize=64)
def _names(metadata: tuple[tuple[bytes, bytes], ...]) -> _Names:
    return _Names(dict(metadata))


def decisions_of(batch: pa.RecordBatch | pa.Table) -> Iterator[Decision]:
    """The rows of a batch of the log. Raises SegueError if it is none."""
    names = _names(tuple(sorted((batch.schema.metadata or {}).items())))
    for row in batch.to_pylist():
        yield Decision(
            decision_id=row["decision_id"],
            customer_id=row["customer_id"],
            time_ms=round(row["time"].timestamp() * 1_000),
            causation_id=row["causation_id"],
            channel=row["channel"],
            placement=row["placement"],
            winner=row["winner"],
            candidates=names.candidates(row),
        )
