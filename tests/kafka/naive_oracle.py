"""The naive reference as the verifier's oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from segue.chaos.oracle import ARRIVAL_MS
from segue.chaos.verify import Expected
from segue.limits import FUTURE_MS_MAX
from segue.settings import Settings, secret
from tests.reference import engine
from tests.reference.compare import (
    ActionRow,
    ChangeRow,
    CreditRow,
    DecisionRow,
    WithdrawnRow,
    action_rows,
    change_rows,
    credit_rows,
    decision_rows,
    expected_actions,
    expected_changes,
    expected_credits,
    expected_decisions,
    expected_withdrawn,
    withdrawn_rows,
)
from tests.reference.consent import run_watched
from tests.reference.decoding import DecodeSettings, decode, looking_into
from tests.reference.oracle import policy_texts
from tests.reference.policies import read_policies
from tests.reference.tables import read_tables


class NaiveOracle:
    """Decides with tests/reference: shares no code with the engine that it judges."""

    def __init__(self, settings: Settings) -> None:
        self._chosen = engine.Settings(
            secret=secret(),
            retention_ms=settings.retention_ms,
            rate_events_per_minute_max=settings.rate_per_minute_max,
            quarantine_ms=settings.quarantine_ms,
            lateness_ms=settings.lateness_ms,
            timezone=settings.timezone,
        )
        self._policies = read_policies(
            policy_texts(settings.policies), self._chosen.secret, settings.currency
        )
        self._tables = read_tables(settings.tables)
        decoding = DecodeSettings(ARRIVAL_MS - FUTURE_MS_MAX, settings.currency, settings.lateness_ms)
        self._decoding = looking_into(decoding, self._policies.fields)

    def decide(
        self, partitions: Sequence[Sequence[bytes]], due_ms: int, may_ms: int
    ) -> tuple[Expected, Expected]:
        """See segue.chaos.verify.Oracle."""
        payloads = [b"\n".join(lines) for lines in partitions]
        decoded = decode(payloads, self._decoding)
        reference = engine.Reference(self._policies, self._chosen, self._tables)
        run_watched(reference, decoded.events, due_ms - 1)
        must = _expected(reference)
        reference.finish(may_ms - 1)
        may = _expected(reference)
        for expected in (must, may):
            expected.dead = len(decoded.dead)
            for late in decoded.late:
                expected.late[partitions[late.partition][late.line]] += 1
        return must, may

    def action(self, message: Mapping[str, Any]) -> ActionRow:
        """What the reference knows of an action."""
        return next(iter(action_rows([message])))

    def withdrawn(self, message: Mapping[str, Any]) -> WithdrawnRow:
        """All but the policy's version."""
        return next(iter(withdrawn_rows([message])))

    def decision(self, row: Mapping[str, Any]) -> DecisionRow:
        """All but the sampled numbers."""
        return next(iter(decision_rows([row], self._policies.journeys)))

    def change(self, row: Mapping[str, Any]) -> ChangeRow:
        """All of it."""
        return next(iter(change_rows([row])))

    def credit(self, row: Mapping[str, Any]) -> CreditRow:
        """All of it."""
        return next(iter(credit_rows([row])))


def _expected(reference: engine.Reference) -> Expected:
    return Expected(
        actions={row.decision_id: (row.channel, row) for row in expected_actions(reference)},
        withdrawn={row.action_id: (row.channel, row) for row in expected_withdrawn(reference)},
        decisions={row.decision_id: row for row in expected_decisions(reference)},
        changes=expected_changes(reference),  # type: ignore[arg-type]
        joins=expected_credits(reference),  # type: ignore[arg-type]
    )
