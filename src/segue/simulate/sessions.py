"""What shoppers do in their sessions: all sessions of a block take their next step together, as arrays.

Online a shopper lands, browses, views products (often one again), fills a cart, checks out or leaves;
in a shop they enter, scan products, pay at the till or leave without. What a person keeps from session to
session (who they are, which card they hold, what they like) is a fixed function of their number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segue.limits import DAY_MS
from segue.simulate import lines as ln
from segue.simulate.catalogue import Catalogue
from segue.simulate.mixing import mix, pick
from segue.simulate.settings import SimulationSettings

Ints = NDArray[np.int64]

STEPS_MAX = 40
CART_LINES_MAX = 8
STEP_MS_MIN = 1_500
STEP_MS_MEAN = 14_000
FADING_PERCENT = 15  # of the customers: they come less and less
FADE_MS = 30 * DAY_MS  # from the first sign to the last visit
CALLED_SHARE = 0.12  # of the visits of known users who agreed to the channel: a message brought them
SPAM_SHARE = 0.01  # of the openings of email
NEVER_MS = 1 << 62

# what a shopper may do next ...
_ACTIONS = (
    "Products Searched", "Product List Viewed", "Promotion Viewed", "Promotion Clicked", "Product Clicked",
    "Product Viewed", "Product Added", "Product Removed", "Product Added to Wishlist", "Product Reviewed",
    "Cart Viewed", "Checkout Started", "Coupon Entered", "Order Completed", "Product Scanned",
    "Aisle Dwelled", "leave",
)  # fmt: skip
_ACTION = {name: number for number, name in enumerate(_ACTIONS)}
_LEAVE = _ACTION["leave"]
_KIND_OF_ACTION = np.array([ln.KINDS.get(name, 0) for name in _ACTIONS], dtype=np.int64)
# ... depends on what they did last
_LANDED, _BROWSING, _VIEWING, _FILLING, _PAYING, _PAID, _IN_SHOP = range(7)
_STATE_AFTER = np.array(
    [_BROWSING] * 5 + [_VIEWING, _FILLING] + [_VIEWING] * 3 + [_FILLING, _PAYING, _PAYING, _PAID]
    + [_IN_SHOP, _IN_SHOP, _PAID]
)  # fmt: skip
_CHOICES: dict[int, dict[str, float]] = {
    _LANDED: {"Product List Viewed": 0.35, "Products Searched": 0.25, "Product Viewed": 0.25,
              "Promotion Viewed": 0.15},
    _BROWSING: {"Product Viewed": 0.42, "Product Clicked": 0.14, "Product List Viewed": 0.13,
                "Products Searched": 0.08, "Promotion Clicked": 0.04, "leave": 0.19},
    _VIEWING: {"Product Viewed": 0.44, "Product List Viewed": 0.13, "Products Searched": 0.06,
               "Product Added": 0.13, "Product Added to Wishlist": 0.02, "Product Reviewed": 0.005,
               "leave": 0.215},
    _FILLING: {"Product Viewed": 0.3, "Product List Viewed": 0.1, "Cart Viewed": 0.16,
               "Checkout Started": 0.2, "Product Removed": 0.05, "leave": 0.19},
    _PAYING: {"Order Completed": 0.55, "Coupon Entered": 0.16, "Cart Viewed": 0.09, "leave": 0.2},
    _PAID: {"leave": 0.75, "Product Viewed": 0.25},
    _IN_SHOP: {"Product Scanned": 0.68, "Aisle Dwelled": 0.14, "leave": 0.18},
}  # fmt: skip


def _cumulated() -> NDArray[np.float64]:
    table = np.zeros((len(_CHOICES), len(_ACTIONS)))
    for state, choices in _CHOICES.items():
        for name, share in choices.items():
            table[state, _ACTION[name]] = share
    out = np.cumsum(table, axis=1)
    return out / out[:, -1:]


_CUMULATED = _cumulated()


@dataclass
class People:
    """Who customer n is, by number alone: a user of web and app, a card holder of the shops, or a visitor."""

    seed: int

    def is_user(self, who: Ints) -> NDArray[np.bool_]:
        return pick(who, 100, self.seed + 11) < 60

    def has_card(self, who: Ints) -> NDArray[np.bool_]:
        """Users may hold a card too; card holders who are no users buy in shops only."""
        kind = pick(who, 100, self.seed + 11)
        return (kind < 35) | ((kind >= 60) & (kind < 78))

    def device(self, who: Ints) -> Ints:
        """The anonymous id that a known device sends."""
        return mix(who, self.seed + 12) & 0x7FFF_FFFF_FFFF_FFFF

    def zone(self, who: Ints) -> Ints:
        """Number of the time zone that a login tells; -1 for half of the users, of whom nothing is known."""
        return np.where(
            pick(who, 100, self.seed + 15) < 50, pick(who, len(ln.ZONES), self.seed + 16), np.int64(-1)
        )

    def fading(self, who: Ints, since_start_ms: Ints, chance: NDArray[np.float64]) -> Ints:
        """Visits that do not happen because their customer is fading: some are, from one to six weeks after the start
        on, and a month later they hardly come any more."""
        some = np.flatnonzero(pick(who, 100, self.seed + 17) < FADING_PERCENT)
        fading_ms = since_start_ms[some] - (7 + pick(who[some], 36, self.seed + 18)) * DAY_MS
        return some[chance[some] * FADE_MS < fading_ms]

    def grants(self, who: Ints, channel: int) -> NDArray[np.bool_]:
        return pick(who, 100, self.seed + (13, 14, 19)[channel]) < (72, 55, 40)[channel]


class Emitted:
    """Events as they come out of the steps: a list of arrays each, joined once at the end of a block."""

    def __init__(self) -> None:
        self._parts: list[tuple[Ints, Ints, Ints, Ints, Ints]] = []

    def add(
        self, kind: Ints | int, session: Ints, time_ms: Ints, about: Ints | int = 0, detail: Ints | int = 1
    ) -> None:
        """kind: number of the template; about: the product (or amount, promotion, coupon, channel);
        detail: the quantity (of Order Completed: the order's number)."""
        size = session.size
        if size:
            self._parts.append(
                (_filled(kind, size), session, time_ms, _filled(about, size), _filled(detail, size))
            )

    def joined(self) -> tuple[Ints, Ints, Ints, Ints, Ints]:
        """(kind, session, time_ms, about, detail), each int64[events]."""
        kind, session, time_ms, about, detail = (np.concatenate(p) for p in zip(*self._parts, strict=True))
        return kind, session, time_ms, about, detail


def _filled(value: Ints | int, size: int) -> Ints:
    return np.full(size, value, dtype=np.int64) if isinstance(value, int) else value


class Sessions:
    """A block of sessions, walked to their ends.

    Arrays of a row per session: who, start_ms, in_shop, store, source, known_ms (from when on the person is
    known; NEVER_MS: not in this session), logs_in (begins unknown, with a device id of this session only).
    What came of them: `emitted`, `orders()` and `lines()`.
    """

    def __init__(
        self,
        settings: SimulationSettings,
        catalogue: Catalogue,
        who: Ints,
        start_ms: Ints,
        rng: np.random.Generator,
    ) -> None:
        n = who.size
        people = self._people = People(settings.seed)
        self.who, self.start_ms, self._rng, self._catalogue = who, start_ms, rng, catalogue
        user, card = people.is_user(who), people.has_card(who)
        self.in_shop = card & (~user | (rng.random(n) < 0.3))
        self.store = np.where(self.in_shop, rng.integers(0, settings.stores, n), -1)
        self.source = np.where(self.in_shop, ln.SHOP, np.where(rng.random(n) < 0.6, ln.WEB, ln.APP))
        # half of the users' visits begin before they log in
        self.logs_in = user & ~self.in_shop & (rng.random(n) < 0.5)
        self._login_step = np.where(self.logs_in, rng.integers(1, 9, n), -1)
        self.known_ms = np.where((user & ~self.logs_in) | self.in_shop, start_ms, NEVER_MS)
        self._coupon = np.full(n, -1, dtype=np.int64)
        # two products hold their interest for the day, one is new
        day = start_ms // 86_400_000
        self._interest = np.stack(
            (
                pick(who * 64 + day % 32 * 2, settings.products, settings.seed + 21),
                pick(who * 64 + day % 32 * 2 + 1, settings.products, settings.seed + 21),
                catalogue.popular(rng, n),
            ),
            axis=1,
        )
        self._cart = np.zeros((n, CART_LINES_MAX, 2), dtype=np.int64)
        self._quantity = np.ones(n, dtype=np.int64)  # of what they last put in or took out
        self._cart_lines = np.zeros(n, dtype=np.int64)
        self._cart_amount = np.zeros(n, dtype=np.int64)
        self.emitted = Emitted()
        self._order_lines: list[Ints] = []
        self._orders: list[tuple[Ints, ...]] = []
        self._order_total = self._line_total = 0
        self._come_by_message()
        self._walk()

    def lines(self) -> Ints:
        """The lines of all orders, int64[lines, LINE_COLUMNS]."""
        return np.concatenate([np.zeros((0, ln.LINE_COLUMNS), np.int64), *self._order_lines])

    def orders(self) -> tuple[Ints, Ints, Ints, Ints]:
        """(first line, lines, amount in cents, coupon or -1) of each order."""
        if not self._orders:
            none = np.zeros(0, dtype=np.int64)
            return none, none, none, none
        start, count, amount, coupon = (np.concatenate(p) for p in zip(*self._orders, strict=True))
        return start, count, amount, coupon

    def _come_by_message(self) -> None:
        """Visits that begin with an email opened and its link clicked, or with a push notification tapped."""
        out = self.emitted
        called = np.flatnonzero((self.known_ms == self.start_ms) & ~self.in_shop)
        called = called[self._rng.random(called.size) < CALLED_SHARE]
        by_push = self.source[called] == ln.APP
        email, push = called[~by_push], called[by_push]
        email = email[self._people.grants(self.who[email], ln.EMAIL)]
        push = push[self._people.grants(self.who[push], ln.PUSH)]
        out.add(ln.KINDS["Email Opened"], email, self.start_ms[email])
        out.add(ln.KINDS["Email Link Clicked"], email, self.start_ms[email] + 100)
        out.add(ln.KINDS["Push Notification Tapped"], push, self.start_ms[push])
        spam = email[self._rng.random(email.size) < SPAM_SHARE]
        out.add(ln.KINDS["Email Marked as Spam"], spam, self.start_ms[spam] + 120)

    def _walk(self) -> None:
        rng, out = self._rng, self.emitted
        alive = np.arange(self.who.size)
        state = np.where(self.in_shop, _IN_SHOP, _LANDED)
        now = self.start_ms.copy()
        product = self._interest[:, 0].copy()
        entered = np.flatnonzero(self.in_shop)
        out.add(ln.KINDS["Store Entered"], entered, now[entered])
        for step in range(STEPS_MAX):
            gap = rng.exponential(STEP_MS_MEAN, alive.size).astype(np.int64) + STEP_MS_MIN
            now[alive] += gap if step else gap // 8
            self._log_in(alive[self._login_step[alive] == step], now)
            chance = rng.random(alive.size)
            action = (chance[:, None] >= _CUMULATED[state[alive]]).sum(axis=1)
            if step == STEPS_MAX - 1:
                action[:] = _LEAVE
            self._look(alive, action, product)
            self._fill_cart(alive, action, product, now)
            leaving = action == _LEAVE
            ordering = action == _ACTION["Order Completed"]
            acting = ~(leaving | ordering)
            who = alive[acting]
            about = self._about(action[acting], who, product)
            out.add(_KIND_OF_ACTION[action[acting]], who, now[who], about, self._quantity[who])
            self._order(alive[ordering], now[alive[ordering]])
            self._use_coupon(alive[action == _ACTION["Coupon Entered"]], now)
            self._leave(alive[leaving], now)
            state[alive] = _STATE_AFTER[action]
            alive = alive[~leaving]
            if not alive.size:
                break

    def _look(self, alive: Ints, action: Ints, product: Ints) -> None:
        """The next product they view, click or scan: often the one from before, or one they came for."""
        moves = (
            (action == _ACTION["Product Viewed"])
            | (action == _ACTION["Product Clicked"])
            | (action == _ACTION["Product Scanned"])
        )
        who = alive[moves]
        chance = self._rng.random(who.size)
        fresh = self._catalogue.popular(self._rng, who.size)
        wanted = self._interest[who, self._rng.integers(0, 3, who.size)]
        again = (chance < 0.4) & ~self.in_shop[who]
        product[who] = np.where(again, product[who], np.where(chance < 0.8, wanted, fresh))

    def _about(self, action: Ints, session: Ints, product: Ints) -> Ints:
        """The product of each event, or the cart's amount, the promotion, the coupon."""
        about = product[session]
        cart = (action == _ACTION["Cart Viewed"]) | (action == _ACTION["Checkout Started"])
        about[cart] = self._cart_amount[session[cart]]
        shown = (action == _ACTION["Promotion Viewed"]) | (action == _ACTION["Promotion Clicked"])
        about[shown] = pick(session[shown] + self.start_ms[session[shown]], len(ln.PROMOTIONS))
        entered = action == _ACTION["Coupon Entered"]
        about[entered] = self._coupon_of(session[entered])
        return about

    def _fill_cart(self, alive: Ints, action: Ints, product: Ints, now: Ints) -> None:
        # what can't be done becomes a look: a full cart, an empty one, a checkout without anything
        view = _ACTION["Product Viewed"]
        count = self._cart_lines[alive]
        needs = (
            (action == _ACTION["Product Removed"])
            | (action == _ACTION["Checkout Started"])
            | (action == _ACTION["Order Completed"])
            | (action == _ACTION["Coupon Entered"])
        )
        action[needs & (count == 0)] = view
        action[(action == _ACTION["Product Added"]) & (count == CART_LINES_MAX)] = view
        scans = (action == _ACTION["Product Scanned"]) & (count < CART_LINES_MAX)
        adds = alive[(action == _ACTION["Product Added"]) | (scans & (self._rng.random(alive.size) < 0.7))]
        quantity = 1 + (self._rng.random(adds.size) < 0.15)
        self._cart[adds, self._cart_lines[adds], 0] = product[adds]
        self._cart[adds, self._cart_lines[adds], 1] = quantity
        self._quantity[adds] = quantity
        self._cart_lines[adds] += 1
        self._cart_amount[adds] += self._catalogue.price[product[adds]] * quantity
        removes = alive[action == _ACTION["Product Removed"]]
        self._cart_lines[removes] -= 1
        last = self._cart[removes, self._cart_lines[removes]]
        product[removes] = last[:, 0]
        self._quantity[removes] = last[:, 1]
        self._cart_amount[removes] -= self._catalogue.price[last[:, 0]] * last[:, 1]

    def _log_in(self, session: Ints, now: Ints) -> None:
        self.known_ms[session] = now[session] - 400
        zone = self._people.zone(self.who[session])
        self.emitted.add(ln.KINDS["identify"], session, now[session] - 400, zone)

    def _use_coupon(self, session: Ints, now: Ints) -> None:
        entered = self._coupon_of(session)
        accepted = self._rng.random(session.size) < 0.7
        self._coupon[session[accepted]] = entered[accepted]
        kind = np.where(accepted, ln.KINDS["Coupon Applied"], ln.KINDS["Coupon Denied"])
        self.emitted.add(kind, session, now[session] + 250, entered)

    def _coupon_of(self, session: Ints) -> Ints:
        return pick(session + self.start_ms[session], len(ln.COUPONS))

    def _order(self, session: Ints, time_ms: Ints) -> None:
        if not session.size:
            return
        count = self._cart_lines[session]
        held = np.arange(CART_LINES_MAX) < count[:, None]
        cart = self._cart[session][held]
        table = np.empty((cart.shape[0], ln.LINE_COLUMNS), dtype=np.int64)
        table[:, ln.LINE_PRODUCT] = cart[:, 0]
        table[:, ln.LINE_CATEGORY] = self._catalogue.category[cart[:, 0]]
        table[:, ln.LINE_PRICE] = self._catalogue.price[cart[:, 0]]
        table[:, ln.LINE_QUANTITY] = cart[:, 1]
        start = self._line_total + np.cumsum(count) - count
        self._order_lines.append(table)
        self._orders.append((start, count, self._cart_amount[session], self._coupon[session]))
        number = self._order_total + np.arange(session.size)
        self.emitted.add(ln.KINDS["Order Completed"], session, time_ms, 0, number)
        self._line_total += table.shape[0]
        self._order_total += session.size
        self._cart_lines[session] = 0
        self._cart_amount[session] = 0
        self._coupon[session] = -1

    def _leave(self, session: Ints, now: Ints) -> None:
        shop = self.in_shop[session]
        online = session[~shop]
        self.emitted.add(ln.KINDS["Session Ended"], online, now[online])
        visitors = session[shop]
        pays = visitors[(self._cart_lines[visitors] > 0) & (self._rng.random(visitors.size) < 0.8)]
        self._order(pays, now[pays])
        self.emitted.add(ln.KINDS["Store Exited"], visitors, now[visitors] + 45_000)
