"""`segue campaigns`: what of each campaign is granted, run out and left, and its codes; from the ledger's changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Column, Table

from segue.actions.ledger import read_changes
from segue.errors import SegueError, did_you_mean
from segue.events.money import EXPONENTS, code_letters
from segue.events.time import time_text
from segue.kafka.settings import KafkaSettings
from segue.outputs import LEDGER
from segue.policy.compiled import CampaignInfo
from segue.policy.load import load_policies
from segue.settings import secret
from segue.sinks.files import output_files, output_path, read_batches
from segue.vouchers.keys import EVERY_CAMPAIGN, KEY_BYTES, Keyring, VoucherKey
from segue.vouchers.ledger import VoucherLedger
from segue.vouchers.sums import STATE_NAMES
from segue_kernels import ledger as layout
from segue_kernels.ledger import CHANGE_KIND, CHANGE_VOUCHER, CHANGE_WORDS

Words = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_STEP = "read the ledger"
# what is only read makes no codes
_NO_KEYS = Keyring({EVERY_CAMPAIGN: (VoucherKey(0, 0, bytes(KEY_BYTES)),)})


class CampaignReport(msgspec.Struct, frozen=True, kw_only=True):
    """One campaign; sums of money in minor units of its currency, null where there is no bound.

    granted     vouchers that count against the budget
    open        of those how many are good; expired: how many ran out
    held_minor  what all of them may have cost: nobody tells the engine what was redeemed
    """

    campaign: str
    policy: str
    currency: str
    start: str
    end: str
    granted: int
    open: int
    expired: int
    budget: int | None
    left: int | None
    held_minor: int
    budget_minor: int | None
    left_minor: int | None


class Code(msgspec.Struct, frozen=True, kw_only=True):
    """A voucher; times are RFC 3339 in UTC."""

    code: str
    state: str
    granted_at: str
    expires_at: str


class Campaigns:
    """The campaigns of some policies, and what a ledger says of them.

    at_ms  what runs out by then has run out; None: when the last one was granted
    """

    def __init__(
        self, policies: Sequence[str] | None, currency: str, changes: Words, at_ms: int | None
    ) -> None:
        compiled = load_policies(policies, secret=secret(), currency=currency, native=False)
        self._policies = compiled.policies
        self.infos = {info.id: info for info in compiled.campaign_infos}
        self.ledger = VoucherLedger.rebuild([info.terms for info in self.infos.values()], _NO_KEYS, changes)
        granted = changes[changes[:, CHANGE_KIND] == CHANGE_VOUCHER, 1 + layout.PACK] >> layout.GRANTED_SHIFT
        self.at_ms = (int(granted.max()) if len(granted) else 0) if at_ms is None else at_ms

    def info(self, campaign: str) -> CampaignInfo:
        """One that is declared. Raises SegueError."""
        if campaign not in self.infos:
            raise SegueError(
                _STEP,
                f'the policies declare no campaign "{campaign}"',
                did_you_mean(campaign, tuple(self.infos)),
            )
        return self.infos[campaign]

    def report(self, campaign: str) -> CampaignReport:
        """What became of it."""
        info = self.info(campaign)
        terms, sums = info.terms, self.ledger.sums(campaign)
        is_issued, is_good = self._goodness(self._rows(campaign), terms.valid_ms)
        policy = self._policies[info.policy]
        return CampaignReport(
            campaign=campaign,
            policy=f"{policy.name}@{policy.version}",
            currency=code_letters(terms.currency),
            start=time_text(terms.start_ms),
            end=time_text(terms.end_ms),
            granted=sums.charged,
            open=int(np.count_nonzero(is_issued & is_good)),
            expired=int(np.count_nonzero(is_issued & ~is_good)),
            budget=None if terms.budget < 0 else terms.budget,
            left=None if terms.budget < 0 else sums.left,
            held_minor=sums.held_minor,
            budget_minor=None if terms.budget_minor < 0 else terms.budget_minor,
            left_minor=None if terms.budget_minor < 0 else sums.left_minor,
        )

    def codes(self, campaign: str) -> Iterator[Code]:
        """Its vouchers, in the order in which the ledger has them."""
        terms = self.info(campaign).terms
        rows = self._rows(campaign)
        packs = self.ledger.arrays.rows[rows, layout.PACK]
        is_issued, is_good = self._goodness(rows, terms.valid_ms)
        states = (packs >> layout.CAMPAIGN_BITS) & layout.STATE_MASK
        states[is_issued & ~is_good] = layout.EXPIRED
        granted = (packs >> layout.GRANTED_SHIFT).tolist()
        for text, state, at_ms in zip(self.ledger.texts(rows), states.tolist(), granted, strict=True):
            yield Code(
                code=text,
                state=STATE_NAMES[state],
                granted_at=time_text(at_ms),
                expires_at=time_text(at_ms + terms.valid_ms),
            )

    def _rows(self, campaign: str) -> Words:
        """The campaign's vouchers among the rows of the ledger."""
        packs = self.ledger.arrays.rows[: self.ledger.rows, layout.PACK]
        return np.flatnonzero(packs & layout.CAMPAIGN_MASK == self.ledger.campaign(campaign))

    def _goodness(self, rows: Words, valid_ms: int) -> tuple[Flags, Flags]:
        """(whether it is out, whether its time is not over) of vouchers."""
        packs = self.ledger.arrays.rows[rows, layout.PACK]
        is_issued = (packs >> layout.CAMPAIGN_BITS) & layout.STATE_MASK == layout.ISSUED
        return is_issued, (packs >> layout.GRANTED_SHIFT) + valid_ms > self.at_ms


