"""What the naive ledger grants for the decisions of the reference, asked in a given order."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace

from segue.vouchers.keys import Keyring
from segue_kernels.codes import CODE_MASK
from tests.reference.compare import decision_id
from tests.reference.engine import OUTSCORED, WON, Candidate, Ranking, Reference
from tests.reference.hashing import decision_hash, key_hash, signed
from tests.vouchers.naive_ledger import NaiveLedger, Said

BUDGET = 14


def ids_of(reference: Reference) -> list[str]:
    """The decisions that ask, as outputs show them."""
    return [_id_of(reference, ranking) for ranking in reference.rankings]


def grant_all(reference: Reference, keyring: Keyring, order: Sequence[str]) -> dict[str, Said]:
    """Bring decisions and actions to what the ledger makes of them; what it granted by decision.

    order  the decisions that ask, in the order in which they do: one whose event came again after long asks again
    """
    ledger = NaiveLedger(reference.policies.campaigns, keyring, CODE_MASK)
    asking: dict[str, deque[Ranking]] = {}
    for ranking in reference.rankings:
        asking.setdefault(_id_of(reference, ranking), deque()).append(ranking)
    assert Counter(order) == {one: len(rankings) for one, rankings in asking.items()}
    granted: dict[str, Said] = {}
    gone: set[int] = set()
    for one in order:
        ranking = asking[one].popleft()
        place, said = _ask(reference, ledger, ranking)
        if said is not None:
            granted[one] = said
        _settle(reference, ranking, place)
        if place == len(ranking.actions):
            gone.add(ranking.action)
    reference.actions = [action for at, action in enumerate(reference.actions) if at not in gone]
    reference.rankings.clear()
    return granted


def _id_of(reference: Reference, ranking: Ranking) -> str:
    action = ranking.actions[0]
    return decision_id(action.customer, action.message, action.slot, reference.settings.secret)


def _ask(reference: Reference, ledger: NaiveLedger, ranking: Ranking) -> tuple[int, Said | None]:
    """Which of the ranking goes out, as many as it has if none does; and what was granted."""
    secret = reference.settings.secret
    first = ranking.actions[0]
    who = key_hash(first.customer, secret)
    low, high = decision_hash(who, first.message, "/".join(first.slot), secret)
    decision = signed(low), signed(high)
    for place, campaign in enumerate(ranking.campaigns):  # what was granted before stands
        for voucher in ledger.of(campaign):
            if voucher.decision == decision:
                return place, Said("again", voucher.text)
    for place, (action, campaign) in enumerate(zip(ranking.actions, ranking.campaigns, strict=True)):
        if not campaign:
            return place, None
        currency = ledger.terms[campaign].currency
        said = ledger.grant(campaign, (signed(who[0]), signed(who[1])), decision, action.time_ms, 0, currency)
        if said.reason == "ok":
            assert ledger.issue(said.text, action.time_ms) == "ok"
            return place, said
    return len(ranking.actions), None


def _settle(reference: Reference, ranking: Ranking, place: int) -> None:
    decision = reference.decisions[ranking.decision]
    ranks = {(action.journey, action.offer): at for at, action in enumerate(ranking.actions)}

    def reason(candidate: Candidate) -> int:
        at = ranks.get((candidate.journey, candidate.offer))
        if at is None:
            return candidate.reason
        return BUDGET if at < place else WON if at == place else OUTSCORED

    candidates = tuple(replace(candidate, reason=reason(candidate)) for candidate in decision.candidates)
    winner = next((candidate for candidate in candidates if candidate.reason == WON), None)
    reference.decisions[ranking.decision] = replace(decision, candidates=candidates, winner=winner)
    if place < len(ranking.actions):
        reference.actions[ranking.action] = ranking.actions[place]
