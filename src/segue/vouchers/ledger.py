"""The ledger of vouchers, the only owner of budgets and codes: batches in, answers and changes out.

Law: never over a budget or a limit, redeemed at most once, to the cent; asked again it answers the same and charges
nothing; and from its changes it can be rebuilt (`rebuild`) such that it answers as it would have.

Every call that changes something returns the changes, int64[n, CHANGE_WORDS], for a compacted topic (change_keys).
They must be durable before the answers go out: what an answer says is then known to whoever comes after a crash.
Words of requests and answers, and the reasons, are named in segue_kernels.ledger.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from segue.errors import LimitError, SettingsError, StateError, did_you_mean
from segue.limits import CODE_HINTS_MAX, OWN_CODES_PER_CAMPAIGN_MAX, TYPED_CODE_BYTES_MAX, VOUCHERS_MAX
from segue.vouchers.answers import Answered, Passed
from segue.vouchers.arrays import new_ledger
from segue.vouchers.campaign import Terms
from segue.vouchers.codes import joined, near, printed
from segue.vouchers.declared import Declared
from segue.vouchers.keys import Keyring
from segue.vouchers.reasons import REASON_NAMES
from segue.vouchers.sums import Sums, check_sums, sums_of
from segue_kernels import ledger as layout
from segue_kernels.codes import CODE_MASK, FOLDED_BYTES, SYMBOLS
from segue_kernels.ledger import (
    ANSWER_WORDS,
    CHANGE_KIND,
    CHANGE_WORDS,
    GRANT_WORDS,
    REDEEM_WORDS,
    Ledger,
)
from segue_kernels.ledger_grant import grant, grant_rankings
from segue_kernels.ledger_rebuild import count_vouchers, import_codes, link_free, take_texts, take_vouchers
from segue_kernels.ledger_redeem import hintable, redeem
from segue_kernels.ledger_states import CANCEL, ISSUE, RELEASE, expire, pass_on

Words = npt.NDArray[np.int64]
_STEP = "rebuild the ledger"


class VoucherLedger:
    """One deployment's vouchers.

    terms     the campaigns; keyring the keys of their codes
    rows_max  vouchers there may be (an own code counts twice); code_mask the bits that codes have
    """

    def __init__(
        self,
        terms: Sequence[Terms],
        keyring: Keyring,
        *,
        rows_max: int = VOUCHERS_MAX,
        code_mask: int = CODE_MASK,
    ) -> None:
        if not 1 <= rows_max <= VOUCHERS_MAX:
            raise SettingsError("open the ledger", f"rows_max is {rows_max}", f"from 1 to {VOUCHERS_MAX}")
        self._keyring = keyring
        self._declared = Declared()
        self._ledger, self._codes, self._holders = new_ledger(rows_max, code_mask)
        self._symbols = np.zeros(SYMBOLS + 2, np.int64)
        self._folded = np.zeros(FOLDED_BYTES, np.uint8)
        self._ledger = self._declared.declare(self._ledger, terms, keyring)

    def __repr__(self) -> str:
        return f"VoucherLedger({len(self._declared.numbers)} campaigns, {self.rows} rows)"

    @property
    def rows(self) -> int:
        """Rows in use."""
        return int(self._ledger.meta[layout.ROWS_USED])

    @property
    def arrays(self) -> Ledger:
        """What kernels take; it holds the keys, so it is for no log."""
        return self._ledger

    def campaign(self, name: str) -> int:
        """The number of a campaign in requests and answers, or -1."""
        return self._declared.number(name)

    def declare(self, terms: Sequence[Terms]) -> Words:
        """Take further campaigns, or bounds of known ones anew; PolicyError if a promise changed."""
        self._ledger = self._declared.declare(self._ledger, terms, self._keyring)
        return self._declared.changes(self._ledger, [campaign.name for campaign in terms])

    def use_keys(self, keyring: Keyring) -> None:
        """Make codes with these keys from now on; SettingsError if one is gone that codes may have been made with."""
        for name, number in self._declared.numbers.items():
            if self._declared.terms[number].own_codes:
                continue
            for key in self._keyring.keys(name):
                if key not in keyring.keys(name):
                    raise SettingsError(
                        "rotate the keys of vouchers",
                        f'campaign "{name}": the key of {key} is gone, or another one',
                        "add the new key and leave the old ones: codes that live were made with them",
                    )
        self._keyring = keyring
        self._ledger = self._declared.declare(self._ledger, (), keyring)

    def stop(self, name: str, *, codes_too: bool) -> Words:
        """Cancel a campaign: nothing more is granted; with `codes_too` what is out is not honoured either.

        Its vouchers keep their states until their time comes: what is held for them is held until then.
        """
        number = self._declared.number(name)
        if number < 0:
            raise SettingsError(
                "cancel a campaign",
                f'there is no campaign "{name}"',
                did_you_mean(name, tuple(self._declared.numbers)),
            )
        to = layout.STOPPED_CODES if codes_too else layout.STOPPED_GRANTS
        stopped = self._ledger.campaigns[number]
        stopped[layout.C_STOPPED] = max(to, int(stopped[layout.C_STOPPED]))
        return self._declared.changes(self._ledger, [name])

    def grant(self, requests: Words) -> Answered:
        """Answer requests, int64[n, GRANT_WORDS], in their order."""
        requests = _checked(requests, GRANT_WORDS)
        answers = np.empty((len(requests), ANSWER_WORDS), np.int64)
        changes = np.empty((len(requests), CHANGE_WORDS), np.int64)
        made = grant(self._ledger, requests, answers, changes)
        self._give_back()
        return Answered(answers, changes[:made])

    def issue_best(self, requests: Words, starts: Words) -> tuple[Words, Answered]:
        """Grant of each ranking at most one request, and issue it: its message goes out with the answer.

        requests int64[n, GRANT_WORDS], starts int64[rankings + 1] as segue_kernels.ledger_grant.grant_rankings has
        them; which request of each was granted, int64[rankings] (-1: none), and the answers to all requests.
        """
        requests = _checked(requests, GRANT_WORDS)
        answers = np.empty((len(requests), ANSWER_WORDS), np.int64)
        changes = np.empty((len(starts) - 1, CHANGE_WORDS), np.int64)
        taken = np.empty(len(starts) - 1, np.int64)
        made = grant_rankings(
            self._ledger, requests, np.ascontiguousarray(starts, np.int64), taken, answers, changes
        )
        self._give_back()
        # a voucher changes twice here, and only what it is in the end is told
        codes = changes[:made, CHANGE_KIND + 1 + layout.CODE]
        times_ms = changes[:made, CHANGE_KIND + 1 + layout.PACK] >> layout.GRANTED_SHIFT
        return taken, Answered(answers, self.issue(codes, times_ms).changes)

    def redeem(
        self,
        requests: Words,
        typed: Sequence[str | bytes],
        groups: Sequence[Sequence[int]] | None = None,
    ) -> Answered:
        """Answer redemptions, int64[n, REDEEM_WORDS], in their order.

        typed   what was typed or scanned; groups: hashes of the stacking groups of the basket's other vouchers
        """
        requests = _checked(requests, REDEEM_WORDS)
        text, offsets = joined(typed)
        group_offsets = np.zeros(len(requests) + 1, np.int64)
        group_words = np.zeros(0, np.int64)
        if groups is not None:
            np.cumsum([len(of_basket) for of_basket in groups], out=group_offsets[1:])
            group_words = np.array([group for of_basket in groups for group in of_basket], np.int64)
        if len(offsets) != len(group_offsets):
            raise ValueError("as many codes as requests")
        answers = np.empty((len(requests), ANSWER_WORDS), np.int64)
        changes = np.empty((len(requests), CHANGE_WORDS), np.int64)
        made = redeem(
            self._ledger,
            requests,
            text,
            offsets,
            TYPED_CODE_BYTES_MAX,
            group_words,
            group_offsets,
            self._symbols,
            self._folded,
            answers,
            changes,
        )
        return Answered(answers, changes[:made])

    def hints(self, typed: str | bytes, customer: tuple[int, int], now_ms: int) -> list[str]:
        """Codes that somebody may have meant who mistyped one: good at `now_ms`, and theirs if they are known ((0, 0):
        nobody knows), CODE_HINTS_MAX at most. None of a shop's own: those have no check character."""
        known = [
            code
            for code in near(typed).tolist()
            if hintable(self._ledger, code, customer[0], customer[1], now_ms)
        ]
        return printed(np.array(known[:CODE_HINTS_MAX], np.int64))

    def issue(self, codes: Words, times_ms: Words) -> Passed:
        """The messages with these codes (words A_CODE of answers) went out."""
        return self._pass_on(ISSUE, codes, times_ms)

    def release(self, codes: Words, times_ms: Words) -> Passed:
        """These codes were not used after all: what they charged goes back."""
        return self._pass_on(RELEASE, codes, times_ms)

    def cancel(self, codes: Words, times_ms: Words) -> Passed:
        """Honour these codes no longer."""
        return self._pass_on(CANCEL, codes, times_ms)

    def _pass_on(self, action: int, codes: Words, times_ms: Words) -> Passed:
        reasons = np.empty(len(codes), np.int64)
        changes = np.empty((len(codes), CHANGE_WORDS), np.int64)
        if len(codes) != len(times_ms):
            raise ValueError("as many times as codes")
        made = pass_on(
            self._ledger,
            action,
            np.ascontiguousarray(codes, np.int64),
            np.ascontiguousarray(times_ms, np.int64),
            reasons,
            changes,
        )
        return Passed(reasons, changes[:made])

    def expire(self, now_ms: int, rows_max: int) -> Words:
        """Let go of what ran out at `now_ms` or before, the earliest first, `rows_max` at most.

        Of equal times in any order, and what was overdue when it began to wait before everything else; a rebuilt
        ledger may choose another order of those.

        ValueError for a time beyond TIME_MS_MAX: what is granted later would never run out.
        """
        if now_ms > layout.TIME_MS_MAX:
            raise ValueError(f"{now_ms} ms is beyond {layout.TIME_MS_MAX}")
        changes = np.empty((rows_max, CHANGE_WORDS), np.int64)
        return changes[: expire(self._ledger, now_ms, changes)]

    def import_codes(self, name: str, texts: Sequence[str | bytes]) -> Passed:
        """Add a shop's own codes, each once, to the list of a campaign that has one."""
        number = self._declared.number(name)
        if number < 0 or not self._declared.terms[number].own_codes:
            raise SettingsError(
                "import codes", f'there is no campaign "{name}" with own_codes', "declare it with own_codes"
            )
        text, offsets = joined(texts)
        reasons = np.empty(len(texts), np.int64)
        changes = np.empty((2 * len(texts), CHANGE_WORDS), np.int64)
        made = import_codes(
            self._ledger,
            number,
            OWN_CODES_PER_CAMPAIGN_MAX,
            text,
            offsets,
            self._symbols,
            self._folded,
            reasons,
            changes,
        )
        self._give_back()
        return Passed(reasons, changes[:made])

    def texts(self, rows: Words) -> list[str]:
        """The codes of vouchers (words A_ROW of answers) as people get them; a shop's own as it wrote them.

        ValueError for the row of an answer that has none.
        """
        if len(rows) and int(rows.min()) < 0:
            raise ValueError("an answer without a voucher has no code")
        table = self._ledger.rows
        campaigns = table[rows, layout.PACK] & layout.CAMPAIGN_MASK
        own = self._ledger.campaigns[campaigns, layout.C_OWN] != 0
        out = printed(np.where(own, 0, table[rows, layout.CODE]))
        for place in np.flatnonzero(own).tolist():
            words = table[rows[place] + 1]
            data = words[layout.TEXT_BYTES : layout.TEXT_LENGTH].tobytes()
            out[place] = data[: words[layout.TEXT_LENGTH]].decode("ascii")
        return out

    def sums(self, name: str) -> Sums:
        """What a campaign has granted, held and spent."""
        return sums_of(self._ledger, self._declared.numbers[name])

    def check(self) -> None:
        """StateError unless every count and sum is that of the vouchers themselves: the invariant, over all of them."""
        check_sums(self._ledger, self._declared.numbers)

    def answered(self) -> dict[str, int]:
        """Answers given so far, by reason."""
        counts = self._ledger.answered.tolist()
        return {name: counts[reason] for reason, name in REASON_NAMES.items() if counts[reason]}

    def changes(self) -> Words:
        """The changes that say which numbers the campaigns have: the first in the topic."""
        return self._declared.changes(self._ledger, list(self._declared.numbers))

    @classmethod
    def rebuild(
        cls,
        terms: Sequence[Terms],
        keyring: Keyring,
        changes: Words,
        *,
        rows_max: int = VOUCHERS_MAX,
        code_mask: int = CODE_MASK,
    ) -> VoucherLedger:
        """The ledger that wrote these changes: in any order of their keys, those of a key in theirs.

        StateError for changes of a campaign that is not declared, or that promised something else.
        """
        changes = _checked(changes, CHANGE_WORDS)
        self = cls((), keyring, rows_max=rows_max, code_mask=code_mask)
        self._declared.take_numbers(self._ledger, terms, changes)
        self._ledger = self._declared.declare(self._ledger, terms, keyring)
        reason = take_texts(self._ledger, changes)
        if reason == layout.OK:
            reason = take_vouchers(self._ledger, changes)
        if reason == layout.LEDGER_FULL:
            raise LimitError(_STEP, f"it has more than {rows_max} rows", "give it more room")
        if reason != layout.OK:
            raise StateError(
                _STEP,
                f"a change does not fit the others: {REASON_NAMES[reason]}",
                "read the topic from its start",
            )
        free, numbers = np.empty((2, int(self._ledger.meta[layout.OWN_CODES])), np.int64)
        count = count_vouchers(self._ledger, free, numbers)
        link_free(self._ledger, free[np.argsort(numbers[:count])])
        self._give_back()
        return self

    def _give_back(self) -> None:
        meta = self._ledger.meta
        self._codes.give_back(int(meta[layout.CODE_SLOTS]), int(meta[layout.CODE_COPIED]))
        self._holders.give_back(int(meta[layout.HOLDER_SLOTS]), int(meta[layout.HOLDER_COPIED]))


def _checked(words: Words, width: int) -> Words:
    """int64[n, width], contiguous; ValueError for another shape."""
    out = np.ascontiguousarray(words, np.int64)
    if out.ndim != 2 or out.shape[1] != width:
        raise ValueError(f"int64[n, {width}] is needed, not {out.shape}")
    return out
