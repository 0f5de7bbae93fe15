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
    """An offer that competed for a slot. `policy`: name@version. Without numbers: the row was not sampled."""

    offer: str
    journey: str
    policy: str
    reason: str
    propensity: float | None = None
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


class _Offer(msgspec.Struct):
    id: str
    journey: int
    channel: str
    placement: str


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
        return [
            Candidate(
                offer=offer.id,
                journey=journey.id,
                policy=f"{journey.policy}@{journey.version}",
                reason=self.reasons[reason],
                propensity=row["propensities"][i] if row["propensities"] is not None else None,
                score=row["scores"][i] if row["scores"] is not None else None,
            )
            for i, ((journey, offer), reason) in enumerate(zip(among, reasons, strict=True))
        ]


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
