"""Registers of consent against all that was said, kept and read through."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from segue.events.names import CHANNELS, CODE_BY_NAME, PURPOSES, consent_word, suppression_word
from segue_kernels import row
from segue_kernels.consent import EMAIL, GRANTED, SUPPRESSION, WITHDRAWN
from tests.kernels.drivers import START_MS, engine_of, quick, records_of, released, tables

SAID = st.one_of(
    st.tuples(st.just("Consent Changed"), st.integers(0, 2), st.integers(0, 1), st.booleans()),
    st.tuples(st.just("Unsubscribed"), st.integers(0, 2), st.just(-1), st.just(False)),
    st.tuples(
        st.sampled_from(("Email Bounced", "Email Marked as Spam")),
        st.just(EMAIL),
        st.just(-1),
        st.just(False),
    ),
    st.tuples(st.just("Product Viewed"), st.just(-1), st.just(-1), st.just(False)),
)


@quick(100)
@given(st.lists(st.tuples(SAID, st.integers(0, 3)), max_size=12))
def test_a_register_holds_what_was_said_last(steps: list[tuple[tuple[str, int, int, bool], int]]) -> None:
    events = []
    for number, ((name, channel, purpose, granted), seconds) in enumerate(steps):
        event = {"time": START_MS + 1_000 * seconds, "message": number + 1, "type": CODE_BY_NAME[name]}
        if name == "Consent Changed":
            event["consent"] = consent_word(channel, purpose, granted)
        elif name == "Unsubscribed":
            event["consent"] = suppression_word(channel)
        else:
            event["consent"] = 1 << 40 | consent_word(1, 1, True)  # a coupon's hash, which means nothing here
        events.append(event)
    engine = engine_of(tables([]))
    engine.process(released(*records_of([{"time": START_MS, "message": 99}, *events])))
    expected = []
    for channel in range(len(CHANNELS)):
        for purpose in range(len(PURPOSES)):
            said = [
                (seconds, SUPPRESSION if name != "Consent Changed" else GRANTED if granted else WITHDRAWN)
                for (name, of, about, granted), seconds in steps
                if of == channel and about in (-1, purpose)
            ]
            seconds, last = max(said, default=(0, -1))
            expected.append(4 * (START_MS + 1_000 * seconds) + last if said else 0)
    assert CHANNELS[EMAIL] == "email"
    assert engine.state.arrays.rows[row.CONSENT : row.CONSENT + row.CONSENT_WORDS].tolist() == expected
