"""Quiet hours in policy files: what they become, what contradicts, and what `segue check` says of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from segue.decide.bench import plain_journeys
from segue.errors import PolicyError
from segue.limits import DAY_MS, HELD_PER_CUSTOMER_MAX, HOUR_MS, MINUTE_MS, QUIET_HOURS_MAX
from segue.policy.check import check, render
from segue_kernels import plan
from tests.policy.test_policy_caps import JOURNEY, load

EMAIL = 'channels = ["email"]'
MARKETING = 'purposes = ["marketing"]'


def quiet(name: str, start: str, end: str, *fields: str, then: str = "drop") -> str:
    given = [f'id = "{name}"', f'from = "{start}"', f'to = "{end}"', f'then = "{then}"', *fields, ""]
    return "\n".join(["[[quiet_hours]]", *given])


NIGHT = quiet("night", "21:00", "08:00")


def test_rows_and_report(tmp_path: Path) -> None:
    sunday = quiet("sunday", "13:30", "14:45", EMAIL, MARKETING, 'days = ["sun", "mon"]')
    compiled = load(tmp_path, NIGHT, sunday, JOURNEY)
    sent_to = int(compiled.quiet[0, plan.QUIET_CONTACTS])
    assert [c for c in range(plan.CONTACTS) if not sent_to >> c & 1] == [
        6,
        7,
        8,
        9,
    ]  # web and till: nothing is sent
    assert compiled.quiet[:, 1:].tolist() == [
        [21 * HOUR_MS, 8 * HOUR_MS, 0b1111111, 0],
        [13 * HOUR_MS + 30 * MINUTE_MS, 14 * HOUR_MS + 45 * MINUTE_MS, 0b1000001, 0],
    ]
    assert compiled.quiet[1, plan.QUIET_CONTACTS] == 1
    report = check(compiled)
    assert report.warnings == ()
    text = render(report)
    assert (
        "    night: 21:00 to 08:00 on email, push, sms, ads, call, mail; what would be sent is dropped\n"
        in text
    )
    told = "    sunday: 13:30 to 14:45 on email for marketing, beginning on mon, sun; what would be sent is dropped\n"
    assert told in text


def test_policies_without_quiet_hours_have_none_of_it(tmp_path: Path) -> None:
    compiled = load(tmp_path, JOURNEY)
    assert compiled.quiet.shape == (0, plan.QUIET_WORDS)
    assert "quiet hours" not in render(check(compiled))


def test_what_is_held(tmp_path: Path) -> None:
    compiled = load(tmp_path, quiet("night", "21:00", "08:00", then="hold"), JOURNEY)
    assert compiled.quiet[0, plan.QUIET_HOLDS] == 1
    assert compiled.offers[0, plan.OFFER_EXPIRES_MS] == DAY_MS
    report = check(compiled)
    assert (report.held, report.held_bytes) == (HELD_PER_CUSTOMER_MAX, 1_024)
    text = render(report)
    assert "what would be sent is held\n" in text
    assert "held through quiet hours: at most 16 actions a customer, of up to 1,024 bytes each" in text


WEEK = quiet("day", "08:00", "21:00")


@pytest.mark.parametrize(
    ("text", "path", "message", "hint"),
    [
        (quiet("q", "21:00", "21:00"), "$.quiet_hours[0]`", "the same time", "two times"),
        (
            quiet("q", "9pm", "08:00"),
            "$.quiet_hours[0].from",
            '"9pm" is no time of a day',
            '"00:00" to "23:59"',
        ),
        (quiet("q", "21:00", "24:00"), "$.quiet_hours[0].to", '"24:00"', '"23:59"'),
        (quiet("q", "21:60", "08:00"), "$.quiet_hours[0].from", '"21:60"', '"23:59"'),
        (quiet("q", "", "08:00"), "$.quiet_hours[0].from", '""', '"23:59"'),
        (quiet("q", "２１:00", "08:00"), "$.quiet_hours[0].from", "２１:00", '"23:59"'),
        (NIGHT.replace('"21:00"', "21"), "$.quiet_hours[0].from", "Expected `str`", "quotes"),
        (NIGHT.replace('to = "08:00"\n', ""), "$.quiet_hours[0]`", "`to` is missing", "needed here: to"),
        (quiet("q", "21:00", "08:00", then="dorp"), "$.quiet_hours[0].then", '"dorp"', 'mean "drop"?'),
        (quiet("q", "21:00", "08:00", 'days = ["sunday"]'), "$.quiet_hours[0].days[0]", '"sunday"', "sun"),
        (quiet("q", "21:00", "08:00", 'days = ["sun", "sun"]'), "$.quiet_hours[0].days[1]", "twice", "once"),
        (quiet("q", "21:00", "08:00", "days = []"), "$.quiet_hours[0].days", "length >= 1", "at least 1"),
        (
            quiet("q", "21:00", "08:00", 'channels = ["mial"]'),
            "$.quiet_hours[0].channels[0]",
            "mial",
            '"mail"?',
        ),
        (
            quiet("q", "21:00", "08:00", 'purposes = ["ads"]'),
            "$.quiet_hours[0].purposes[0]",
            "ads",
            "marketing",
        ),
        (quiet("q", "21:00", "08:00", 'timezone = "UTC"'), "$.quiet_hours[0]`", "no field `timezone`", ""),
        (
            quiet("q", "21:00", "08:00", 'channels = ["sms", "web"]', then="hold"),
            "$.quiet_hours[0].channels[1]",
            "nothing is sent on web that could be held",
            'then = "drop"',
        ),
        (
            NIGHT + quiet("early", "07:59", "09:00", EMAIL, then="hold"),
            "$.quiet_hours[1]`",
            'then = "hold" here, then = "drop" in `night`, for marketing on email at the same time',
            "begin when the other ends",
        ),
        (NIGHT * 2, "$.quiet_hours[1].id", "is the id of a time of quiet in", "unique"),
        (
            NIGHT + WEEK,
            "$.quiet_hours[1]`",
            "no minute of the week in which email for marketing",
            "leave some",
        ),
        (
            "".join(quiet(f"q{n}", "21:00", "08:00") for n in range(QUIET_HOURS_MAX + 1)),
            f"$.quiet_hours[{QUIET_HOURS_MAX}]",
            f"more than {QUIET_HOURS_MAX}",
            "",
        ),
    ],
)
def test_errors(tmp_path: Path, text: str, path: str, message: str, hint: str) -> None:
    with pytest.raises(PolicyError) as caught:
        load(tmp_path, text, JOURNEY)
    assert caught.value.found.startswith(f"{tmp_path / 'p.toml'}: ")
    assert path in caught.value.found
    assert message in caught.value.found
    assert hint in caught.value.hint
    assert caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        NIGHT + quiet("day", "08:00", "20:59"),
        NIGHT + quiet("day", "08:00", "21:00", 'days = ["mon", "tue", "wed", "thu", "fri", "sat"]'),
        NIGHT + quiet("day", "08:00", "21:00", 'channels = ["sms"]', MARKETING).replace("08:00", "08:01"),
        quiet("most", "00:00", "23:59"),
        quiet("long", "08:01", "08:00"),
        NIGHT + quiet("early", "08:00", "09:00", EMAIL, then="hold"),
        NIGHT + quiet("day", "12:00", "21:00", EMAIL, then="hold"),
    ],
)
def test_one_minute_of_the_week_is_enough(tmp_path: Path, text: str) -> None:
    assert len(load(tmp_path, text, JOURNEY).quiet) in (1, 2)


def test_quiet_hours_without_an_offer_are_told(tmp_path: Path) -> None:
    text = render(check(load(tmp_path, quiet("sms", "21:00", "08:00", 'channels = ["sms"]'), JOURNEY)))
    assert "`$.quiet_hours[0]`: `sms`: no offer is sent on sms (see its channels and purposes)" in text


def test_offers_alike_for_quiet_hours_stay_on_the_fast_path(tmp_path: Path) -> None:
    offers = "".join(
        f'[[journeys.offers]]\nid = "{purpose}"\nchannel = "web"\npurpose = "{purpose}"\n'
        for purpose in ("marketing", "service")
    )
    journey = JOURNEY.partition("[[journeys.offers]]")[0] + offers
    web = 'channels = ["web"]'
    for declared, expected in (
        (NIGHT, 1),
        (quiet("web", "21:00", "08:00", web), 1),
        (quiet("web", "21:00", "08:00", web, MARKETING), 0),
    ):
        assert plain_journeys(load(tmp_path, declared, journey)).tolist() == [expected]
