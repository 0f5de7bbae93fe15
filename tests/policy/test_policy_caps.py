"""Caps in policy files: what they become, what they cost, what contradicts, and what `segue check` says of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segue.decide.bench import plain_journeys
from segue.errors import PolicyError
from segue.events.names import CHANNELS
from segue.limits import CAPS_MAX, DAY_MS, HOUR_MS
from segue.policy.check import check, render
from segue.policy.compiled import CompiledPolicies
from segue.policy.load import load_policies
from segue.policy.plan import CALENDAR_MS_MAX
from segue.state.layout import Change, layout_of
from segue_kernels import plan

SECRET = bytes(16)
JOURNEY = """
[[journeys]]
id = "j"
on = ["Product Viewed"]
when = "True"
[[journeys.offers]]
id = "o"
channel = "email"
"""


def cap(name: str, times: int, window: str, *fields: str) -> str:
    return "\n".join(["[[caps]]", f'id = "{name}"', f"times = {times}", window, *fields, ""])


def load(folder: Path, *parts: str) -> CompiledPolicies:
    file = folder / "p.toml"
    file.write_text('policy = "p"\nversion = 1\n' + "".join(parts), encoding="utf-8")
    return load_policies([folder], secret=SECRET, native=False)


EMAIL = 'channels = ["email"]'
MARKETING = 'purposes = ["marketing"]'
WEEK, GAP, DAY = 'within = "7d"', 'within = "4h"', 'calendar = "day"'


def test_caps_with_the_same_scope_share_a_stream(tmp_path: Path) -> None:
    compiled = load(
        tmp_path,
        cap("week", 3, WEEK, EMAIL, MARKETING),
        cap("gap", 1, GAP, EMAIL, MARKETING),
        cap("day", 2, DAY, EMAIL, MARKETING),
        cap("all", 4, DAY),
        JOURNEY,
    )
    rows = compiled.streams[compiled.streams[:, plan.STREAM_TYPE] == plan.CAP_TYPE]
    assert sorted(rows[:, [plan.STREAM_FIELD, plan.STREAM_K]].tolist()) == [[1, 3], [0xFFFF, 4]]
    assert rows[:, plan.STREAM_AREA_WORDS].tolist() == rows[:, plan.STREAM_K].tolist()
    assert sorted(rows[:, plan.STREAM_WINDOW_MS].tolist()) == [CALENDAR_MS_MAX[plan.WINDOW_DAY], 7 * DAY_MS]
    assert compiled.caps[:, [plan.CAP_TIMES, plan.CAP_WINDOW]].tolist() == [
        [3, 7 * DAY_MS],
        [1, 4 * HOUR_MS],
        [2, plan.WINDOW_DAY],
        [4, plan.WINDOW_DAY],
    ]
    counted = [
        compiled.cap[s:e].tolist() for s, e in zip(compiled.cap_start, compiled.cap_start[1:], strict=False)
    ]
    assert counted == [[0, 1, 2, 3], *[[3]] * 15]
    assert np.diff(compiled.charge_start).tolist() == [2, *[1] * 15]  # once a stream, not once a cap
    assert compiled.offers[0, plan.OFFER_CONTACT] == 0
    assert len(compiled.moments) == 0  # windows by the calendar are asked for where something may be sent
    report = check(compiled)
    assert (report.caps, report.cap_bytes, report.warnings) == (4, 7 * 8, ())
    text = render(report)
    for line in (
        "    week: at most 3 on email for marketing within 7d\n",
        "    day: at most 2 on email for marketing a calendar day\n",
        "    all: at most 4 on all channels a calendar day\n",
        "    3 times of actions on email for marketing within 7d: 24 bytes\n",
        "caps: 4, 56 bytes of it a customer",
    ):
        assert line in text


def test_policies_without_caps_have_none_of_it(tmp_path: Path) -> None:
    compiled = load(tmp_path, JOURNEY)
    assert len(compiled.caps) == len(compiled.cap) == len(compiled.charge) == len(compiled.streams) == 0
    assert "\ncaps: " not in render(check(compiled))


@pytest.mark.parametrize(
    ("text", "path", "message", "hint"),
    [
        (cap("c", 0, WEEK), "$.caps[0].times", ">= 1", "at least 1"),
        (cap("c", 2_000, WEEK), "$.caps[0].times", "2000", "at most 1024"),
        (cap("c", 1, ""), "$.caps[0]`", "neither", "one window"),
        (cap("c", 1, WEEK, DAY), "$.caps[0]`", "both", "one window"),
        (cap("c", 1, 'within = "0d"'), "$.caps[0].within", '"0d" is out of range', "more than 0"),
        (cap("c", 1, 'within = "99999d"'), "$.caps[0].within", "out of range", "at most"),
        (cap("c", 1, 'within = "week"'), "$.caps[0].within", '"week"', "30m"),
        (cap("c", 1, 'calendar = "weak"'), "$.caps[0].calendar", '"weak"', 'did you mean "week"?'),
        (
            cap("c", 1, WEEK, 'channels = ["email", "mial"]'),
            "$.caps[0].channels[1]",
            "mial",
            'did you mean "mail"?',
        ),
        (cap("c", 1, WEEK, 'channels = ["sms", "sms"]'), "$.caps[0].channels[1]", "twice", "once"),
        (cap("c", 1, WEEK, "channels = []"), "$.caps[0].channels", "length >= 1", "at least 1"),
        (cap("c", 1, WEEK, 'purposes = ["ads"]'), "$.caps[0].purposes[0]", "ads", "marketing"),
        (cap("c", 1, WEEK, 'journey = "j"'), "$.caps[0]`", "no field `journey`", ""),
        (cap("c", 1, WEEK) * 2, "$.caps[1].id", "is the id of a cap in", "unique"),
        (
            cap("c", 1, WEEK) + cap("d", 2, 'within = "1w"'),
            "$.caps[1]",
            "times = 2 here, times = 1 in the cap `c`",
            "",
        ),
        (
            "".join(cap(f"c{n}", 1, f'within = "{n + 1}h"') for n in range(CAPS_MAX + 1)),
            f"$.caps[{CAPS_MAX}]",
            f"more than {CAPS_MAX} caps",
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


WIDE = cap("wide", 3, WEEK)


@pytest.mark.parametrize(
    ("caps", "told"),
    [
        (WIDE + cap("narrow", 3, WEEK, EMAIL), "`$.caps[1]`: `narrow`, times = 3, never matters: `wide:"),
        (WIDE + cap("short", 5, 'within = "1d"'), "`short`, times = 5, never matters"),
        (WIDE + cap("day", 3, DAY), "`day`, times = 3, never matters"),
        (cap("month", 2, 'calendar = "month"') + cap("day", 2, DAY), "`day`, times = 2, never matters"),
        (cap("sms", 2, DAY, 'channels = ["sms"]'), "`sms`, times = 2: no offer is sent on sms"),
        (WIDE + cap("narrow", 2, WEEK, EMAIL), ""),
        (WIDE + cap("short", 2, 'within = "1d"'), ""),
        (cap("month", 2, 'calendar = "month"') + cap("week", 2, 'calendar = "week"'), ""),
        (cap("day", 1, DAY) + cap("gap", 1, 'within = "1h"'), ""),  # midnight lies between
        (cap("near", 1, 'within = "24h"') + cap("day", 1, DAY), ""),  # a day may have 25 hours
        (cap("email", 2, WEEK, EMAIL) + cap("all", 2, WEEK), "`email`, times = 2, never matters: `all:"),
        (cap("email", 2, WEEK, EMAIL) + cap("all", 3, WEEK), ""),
    ],
)
def test_caps_that_never_matter_are_told(tmp_path: Path, caps: str, told: str) -> None:
    compiled = load(tmp_path, caps, JOURNEY)
    text = render(check(compiled))
    if told:
        assert f"warning: {tmp_path / 'p.toml'}: " in text
        assert told in text
        assert text.count("warning: ") == 1
    else:
        assert "warning" not in text


def test_offers_alike_for_caps_stay_on_the_fast_path(tmp_path: Path) -> None:
    offers = "".join(
        f'[[journeys.offers]]\nid = "{purpose}"\nchannel = "web"\npurpose = "{purpose}"\n'
        for purpose in ("marketing", "service")
    )
    journey = JOURNEY.partition("[[journeys.offers]]")[0] + offers
    web = 'channels = ["web"]'
    for caps, expected in (
        ("", 1),
        (cap("all", 1, WEEK), 1),
        (cap("web", 1, WEEK, web), 1),
        (cap("web", 1, WEEK, web, MARKETING), 0),
        (cap("email", 1, WEEK, EMAIL, MARKETING), 1),
    ):
        assert plain_journeys(load(tmp_path, caps, journey)).tolist() == [expected]


def test_what_was_counted_is_carried_over_by_what_it_is_of(tmp_path: Path) -> None:
    """Names, times and windows may change; the first scope's number does when another one comes before it."""
    old = layout_of(load(tmp_path, cap("email", 2, WEEK, EMAIL), JOURNEY))
    new = layout_of(load(tmp_path, cap("any", 5, DAY), cap("mails", 3, DAY, EMAIL), JOURNEY))
    sentences = Change(old, new).sentences
    assert sentences == ["histories: 1 kept, 1 new and empty (times of actions on all channels)"]
    assert len(CHANNELS) * 2 == plan.CONTACTS