def changes_in_folder(out: str) -> Words:
    """What a run on files has written so far. Raises SegueError."""
    files = output_files(out, LEDGER)
    if not files:
        raise SegueError(
            _STEP,
            f'"{output_path(out, LEDGER)}" is missing',
            "name the folder of a run with campaigns: --out",
        )
    return read_changes(batch for file in files for batch in read_batches(file))


def changes_in_topic(settings: KafkaSettings) -> Words:
    """What stands in the topic now. Raises SegueError."""
    from segue.kafka.client import client_properties
    from segue.kafka.read import partitions_of, read_topics

    topic, properties = settings.prefix + LEDGER, client_properties(settings, "consumer")
    if not partitions_of(settings.brokers, [topic], properties):
        raise SegueError(
            _STEP, f'there is no topic "{topic}"', "see --prefix; `segue topics create` makes it"
        )
    values = [record.value for record in read_topics(settings.brokers, [topic], properties=properties)]
    if any(len(value) != 8 * CHANGE_WORDS for value in values):
        raise SegueError(_STEP, f'topic "{topic}" holds what is no change', "did something else write to it?")
    return np.frombuffer(b"".join(values), "<i8").astype(np.int64).reshape(-1, CHANGE_WORDS)


def show_list(campaigns: Campaigns, console: Console) -> None:
    """A row a campaign."""
    numbers = [
        Column(name, justify="right") for name in ("granted", "left", "open", "expired", "held", "left")
    ]
    table = Table(Column("campaign", no_wrap=True), "policy", *numbers, "until", box=None)
    for name in campaigns.infos:
        report = campaigns.report(name)
        table.add_row(
            name,
            report.policy,
            f"{report.granted:,}",
            "" if report.left is None else f"{report.left:,}",
            f"{report.open:,}",
            f"{report.expired:,}",
            _money(report.held_minor, report.currency),
            "" if report.left_minor is None else _money(report.left_minor, report.currency),
            report.end,
        )
    console.print(table if campaigns.infos else "the policies declare no campaign")


def show_one(report: CampaignReport, console: Console) -> None:
    """Everything about a campaign."""
    budget = "no bound" if report.budget is None else f"{report.left:,} of {report.budget:,} left"
    held = _money(report.held_minor, report.currency)
    money = "no bound"
    if report.budget_minor is not None and report.left_minor is not None:
        bound, left = (_money(m, report.currency) for m in (report.budget_minor, report.left_minor))
        money = f"{left} of {bound} left"
    table = Table(box=None, show_header=False)
    for name, value in (
        ("campaign", f"{report.campaign} ({report.policy})"),
        ("from", report.start),
        ("until", report.end),
        ("granted", f"{report.granted:,}; {budget}"),
        ("good", f"{report.open:,}; {report.expired:,} ran out"),
        ("money", f"{held} promised; {money}"),
    ):
        table.add_row(name, value)
    console.print(table)


def as_json(value: Any) -> str:
    """For programs."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def _money(minor: int, letters: str) -> str:
    return f"{Decimal(minor).scaleb(-EXPONENTS[letters]):,f} {letters}"
