"""The stream of a simulated retailer: sessions block by block, in order of arrival, as JSON Lines.

The same settings give the same bytes. Memory is bounded whatever the number of events: a block of sessions,
what of it has not arrived yet, a byte a customer, and REFUNDS_PENDING_MAX returns to come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from segue.limits import DAY_MS, HOUR_MS, MINUTE_MS
from segue.simulate import lines as ln
from segue.simulate.arrivals import Arrivals
from segue.simulate.catalogue import Catalogue
from segue.simulate.mixing import mix, pick
from segue.simulate.sessions import NEVER_MS, Ints, People, Sessions
from segue.simulate.settings import SimulationSettings

EVENTS_PER_SESSION = 8.0  # on average, about: what makes a rate of events out of a rate of sessions
BLOCK_SESSIONS_MIN = 4_096
BLOCK_SESSIONS_MAX = 16_384
BLOCK_MS = 10 * MINUTE_MS  # as long as that, if it fits: then most events arrive in their own block
REFUNDS_PENDING_MAX = 65_536  # a return that finds no room does not happen
REFUND_SHARE = 0.06  # of the orders of known customers
REFUND_AFTER_MS = (5 * MINUTE_MS, 3 * DAY_MS)
OUT_OF_ORDER_MS_MAX = 5_000
LATE_MS = (6 * MINUTE_MS, 30 * MINUTE_MS)
DUPLICATE_MS_MAX = MINUTE_MS
CHANGE_OF_MIND_SHARE = 0.006  # sessions of known customers that withdraw a consent

# how busy the hours of a day are (UTC)
_HOURS = (3, 2, 1, 1, 1, 2, 5, 9, 12, 13, 14, 14, 15, 13, 12, 12, 13, 15, 16, 17, 18, 16, 11, 6)
_DAY_SHARE = np.concatenate(([0.0], np.cumsum(_HOURS))) / sum(_HOURS)
_HOUR_MS = np.arange(25) * float(HOUR_MS)


class Shoppers:
    """A simulated retailer, block after block."""

    def __init__(self, settings: SimulationSettings) -> None:
        self._settings = settings
        self._catalogue = Catalogue(settings)
        self._people = People(settings.seed)
        self._asked = np.zeros(settings.customers, dtype=np.bool_)  # who has been asked for consent
        self._arrivals = Arrivals(ln.COLUMNS, ln.LINE_COLUMNS, ln.START)
        self._refunds = Arrivals(ln.COLUMNS)
        sessions_per_ms = settings.rate / EVENTS_PER_SESSION / 1_000
        self._gap_days = 1 / (sessions_per_ms * DAY_MS)
        self._block_sessions = int(
            min(BLOCK_SESSIONS_MAX, max(BLOCK_SESSIONS_MIN, sessions_per_ms * BLOCK_MS))
        )
        day, of_day = divmod(settings.start_ms, DAY_MS)
        self._days = day + float(np.interp(of_day, _HOUR_MS, _DAY_SHARE))  # activity so far: a day each 1.0
        self._block = self._sessions = self._events = 0

    def next_block(self) -> tuple[Ints, Ints, Ints]:
        """(rows, order, lines) of what arrives in the next block of time."""
        rng = np.random.default_rng([self._settings.seed, 2, self._block])
        n = self._block_sessions
        days = self._days + np.cumsum(rng.exponential(self._gap_days, n))
        self._days = float(days[-1])
        whole = np.floor(days)
        start_ms = whole.astype(np.int64) * DAY_MS
        start_ms += np.interp(days - whole, _DAY_SHARE, _HOUR_MS).astype(np.int64)
        # some come often, most seldom; no one so often that they look like a bot
        chance = rng.random(n)
        who = (self._settings.customers * (chance * np.sqrt(chance))).astype(np.int64)
        away = self._people.fading(who, start_ms - self._settings.start_ms, rng.random(n))
        # somebody else comes instead: as many visits as before
        who[away] = pick(who[away] + start_ms[away], self._settings.customers, self._settings.seed + 5)
        sessions = Sessions(self._settings, self._catalogue, who, start_ms, rng)
        self._ask_for_consent(sessions, rng)
        self._add(sessions, int(start_ms[-1]), rng)
        self._block += 1
        self._sessions += n
        return self._arrivals.take(int(start_ms[-1]))

    def _ask_for_consent(self, sessions: Sessions, rng: np.random.Generator) -> None:
        """Once a customer, when they are first known; a few take one back later."""
        by_time = np.argsort(sessions.known_ms, kind="stable")
        by_time = by_time[sessions.known_ms[by_time] < NEVER_MS]
        who = sessions.who[by_time]
        _, first = np.unique(who, return_index=True)
        first = first[~self._asked[who[first]]]
        new = np.sort(by_time[first])
        self._asked[sessions.who[new]] = True
        for channel in range(len(ln.CHANNELS)):
            grants = new[self._people.grants(sessions.who[new], channel)]
            time_ms = sessions.known_ms[grants] + 150 * (channel + 1)
            sessions.emitted.add(ln.KINDS["Consent Changed"], grants, time_ms, channel)
        known = by_time[rng.random(by_time.size) < CHANGE_OF_MIND_SHARE]
        channel_of = rng.integers(0, 2, known.size)
        unsubscribes = (channel_of == 0) & (rng.random(known.size) < 0.5)
        kind = np.where(unsubscribes, ln.KINDS["Unsubscribed"], ln.KINDS["Consent Changed, withdrawn"])
        sessions.emitted.add(kind, known, sessions.known_ms[known] + 5_000, channel_of)

    def _add(self, sessions: Sessions, until_ms: int, rng: np.random.Generator) -> None:
        """The block's events become rows and find their time of arrival."""
        settings, catalogue = self._settings, self._catalogue
        kind, session, time_ms, about, detail = sessions.emitted.joined()
        n = kind.size
        who = sessions.who[session]
        known = time_ms >= sessions.known_ms[session]
        user = self._people.is_user(who)
        card = self._people.has_card(who) & (known | ~user)
        in_shop = sessions.in_shop[session]
        own_device = ~sessions.logs_in[session]
        cookie = mix(session + self._sessions, settings.seed + 3) & 0x7FFF_FFFF_FFFF_FFFF

        rows = np.zeros((n, ln.COLUMNS), dtype=np.int64)
        rows[:, ln.TEMPLATE] = kind
        rows[:, ln.TIME] = time_ms
        rows[:, ln.SOURCE] = sessions.source[session]
        rows[:, ln.USER] = np.where(user & known, who, -1)
        rows[:, ln.LOYALTY] = np.where(card, who, -1)
        rows[:, ln.ANONYMOUS] = np.where(in_shop, -1, np.where(own_device, self._people.device(who), cookie))
        rows[:, ln.STORE] = sessions.store[session]
        rows[:, ln.COUPON] = about
        rows[:, ln.QUANTITY] = detail
        rows[:, ln.AMOUNT] = about
        rows[:, ln.CHANNEL] = about
        rows[:, ln.PRODUCT] = about
        # where `about` is no product but a cart's amount, say, category and price are not written
        product = np.minimum(about, settings.products - 1)
        rows[:, ln.CATEGORY] = catalogue.category[product]
        rows[:, ln.PRICE] = catalogue.price[product]

        start, count, amount, coupon = sessions.orders()
        ordered = np.flatnonzero(kind == ln.KINDS["Order Completed"])
        order = detail[ordered]
        rows[ordered, ln.START] = start[order]
        rows[ordered, ln.COUNT] = count[order]
        rows[ordered, ln.AMOUNT] = amount[order]
        rows[ordered, ln.COUPON] = coupon[order]
        rows[ordered, ln.SOURCE] = np.where(in_shop[ordered], ln.TILL, rows[ordered, ln.SOURCE])
        self._plan_refunds(rows, sessions.lines(), ordered[known[ordered]], rng)

        due, due_order, _ = self._refunds.take(until_ms)
        rows = np.concatenate((rows, due[due_order]))
        rows[:, ln.ID] = mix(self._events + np.arange(rows.shape[0]), settings.seed + 4)
        self._events += rows.shape[0]
        self._let_arrive(rows, sessions.lines(), rng)

    def _plan_refunds(self, rows: Ints, lines: Ints, ordered: Ints, rng: np.random.Generator) -> None:
        """Some bring the first line of an order back to a shop, minutes to days later."""
        picked = ordered[rng.random(ordered.size) < REFUND_SHARE]
        picked = picked[: max(0, REFUNDS_PENDING_MAX - len(self._refunds))]
        if not picked.size:
            return
        due = rows[picked].copy()
        line = lines[due[:, ln.START]]
        due[:, ln.TEMPLATE] = ln.KINDS["Order Refunded"]
        delay_ms = np.exp(rng.uniform(np.log(REFUND_AFTER_MS[0]), np.log(REFUND_AFTER_MS[1]), picked.size))
        due[:, ln.TIME] += delay_ms.astype(np.int64)
        due[:, ln.SOURCE] = ln.TILL
        due[:, ln.STORE] = pick(due[:, ln.TIME], self._settings.stores)
        due[:, ln.PRODUCT] = line[:, ln.LINE_PRODUCT]
        due[:, ln.CATEGORY] = line[:, ln.LINE_CATEGORY]
        due[:, ln.PRICE] = line[:, ln.LINE_PRICE]
        due[:, ln.QUANTITY] = line[:, ln.LINE_QUANTITY]
        due[:, ln.AMOUNT] = line[:, ln.LINE_PRICE] * line[:, ln.LINE_QUANTITY]
        due[:, ln.ANONYMOUS] = -1
        due[:, [ln.START, ln.COUNT]] = 0
        self._refunds.add(due, due[:, ln.TIME])

    def _let_arrive(self, rows: Ints, lines: Ints, rng: np.random.Generator) -> None:
        settings, n = self._settings, rows.shape[0]
        arrival_ms = rows[:, ln.TIME].copy()
        tardy = np.flatnonzero(rng.random(n) < settings.out_of_order_share)
        arrival_ms[tardy] += rng.integers(1, OUT_OF_ORDER_MS_MAX + 1, tardy.size)
        late = np.flatnonzero(rng.random(n) < settings.late_share)
        arrival_ms[late] += rng.integers(*LATE_MS, late.size)
        twice = np.flatnonzero(rng.random(n) < settings.duplicate_share)
        again = arrival_ms[twice] + rng.integers(1, DUPLICATE_MS_MAX + 1, twice.size)
        self._arrivals.add(np.concatenate((rows, rows[twice])), np.concatenate((arrival_ms, again)), lines)


def simulate(settings: SimulationSettings | None = None) -> Iterator[NDArray[np.uint8]]:
    """Blocks of whole JSON lines (uint8 arrays, the caller's to keep), in order of arrival."""
    for block, _ in _blocks(settings or SimulationSettings()):
        yield block


def write_simulation(
    settings: SimulationSettings, stream: BinaryIO, progress: Callable[[int], None] | None = None
) -> int:
    """Write to a binary stream; the number of bytes. `progress` is told the events of each block."""
    size = 0
    for block, events in _blocks(settings):
        stream.write(block.data)
        size += block.size
        if progress is not None:
            progress(events)
    return size


def _blocks(settings: SimulationSettings) -> Iterator[tuple[NDArray[np.uint8], int]]:
    shoppers = Shoppers(settings)
    writer = ln.writer()
    left = settings.events
    while left > 0:
        rows, order, lines = shoppers.next_block()
        order = order[:left]
        left -= order.size
        for block in writer.write(rows, order, lines):
            yield block, int(np.count_nonzero(block == 10))
