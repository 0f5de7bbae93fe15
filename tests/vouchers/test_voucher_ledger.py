"""The ledger's Python face: what it refuses, what it tells, and what comes back after a crash."""

from __future__ import annotations

import numpy as np
import pytest

from segue import limits
from segue.errors import LimitError, PolicyError, SettingsError, StateError
from segue.vouchers.answers import change_keys
from segue.vouchers.keys import parse_keys
from segue.vouchers.ledger import VoucherLedger
from segue.vouchers.reasons import REASON_NAMES
from segue_kernels import ledger as layout
from segue_kernels.ledger import A_AMOUNT, A_CODE, A_EXPIRES, A_REASON, A_RESERVED_UNTIL, A_ROW, REASONS
from segue_kernels.ledger_index import ROW_MASK
from segue_kernels.ledger_redeem import BASKET_MAX
from tests.vouchers.campaigns import (
    DAY_MS,
    EUR,
    HOUR_MS,
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

NOW = START_MS + HOUR_MS


def ledger(*declared: object, rows_max: int = 100) -> VoucherLedger:
    return VoucherLedger(terms_of(*declared), keyring(), rows_max=rows_max)  # type: ignore[arg-type]


def ask(of: VoucherLedger, *numbers: int, name: str = "a", now: int = NOW) -> Words:
    """A voucher for each of these customers, by a decision of the same number."""
    rows = [(of.campaign(name), (number, 1), (number, 2), now, 0, EUR) for number in numbers]
    return of.grant(grants(rows)).answers


def redeem(of: VoucherLedger, text: str, made: int = 1, now: int = NOW, customer: int = 0) -> Words:
    who = (customer, 1) if customer else (0, 0)
    return of.redeem(redemptions([(who, 0, 5_000, EUR, now, (made, 0))]), [text]).answers[0]


def reasons(answers: Words) -> list[str]:
    return [REASON_NAMES[reason] for reason in answers[:, A_REASON].tolist()]


def test_every_reason_has_a_name_of_its_own() -> None:
    assert sorted(REASON_NAMES) == list(range(REASONS))
    assert len(set(REASON_NAMES.values())) == REASONS


def test_one_voucher_from_the_request_to_the_till() -> None:
    of = ledger(campaign("a"))
    (answer,) = ask(of, 7)
    assert answer[A_RESERVED_UNTIL] == NOW + HOUR_MS
    assert answer[A_EXPIRES] == NOW + 30 * DAY_MS
    assert answer[A_AMOUNT] == 1_000
    codes, times = answer[[A_CODE]], np.array([NOW + 1])
    assert of.issue(codes, times).reasons.tolist() == [layout.OK]
    (text,) = of.texts(answer[[A_ROW]])
    assert redeem(of, text.lower())[A_AMOUNT] == 1_000
    again, other = redeem(of, text), redeem(of, text, made=2)
    assert (REASON_NAMES[again[A_REASON]], again[A_AMOUNT]) == ("again", 1_000)
    assert (REASON_NAMES[other[A_REASON]], other[A_AMOUNT]) == ("redeemed", 0)
    sums = of.sums("a")
    assert (sums.redeemed, sums.spent_minor, sums.held_minor, sums.left) == (1, 1_000, 0, -1)
    assert of.answered() == {"ok": 3, "again": 1, "redeemed": 1}


def test_a_bound_that_is_met_is_refused_and_counted() -> None:
    of = ledger(campaign("a"), rows_max=2)
    assert reasons(ask(of, 1, 2, 3)) == ["ok", "ok", "ledger_full"]
    assert of.answered()["ledger_full"] == 1
    of.check()


def test_a_rotated_key_gives_the_decision_the_code_it_has() -> None:
    of = ledger(campaign("a"))
    (first,) = ask(of, 1)
    later = START_MS + 3 * DAY_MS  # the second key holds
    (again,) = ask(of, 1, now=later)
    assert (again[A_REASON], again[A_CODE]) == (layout.AGAIN, first[A_CODE])
    (before,), (after,) = ask(ledger(campaign("a")), 2), ask(of, 2, now=later)
    assert before[A_CODE] != after[A_CODE]


def test_keys_may_come_but_not_go() -> None:
    of = ledger(campaign("a"), campaign("b", own_codes=True))
    more = parse_keys(
        f"* 1 2026-01-01T00:00:00Z {'0f' * 16}; * 2 2026-03-02T00:00:00Z {'a5' * 16}\n"
        f"* 3 2026-02-28T12:30:00Z {'99' * 16}"
    )
    (first,), (other,) = ask(of, 1), ask(ledger(campaign("a")), 2)
    of.use_keys(more)
    (again,), (made,) = ask(of, 1), ask(of, 2)
    assert again[A_CODE] == first[A_CODE]
    assert made[A_CODE] != other[A_CODE]
    with pytest.raises(SettingsError, match="version 3 from 2026-02-28") as error:
        of.use_keys(keyring())
    assert "9999" not in str(error.value)


def test_an_alias_is_no_code() -> None:
    of = ledger(campaign("a", own_codes=True))
    of.import_codes("a", ["One"])
    ask(of, 1)
    alias = of.arrays.rows[1, layout.TEXT_ALIAS]
    assert alias >= layout.ALIASES
    for action in (of.issue, of.release, of.cancel):
        done = action(np.array([alias, -1, 1 << 60]), np.full(3, NOW))
        assert done.reasons.tolist() == [layout.UNKNOWN_CODE] * 3


def test_bounds_of_the_layout_are_those_of_the_limits() -> None:
    assert layout.HELD_COUNT_MAX == limits.VOUCHERS_PER_CUSTOMER_MAX
    assert layout.AMOUNT_MASK == limits.VOUCHER_MINOR_MAX
    assert BASKET_MAX == limits.MONEY_MINOR_MAX
    assert limits.VOUCHERS_MAX < ROW_MASK
    assert limits.CAMPAIGNS_MAX <= layout.CAMPAIGN_MASK


def test_codes_of_other_campaigns_and_keys_are_others() -> None:
    of = ledger(campaign("a"), campaign("b"), campaign("fixed"))
    found = {int(ask(of, 1, name=name)[0, A_CODE]) for name in ("a", "b", "fixed")}
    found.add(int(ask(ledger(campaign("a")), 1, now=START_MS + 3 * DAY_MS)[0, A_CODE]))
    assert len(found) == 4


def test_hints_are_for_whose_code_it_is_and_only_while_it_is_good() -> None:
    of = ledger(campaign("a"))
    (answer,) = ask(of, 7)
    (text,) = of.texts(answer[[A_ROW]])
    wrong = text[:-1]
    assert REASON_NAMES[redeem(of, wrong)[A_REASON]] == "mistyped"
    assert of.hints(wrong, (7, 1), NOW) == of.hints(wrong, (0, 0), NOW) == [text]
    assert of.hints(wrong, (8, 1), NOW) == []
    assert of.hints(wrong, (7, 1), NOW + 31 * DAY_MS) == []
    assert of.hints("x" * 10_000, (7, 1), NOW) == []


def test_a_cancelled_campaign_grants_no_more_and_if_told_honours_none() -> None:
    of = ledger(campaign("a"))
    answers = ask(of, 1, 2)
    texts = of.texts(answers[:, A_ROW])
    of.stop("a", codes_too=False)
    assert reasons(ask(of, 3, 1)) == ["campaign_cancelled", "again"]
    assert redeem(of, texts[0])[A_REASON] == layout.OK
    of.stop("a", codes_too=True)
    of.stop("a", codes_too=False)  # what was withdrawn stays so
    assert redeem(of, texts[1], made=2)[A_REASON] == layout.IS_CANCELLED
    with pytest.raises(SettingsError, match='did you mean "a"'):
        of.stop("A", codes_too=True)


def test_own_codes_are_handed_out_in_their_order_each_once() -> None:
    of = ledger(campaign("a", own_codes=True))
    done = of.import_codes("a", ["Spring-1", "SPRING 2", "spr1ng-l", "", "x" * 40, "Frühling"])
    assert [REASON_NAMES[reason] for reason in done.reasons.tolist()] == [
        "ok",
        "ok",
        "code_taken",
        "garbage",
        "garbage",
        "garbage",
    ]
    assert REASON_NAMES[redeem(of, "spring1")[A_REASON]] == "not_issued"
    answers = ask(of, 1, 2, 3)
    assert reasons(answers) == ["ok", "ok", "no_code_left"]
    assert of.texts(answers[:2, A_ROW]) == ["Spring-1", "SPRING 2"]
    assert redeem(of, "spring1")[A_AMOUNT] == 1_000
    assert REASON_NAMES[redeem(of, "autumn 1")[A_REASON]] == "unknown"
    with pytest.raises(SettingsError, match="with own_codes"):
        of.import_codes("b", ["a"])


def test_the_promise_of_a_campaign_stays_and_its_bounds_may_change() -> None:
    of = ledger(campaign("a", budget=1))
    assert reasons(ask(of, 1, 2)) == ["ok", "budget_number"]
    of.declare(terms_of(campaign("a", budget=2), campaign("b")))
    assert reasons(ask(of, 2, 3)) == ["ok", "budget_number"]
    assert reasons(ask(of, 1, name="b")) == ["ok"]
    with pytest.raises(PolicyError, match="promised something else"):
        of.declare(terms_of(campaign("a", discount_minor=5)))


def test_what_is_rebuilt_answers_the_same() -> None:
    of = ledger(campaign("a", stack_group="x"), campaign("b", own_codes=True))
    log = [of.changes(), of.import_codes("b", ["One", "Two", "Three"]).changes]
    log += [of.grant(grants([(0, (1, 1), (1, 2), NOW, 0, EUR), (1, (1, 1), (1, 2), NOW, 0, EUR)])).changes]
    log.append(of.stop("a", codes_too=False))
    changes = np.concatenate(log)
    # two campaigns, three own codes with their texts, and one of ours
    assert len(set(change_keys(changes))) == 2 + 2 * 3 + 1
    rebuilt = VoucherLedger.rebuild(
        terms_of(campaign("b", own_codes=True), campaign("a", stack_group="x")),
        keyring(),
        compacted(changes, change_keys(changes), -np.arange(len(changes))),
        rows_max=100,
    )
    rebuilt.check()
    assert rebuilt.campaign("a") == 0
    assert reasons(ask(rebuilt, 1, 5)) == ["again", "campaign_cancelled"]
    assert REASON_NAMES[redeem(rebuilt, "three")[A_REASON]] == "not_issued"
    assert "a5a5" not in repr(rebuilt)


def test_changes_that_do_not_fit_are_said_to() -> None:
    of = ledger(campaign("a"), campaign("b", own_codes=True))
    first, imported = of.changes(), of.import_codes("b", ["One"]).changes
    granted = of.grant(grants([(0, (1, 1), (1, 2), NOW, 0, EUR)])).changes
    declared = terms_of(campaign("a"), campaign("b", own_codes=True))

    def rebuild(terms: list[object], *changes: Words, rows_max: int = 100) -> None:
        VoucherLedger.rebuild(terms, keyring(), np.concatenate(changes), rows_max=rows_max)  # type: ignore[arg-type]

    with pytest.raises(StateError, match="not declared"):
        rebuild(declared[:1], first, granted)
    with pytest.raises(StateError, match="promised something else"):
        rebuild(terms_of(campaign("a", discount_minor=3), campaign("b", own_codes=True)), first)
    with pytest.raises(StateError, match="missing"):
        rebuild(declared, first[1:])
    with pytest.raises(StateError, match="does not fit"):
        rebuild(declared, first, imported[1:])
    with pytest.raises(StateError, match="does not fit"):
        rebuild([], granted)
    with pytest.raises(LimitError, match="more than 2 rows"):
        rebuild(declared, first, imported, granted, rows_max=2)


def test_groups_shops_and_baskets_are_looked_at() -> None:
    of = ledger(campaign("a", stack_group="x", shops=("north",), basket_min_minor=500))
    (text,) = of.texts(ask(of, 1)[:, A_ROW])
    north, group = hashed("north"), hashed("x")
    told = redemptions(
        [
            ((0, 0), hashed("south"), 600, EUR, NOW, (1, 0)),
            ((0, 0), north, 600, EUR, NOW, (1, 0)),
            ((0, 0), north, 499, EUR, NOW, (1, 0)),
            ((2, 1), north, 600, EUR, NOW, (1, 0)),
            ((1, 1), north, 600, EUR, NOW, (1, 0)),
        ]
    )
    done = of.redeem(told, [text] * 5, [(), (5, group), (), (), (5,)])
    assert reasons(done.answers) == ["wrong_shop", "stacked", "basket_too_small", "wrong_customer", "ok"]
    assert done.answers[-1, A_AMOUNT] == 600  # no more than the basket


def test_shapes_are_checked() -> None:
    of = ledger(campaign("a"))
    with pytest.raises(ValueError, match="int64"):
        of.grant(np.zeros((1, 3), np.int64))
    with pytest.raises(ValueError, match="as many codes"):
        of.redeem(redemptions([((0, 0), 0, 1, EUR, NOW, (1, 0))]), [])
    with pytest.raises(ValueError, match="as many times"):
        of.issue(np.zeros(2, np.int64), np.zeros(1, np.int64))
    with pytest.raises(ValueError, match="has no code"):
        of.texts(np.array([-1]))
    with pytest.raises(ValueError, match="beyond"):
        of.expire(layout.TIME_MS_MAX + 1, 1)
    with pytest.raises(SettingsError, match="rows_max is 0"):
        VoucherLedger((), keyring(), rows_max=0)
