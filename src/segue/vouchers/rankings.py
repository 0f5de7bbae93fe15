"""What decisions ask of the ledger of vouchers, and what becomes of them by its answers.

Law: of a decision's winner and those that stand in for it one goes out at most: the best whose voucher is granted, or
the first without a voucher of a campaign. Afterwards the log says of those before it BUDGET, of those behind it
OUTSCORED, and the winner is who goes out; if nobody does, there is none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from segue.decide.decisions import Decisions, Grants
from segue.policy.compiled import CompiledPolicies
from segue.vouchers.keys import Keyring
from segue.vouchers.ledger import VoucherLedger
from segue_kernels import ledger as layout
from segue_kernels.ledger import GRANT_WORDS
from segue_kernels.plan import OFFER_CAMPAIGN
from segue_kernels.receipt import ANONYMOUS_PART
from segue_kernels.record import CUSTOMER_HI, CUSTOMER_LO
from segue_kernels.shard import (
    ACTION_LOG,
    ACTION_OFFER,
    ACTION_RANKING,
    BUDGET,
    LOG_DECISION_HI,
    LOG_DECISION_LO,
    LOG_NOW,
    LOG_REASONS,
    LOG_RECORD,
    LOG_WINNER,
    OUTSCORED,
    RANKING_BITS,
    SPAN_ACTIONS_END,
    SPAN_PART,
    WON,
)

Words = npt.NDArray[np.int64]

_BEHIND = (1 << RANKING_BITS) - 1


@dataclass(frozen=True, slots=True)
class Rankings:
    """What one Decisions asks: requests[starts[r]:starts[r + 1]] are those of ranking r, the best first.

    requests  int64[n, GRANT_WORDS]; G_CAMPAIGN is the number of a campaign in the policies
    starts    int64[rankings + 1]
    parts     int64[rankings]: numbers of the parts of the state that ask (segue_kernels/receipt.py)
    """

    requests: Words
    starts: Words
    parts: Words


@dataclass(frozen=True, slots=True)
class Granted:
    """The ledger's answer to Rankings, by ranking.

    taken       which of its requests was granted, -1 = none
    codes       as people get them, "" = none; expires_ms UTC
    changes     what the ledger changed, int64[n, CHANGE_WORDS], and the ranking that each belongs to
    """

    taken: Words
    codes: list[str]
    expires_ms: Words
    changes: Words
    of: Words


class Asking:
    """Asks for decisions of one set of policies."""

    def __init__(self, policies: CompiledPolicies) -> None:
        self._campaigns = policies.offers[:, OFFER_CAMPAIGN] - 1
        self._currencies = np.array([info.terms.currency for info in policies.campaign_infos], np.int64)

    def rankings(self, decisions: Decisions) -> Rankings | None:
        """What these decisions ask; None if nothing."""
        rows = np.flatnonzero(decisions.actions[:, ACTION_RANKING])
        campaigns = self._campaigns[decisions.actions[rows, ACTION_OFFER]]
        firsts = np.array(_firsts(decisions.actions[rows, ACTION_RANKING]), np.int64)
        if not len(firsts):
            return None
        asks = campaigns >= 0
        starts = np.append(np.cumsum(asks)[firsts] - 1, asks.sum())  # the first of each ranking asks
        asking = rows[asks]
        log = decisions.log[decisions.actions[asking, ACTION_LOG]]
        requests = np.zeros((len(asking), GRANT_WORDS), np.int64)
        requests[:, layout.G_CAMPAIGN] = campaigns[asks]
        who = decisions.records[log[:, LOG_RECORD]]
        requests[:, [layout.G_CUSTOMER_LO, layout.G_CUSTOMER_HI]] = who[:, [CUSTOMER_LO, CUSTOMER_HI]]
        requests[:, [layout.G_DECISION_LO, layout.G_DECISION_HI]] = log[:, [LOG_DECISION_LO, LOG_DECISION_HI]]
        requests[:, layout.G_NOW] = log[:, LOG_NOW]
        requests[:, layout.G_CURRENCY] = self._currencies[campaigns[asks]]
        spans = np.searchsorted(decisions.spans[:, SPAN_ACTIONS_END], rows[firsts], side="right")
        return Rankings(requests, starts, decisions.spans[spans, SPAN_PART])

    def settled(self, decisions: Decisions, granted: Granted | None) -> Decisions:
        """The decisions as they go out; None where nothing was asked."""
        if granted is None:
            return decisions
        actions, log, reasons = decisions.actions, decisions.log.copy(), decisions.reasons.copy()
        rows = np.flatnonzero(actions[:, ACTION_RANKING])
        words = actions[rows, ACTION_RANKING]
        places = (words >> RANKING_BITS) - 1
        firsts = _firsts(words)
        keeps = np.ones(len(actions), np.bool_)
        keeps[rows] = False
        goes_out = np.full(len(firsts), -1, np.int64)  # its row of `actions`
        for ranking, (first, end, taken) in enumerate(
            zip(firsts, [*firsts[1:], len(rows)], granted.taken.tolist(), strict=True)
        ):
            decision = actions[rows[first], ACTION_LOG]
            if taken < 0:  # the last goes out if it asks for nothing
                last = end - 1
                taken = (
                    last - first if self._campaigns[actions[rows[last], ACTION_OFFER]] < 0 else end - first
                )
            at = log[decision, LOG_REASONS] + places[first:end]
            reasons[at[:taken]] = BUDGET
            reasons[at[taken + 1 :]] = OUTSCORED
            log[decision, LOG_WINNER] = -1
            if first + taken < end:
                row = rows[first + taken]
                reasons[at[taken]] = WON
                log[decision, LOG_WINNER] = actions[row, ACTION_OFFER]
                keeps[row] = True
                goes_out[ranking] = row
        kept_before = np.append(0, np.cumsum(keeps))
        spans = decisions.spans.copy()
        spans[:, SPAN_ACTIONS_END] = kept_before[spans[:, SPAN_ACTIONS_END]]
        heads = rows[np.array(firsts, np.int64)[granted.of]]
        has_code = granted.taken >= 0
        with_codes = np.flatnonzero(has_code)
        return replace(
            decisions,
            log=log,
            reasons=reasons,
            actions=actions[keeps],
            numbers=decisions.numbers[keeps],
            spans=spans,
            grants=Grants(
                actions=kept_before[goes_out[has_code]],
                codes=[granted.codes[ranking] for ranking in with_codes.tolist()],
                expires_ms=granted.expires_ms[has_code],
                changes=granted.changes,
                spans=np.searchsorted(decisions.spans[:, SPAN_ACTIONS_END], heads, side="right"),
            ),
        )


def _firsts(words: Words) -> list[int]:
    """Where rankings begin in the ACTION_RANKING words of their rows."""
    behind = (words & _BEHIND).tolist()
    firsts = []
    at = 0
    while at < len(behind):
        firsts.append(at)
        at += 1 + behind[at]
    return firsts


class Answering:
    """The owner of the ledger, and what it answers.

    changes  what the ledger has changed before, int64[n, CHANGE_WORDS]; none: it begins
    lanes    of the outputs: what stands in one of them comes in its order
    """

    def __init__(self, policies: CompiledPolicies, keyring: Keyring, changes: Words, lanes: int = 1) -> None:
        infos = policies.campaign_infos
        self.ledger = VoucherLedger.rebuild([info.terms for info in infos], keyring, changes)
        self._numbers = np.array([self.ledger.campaign(info.id) for info in infos], np.int64)
        self._lanes = lanes
        self._told: set[int] = set()  # lanes that know the numbers of the campaigns

    def answer(self, rankings: Rankings) -> Granted:
        """Grant what there is, in the order of the rankings."""
        requests = rankings.requests.copy()
        requests[:, layout.G_CAMPAIGN] = self._numbers[requests[:, layout.G_CAMPAIGN]]
        taken, answered = self.ledger.issue_best(requests, rankings.starts)
        got = np.flatnonzero(taken >= 0)
        answers = answered.answers[rankings.starts[got] + taken[got]]
        codes = [""] * len(taken)
        for ranking, code in zip(got.tolist(), self.ledger.texts(answers[:, layout.A_ROW]), strict=True):
            codes[ranking] = code
        expires_ms = np.zeros(len(taken), np.int64)
        expires_ms[got] = answers[:, layout.A_EXPIRES]
        of = got[answers[:, layout.A_REASON] == layout.OK]
        changes, of = self._with_campaigns(answered.changes, of, rankings.parts)
        return Granted(taken, codes, expires_ms, changes, of)

    def _with_campaigns(self, changes: Words, of: Words, parts: Words) -> tuple[Words, Words]:
        """The changes, and before the first of each lane since the start which numbers the campaigns have: nobody can
        read a voucher back who does not know that."""
        lanes = parts[of] % ANONYMOUS_PART % self._lanes
        firsts = {
            lane: at for at, lane in reversed(list(enumerate(lanes.tolist()))) if lane not in self._told
        }
        for at in sorted(firsts.values(), reverse=True):
            told = self.ledger.changes()
            changes = np.concatenate([changes[:at], told, changes[at:]])
            of = np.concatenate([of[:at], np.full(len(told), of[at]), of[at:]])
        self._told.update(firsts)
        return changes, of
