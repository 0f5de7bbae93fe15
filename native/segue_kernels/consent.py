"""A register of consent: one channel and purpose of a customer, in one word that orders what was said about it.

Last writer wins by event time; at equal times a withdrawal beats a grant, and a suppression both. So registers are
joined by their greater word, in any order. A suppression (the customer unsubscribed, the mail bounced or was marked as
spam) works like a withdrawal and is told apart for the reason alone.
"""

from __future__ import annotations

from segue_kernels.jit import Array, inline
from segue_kernels.record import CONSENT as RECORD_CONSENT
from segue_kernels.record import TIME
from segue_kernels.row import CONSENT
from segue_kernels.shard import NO_CONSENT, SUPPRESSED, WON, Shard

# a register: 4 * time in ms + one of these; 0 = never heard of
GRANTED = 0
WITHDRAWN = 1
SUPPRESSION = 2
SAID_BITS = 2
SAID_MASK = (1 << SAID_BITS) - 1

# a CODE word of record.py about consent
WORD_PURPOSE_SHIFT = 8
WORD_GRANTED = 1 << 16
WORD_SUPPRESSED = 1 << 17  # of the channel, for every purpose
WORD_PRESENT = 1 << 24

PURPOSES = 2
EMAIL = 0  # the channel of events that bounce or are marked as spam


@inline
def note(shard: Shard, at: int, register: int) -> None:
    """Let the register at this word hold what was said, unless it holds what counts more."""
    if register > shard.rows[at]:
        shard.rows[at] = register


@inline
def suppress(shard: Shard, base: int, channel: int, time: int) -> None:
    """Nothing more on this channel, whatever the purpose."""
    register = (time << SAID_BITS) | SUPPRESSION
    for purpose in range(PURPOSES):
        note(shard, base + CONSENT + channel * PURPOSES + purpose, register)


@inline
def note_consent(shard: Shard, records: Array, i: int, base: int, has_word: bool) -> None:
    """Take what record i says: in its CODE word, which is taken away; or without one, that mail is not wanted."""
    time = records[i, TIME]
    if not has_word:
        suppress(shard, base, EMAIL, time)
        return
    word = records[i, RECORD_CONSENT]
    if word & WORD_PRESENT:
        channel = word & 0xFF
        if word & WORD_SUPPRESSED:
            suppress(shard, base, channel, time)
        else:
            purpose = (word >> WORD_PURPOSE_SHIFT) & 0xFF
            said = GRANTED if word & WORD_GRANTED else WITHDRAWN
            note(shard, base + CONSENT + channel * PURPOSES + purpose, (time << SAID_BITS) | said)
        records[i, RECORD_CONSENT] = 0  # it is the event's code from here on: none


@inline
def refusal(register: int, least: int) -> int:
    """WON if a register allows an action, else why not: NO_CONSENT or SUPPRESSED. `least`: the least register that
    does, 0 where not having heard of it is consent, else 1."""
    said = register & SAID_MASK
    if said == GRANTED:
        return WON if register >= least else NO_CONSENT
    return SUPPRESSED if said == SUPPRESSION else NO_CONSENT
