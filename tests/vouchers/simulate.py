"""Shards that race for the last vouchers, on a ledger that crashes: whatever the order, never one too many.

    python -m tests.vouchers.simulate [--seeds N] [--seed FIRST]

One seed drives everything: which shard is read next and how far, what is lost and told twice, when the ledger dies. The
ledger reads the shards' logs in batches; its changes become durable now and then, together with how far it has read,
and only then its answers go out. A crash loses everything behind the last durable change: the ledger is rebuilt from
what is durable, in another order of its keys, and reads the rest of the logs again, otherwise interleaved.
An answer that went out is acted upon: a message is sent, its issue told late, twice or never, and its customer redeems
it when they like: before its issue is seen, twice at two tills, mistyped, in the wrong shop.

After every step: no budget of number or money and no limit is passed; a decision has one code for ever, and a code one
decision; a code is redeemed by one redemption, whose answer stays the same; the money adds up to the cent. At the end
everything that was granted or redeemed is told again and changes nothing.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from segue.vouchers.answers import change_keys
from segue.vouchers.campaign import Campaign, Terms
from segue.vouchers.ledger import VoucherLedger
from segue_kernels import ledger as layout
from segue_kernels.ledger import A_AMOUNT, A_CODE, A_REASON, A_ROW
from tests.vouchers.campaigns import (
    DAY_MS,
    EUR,
    HOUR_MS,
    MINUTE_MS,
    START_MS,
    Words,
    campaign,
    compacted,
    grants,
    hashed,
    keyring,
    redemptions,
    terms_of,
)

SHARDS = 32
TURNS = 60
GRANTED = (layout.OK, layout.AGAIN)


@dataclass(frozen=True)
class Message:
    """A line of a shard's log, or of a till's. what: grant, issue, release, cancel or redeem."""

    what: str
    now: int
    name: str = ""
    customer: int = 0
    decision: int = 0
    code: int = 0
    text: str = ""
    shop: int = 0
    basket: int = 0
    redemption: int = 0


@dataclass
class World:
    """Everything outside the ledger: logs, what was sent, what was redeemed, and the durable changes."""

    made: random.Random
    terms: list[Terms]
    ledger: VoucherLedger
    mask: int
    now: int
    logs: list[list[Message]] = field(default_factory=lambda: [[] for _ in range(SHARDS)])
    read: list[int] = field(default_factory=lambda: [0] * SHARDS)
    durable_read: list[int] = field(default_factory=lambda: [0] * SHARDS)
    durable: list[Words] = field(default_factory=list)
    pending: list[Words] = field(default_factory=list)
    answers: list[tuple[Message, Words, str]] = field(default_factory=list)
    sent: dict[tuple[str, int], str] = field(default_factory=dict)
    owner: dict[str, tuple[str, int]] = field(default_factory=dict)
    redeemed: dict[str, tuple[int, int]] = field(default_factory=dict)
    crashes: int = 0

    def step(self) -> None:
        """One thing that happens."""
        action = self.made.choices(
            (self.ask, self.process, self.commit, self.crash, self.expire, self.wait), (6, 12, 5, 1, 3, 2)
        )[0]
        action()
        self.check()

    # --- what people and shards do --------------------------------------------------------------------

    def ask(self) -> None:
        """Shards ask for vouchers, several at once and some of them again."""
        for _ in range(self.made.randint(1, 12)):
            decision = self.made.randint(1, 120)
            shard = decision % SHARDS  # of the customer: a decision is asked for by one shard
            name = self.made.choice(self.terms).name
            message = Message("grant", self.now, name, customer=decision % 40 + 1, decision=decision)
            self.logs[shard].append(message)
            if self.made.random() < 0.15:
                self.logs[shard].append(message)

    def acted_upon(self, message: Message, answer: Words, text: str) -> None:
        """An answer went out."""
        if message.what == "grant" and answer[A_REASON] in GRANTED:
            self.granted(message, int(answer[A_CODE]), text)
        if message.what == "redeem" and answer[A_REASON] in GRANTED:
            told = message.redemption, int(answer[A_AMOUNT])
            assert self.redeemed.setdefault(text, told) == told, f"{text} redeemed twice, or told otherwise"

    def granted(self, message: Message, code: int, text: str) -> None:
        key = (message.name, message.decision)
        assert self.sent.setdefault(key, text) == text, f"decision {key} has two codes"
        assert self.owner.setdefault(text, key) == key, f"code {text} has two decisions"
        shard = self.made.randrange(SHARDS)
        fate = self.made.random()
        if fate < 0.1:
            self.logs[shard].append(Message("release", self.now, code=code))
        elif fate < 0.9:  # the others are never told of: their reservations lapse
            late = self.made.choice((0, 0, MINUTE_MS, 2 * HOUR_MS))
            self.logs[shard].append(Message("issue", self.now + late, code=code))
            if self.made.random() < 0.2:
                self.logs[self.made.randrange(SHARDS)].append(Message("issue", self.now + late, code=code))
        if self.made.random() < 0.03:
            self.logs[shard].append(Message("cancel", self.now, code=code))
        while self.made.random() < 0.5:
            typed = text if self.made.random() < 0.9 else text[1] + text[0] + text[2:]
            redeem = Message(
                "redeem",
                self.now + self.made.choice((0, MINUTE_MS, DAY_MS)),
                customer=self.made.choice((0, message.customer, message.customer, 99)),
                text=typed,
                shop=hashed(self.made.choice(("north", "north", "south"))),
                basket=self.made.choice((300, 1_001, 3_333, 9_999)),
                redemption=self.made.randint(1, 10**9),
            )
            for _ in range(self.made.choice((1, 1, 2))):
                self.logs[self.made.randrange(SHARDS)].append(redeem)

    # --- what the ledger does -------------------------------------------------------------------------

    def process(self) -> None:
        """The ledger reads some of some shards' logs."""
        for shard in self.made.sample(range(SHARDS), self.made.randint(1, SHARDS)):
            end = min(len(self.logs[shard]), self.read[shard] + self.made.randint(1, 8))
            batch = self.logs[shard][self.read[shard] : end]
            self.read[shard] = end
            while batch:  # one kind at a time, in their order
                same = 1
                while same < len(batch) and batch[same].what == batch[0].what:
                    same += 1
                self.tell(batch[:same])
                batch = batch[same:]

    def tell(self, batch: list[Message]) -> Words:
        """Hand messages of one kind to the ledger; what they changed."""
        what = batch[0].what
        if what == "grant":
            rows = [(m.name, (m.customer, 1), (m.decision, 1), m.now, 0, EUR) for m in batch]
            done = self.ledger.grant(grants([(self.ledger.campaign(n), *rest) for n, *rest in rows]))
        elif what == "redeem":
            told = [
                ((m.customer, 1 if m.customer else 0), m.shop, m.basket, EUR, m.now, (m.redemption, 1))
                for m in batch
            ]
            done = self.ledger.redeem(redemptions(told), [message.text for message in batch])
        else:
            codes = np.array([message.code for message in batch], np.int64)
            times = np.array([message.now for message in batch], np.int64)
            passed = getattr(self.ledger, what)(codes, times)
            self.pending.append(passed.changes)
            return passed.changes
        self.pending.append(done.changes)
        for message, answer in zip(batch, done.answers, strict=True):
            text = self.ledger.texts(answer[A_ROW : A_ROW + 1])[0] if answer[A_ROW] >= 0 else ""
            self.answers.append((message, answer, text))
        return done.changes

    def commit(self) -> None:
        """What was read and what it changed become durable together; then the answers go out."""
        self.durable += self.pending
        self.durable_read = list(self.read)
        answers, self.pending, self.answers = self.answers, [], []
        for message, answer, text in answers:
            self.acted_upon(message, answer, text)

    def crash(self) -> None:
        """Everything behind the last durable change is lost."""
        self.crashes += 1
        self.pending, self.answers, self.read = [], [], list(self.durable_read)
        changes = np.concatenate(self.durable)
        if self.made.random() < 0.7:
            order = np.array(self.made.sample(range(len(changes)), len(changes)), np.int64)
            changes = compacted(changes, change_keys(changes), order)
        self.ledger = VoucherLedger.rebuild(
            self.terms, keyring(), changes, rows_max=4_096, code_mask=self.mask
        )

    def expire(self) -> None:
        self.pending.append(self.ledger.expire(self.now, self.made.randint(1, 50)))

    def wait(self) -> None:
        self.now += self.made.choice((1, MINUTE_MS, 10 * MINUTE_MS, HOUR_MS, 11 * HOUR_MS))

    # --- what must hold -------------------------------------------------------------------------------

    def check(self) -> None:
        """Every law, from the ledger's own sums, and from its vouchers counted otherwise."""
        self.ledger.check()
        table = self.ledger.arrays.rows[: self.ledger.rows]
        for terms in self.terms:
            sums = self.ledger.sums(terms.name)
            assert terms.budget < 0 or sums.charged <= terms.budget, f"{terms.name}: over its number"
            money = sums.held_minor + sums.spent_minor
            assert terms.budget_minor < 0 or money <= terms.budget_minor, f"{terms.name}: over its money"
            spent = sum(off for text, (_, off) in self.redeemed.items() if self.owner[text][0] == terms.name)
            unsent = sum(
                int(answer[A_AMOUNT])
                for message, answer, _ in self.answers
                if message.what == "redeem" and answer[A_REASON] == layout.OK
                if answer[layout.A_CAMPAIGN] == self.ledger.campaign(terms.name)
            )
            assert spent + unsent == sums.spent_minor, f"{terms.name}: the money does not add up"
            self.check_limits(terms, table)

    def check_limits(self, terms: Terms, table: Words) -> None:
        number = self.ledger.campaign(terms.name)
        pack = table[:, layout.PACK]
        state = pack >> layout.CAMPAIGN_BITS & layout.STATE_MASK
        granted = pack >> layout.GRANTED_SHIFT
        charged = np.isin(state, (1, 2, 3, 4, 5)) & (pack & layout.CAMPAIGN_MASK == number) & (granted > 0)
        customers = Counter(table[charged, layout.CUSTOMER_LO].tolist())
        assert not terms.per_customer or max(customers.values(), default=0) <= terms.per_customer
        days = Counter((granted[charged] // DAY_MS).tolist())
        assert not terms.per_day or max(days.values(), default=0) <= terms.per_day, f"{terms.name}: a day"

    def finish(self) -> None:
        """Everything is read; what was granted or redeemed is told again; in the end nothing is held."""
        self.commit()
        while self.read != [len(log) for log in self.logs]:
            self.process()
            self.commit()
            self.check()
        before = [self.ledger.sums(terms.name) for terms in self.terms]
        good = set(self.redeemed)
        again = [
            message
            for log in self.logs
            for message in log
            if (message.what == "grant" and (message.name, message.decision) in self.sent)
            or (
                message.what == "redeem"
                and message.text in good
                and message.redemption == self.redeemed[message.text][0]
            )
        ]
        self.made.shuffle(again)
        for message in again:
            assert not len(self.tell([message])), "a replay changes something"
        assert all(answer[A_REASON] == layout.AGAIN for _, answer, _ in self.answers)
        self.commit()
        assert before == [self.ledger.sums(terms.name) for terms in self.terms]
        self.now += 100 * DAY_MS
        while len(changes := self.ledger.expire(self.now, 100)):
            self.pending.append(changes)
        self.check()
        assert not any(self.ledger.sums(terms.name).held_minor for terms in self.terms)


def campaigns_of(made: random.Random) -> list[Campaign]:
    """One to three scarce campaigns."""
    scarce: list[dict[str, Any]] = [
        {
            "name": "number",
            "budget": made.randint(1, 12),
            "per_customer": made.randint(1, 3),
            "shops": ("north",),
        },
        {
            "name": "money",
            "budget_minor": made.randint(500, 9_000),
            "discount_percent": 12.5,
            "discount_max_minor": 700,
            "per_customer": None,
        },
        {
            "name": "own",
            "own_codes": True,
            "per_day": made.randint(1, 6),
            "budget": made.choice((None, 5)),
            "basket_min_minor": 1_000,
        },
    ]
    times = {"valid_for": made.choice(("13h", "30d")), "reserve_for": made.choice(("5m", "1h"))}
    return [campaign(**{**declared, **times}) for declared in made.sample(scarce, made.randint(1, 3))]


def simulate(seed: int) -> World:
    """One seed, from the first request to the end of the last voucher."""
    made = random.Random(seed)
    terms = terms_of(*campaigns_of(made))
    mask = (1 << made.choice((9, 60))) - 1
    ledger = VoucherLedger(terms, keyring(), rows_max=4_096, code_mask=mask)
    now = START_MS + made.choice((MINUTE_MS, 35 * HOUR_MS))  # an hour later the key is another
    world = World(made, terms, ledger, mask, now, durable=[ledger.changes()])
    for declared in terms:
        if declared.own_codes:
            texts = [f"Own {number}" for number in range(made.randint(1, 12))]
            world.durable.append(ledger.import_codes(declared.name, texts).changes)
    for _ in range(TURNS):
        world.step()
    world.finish()
    return world


def main(arguments: list[str] | None = None) -> int:
    """Simulate seeds; a failure prints the command that repeats it."""
    parser = argparse.ArgumentParser(prog="python -m tests.vouchers.simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    chosen = parser.parse_args(arguments)
    crashes = sent = redeemed = 0
    for seed in range(chosen.seed, chosen.seed + chosen.seeds):
        try:
            world = simulate(seed)
        except Exception:
            print(
                f"\nfailed; again with: python -m tests.vouchers.simulate --seeds 1 --seed {seed}", flush=True
            )
            raise
        crashes, sent, redeemed = (
            crashes + world.crashes,
            sent + len(world.sent),
            redeemed + len(world.redeemed),
        )
    print(
        f"{chosen.seeds:,} seeds: {crashes:,} crashes, {sent:,} vouchers sent, {redeemed:,} redeemed; every law held"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
