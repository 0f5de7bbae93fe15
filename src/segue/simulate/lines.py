"""The lines a simulated shop writes: a template per kind of event, and the words of a row that fill it."""

from __future__ import annotations

from segue.simulate.json_writer import (
    Field,
    JsonWriter,
    hashed,
    integer,
    iso_time,
    lines,
    money,
    numbered,
    text,
    truth,
    word,
)

# words of a row; -1 in USER, LOYALTY, ANONYMOUS, and in STORE and COUPON of an order or identify, is "absent"
TEMPLATE, ID, TIME, SOURCE, USER, LOYALTY, ANONYMOUS, PRODUCT, CATEGORY, PRICE, QUANTITY = range(11)
STORE, COUPON, AMOUNT, CHANNEL, START, COUNT = range(11, 17)
COLUMNS = 17
# words of a line of an order
LINE_PRODUCT, LINE_CATEGORY, LINE_PRICE, LINE_QUANTITY = range(4)
LINE_COLUMNS = 4

SOURCES = ("web", "app", "shop", "till", "crm")
WEB, APP, SHOP, TILL, CRM = range(len(SOURCES))
CHANNELS = ("email", "push", "ads")
EMAIL, PUSH = 0, 1
CATEGORIES = (
    "bakery", "beauty", "books", "breakfast", "coffee", "dairy", "electronics", "fruit", "frozen", "games",
    "garden", "household", "kitchen", "outdoor", "pets", "shoes", "snacks", "sports", "stationery", "toys",
    "vegetables", "wine",
)  # fmt: skip
PROMOTIONS = ("spring-sale", "new-arrivals", "bundle-week", "members-only", "last-chance")
ZONES = (
    "Europe/Berlin", "Europe/London", "Europe/Madrid", "Europe/Helsinki", "America/New_York", "Asia/Tokyo",
)  # fmt: skip
COUPONS = ("WELCOME-10", "SPRING-15", "BUNDLE-20", "FREE-SHIPPING", "MEMBER-5")

_FIRST_SOURCE = len(CATEGORIES)
_FIRST_CHANNEL = _FIRST_SOURCE + len(SOURCES)
_FIRST_PROMOTION = _FIRST_CHANNEL + len(CHANNELS)
_FIRST_COUPON = _FIRST_PROMOTION + len(PROMOTIONS)
_FIRST_ZONE = _FIRST_COUPON + len(COUPONS)

_PRODUCT = [numbered("product_id", "product-", PRODUCT, 5), word("category", CATEGORY), money("price", PRICE)]
_CURRENCY = [text("currency", "EUR")]
_QUANTITY = [integer("quantity", QUANTITY)]
_CATEGORY = [word("category", CATEGORY)]
_STORE = [numbered("store_id", "store-", STORE, 3)]
_COUPON = [word("coupon_id", COUPON, _FIRST_COUPON)]
_PROMOTION = [word("promotion_id", PRODUCT, _FIRST_PROMOTION)]
_CONSENT = [word("channel", CHANNEL, _FIRST_CHANNEL), text("purpose", "marketing")]
_AMOUNT = [money("amount", AMOUNT)]
_ZONE = [word("timezone", COUPON, _FIRST_ZONE, optional=True)]

_ORDER_LINE = 0  # the template of an order's lines; the others are numbered by their place in KINDS
_FIELDS: dict[str, list[Field]] = {
    "Products Searched": _CATEGORY,
    "Product List Viewed": _CATEGORY,
    "Product Viewed": _PRODUCT + _QUANTITY + _CURRENCY,
    "Product Clicked": _PRODUCT + _QUANTITY + _CURRENCY,
    "Product Added": _PRODUCT + _QUANTITY + _CURRENCY,
    "Product Removed": _PRODUCT + _QUANTITY + _CURRENCY,
    "Cart Viewed": _AMOUNT + _CURRENCY,
    "Checkout Started": _AMOUNT + _CURRENCY,
    "Order Completed": [
        numbered("store_id", "store-", STORE, 3, optional=True),
        word("coupon_id", COUPON, _FIRST_COUPON, optional=True),
        *_CURRENCY,
        *_AMOUNT,
        lines("products", START, COUNT, _ORDER_LINE),
    ],
    "Order Refunded": _PRODUCT + _QUANTITY + _CURRENCY + _AMOUNT + _STORE,
    "Promotion Viewed": _PROMOTION,
    "Promotion Clicked": _PROMOTION,
    "Coupon Entered": _COUPON,
    "Coupon Applied": _COUPON,
    "Coupon Denied": _COUPON,
    "Product Added to Wishlist": _PRODUCT + _CURRENCY,
    "Product Reviewed": _PRODUCT + _CURRENCY,
    "Unsubscribed": [],
    "identify": _ZONE,
    "Store Entered": _STORE,
    "Store Exited": _STORE,
    "Product Scanned": _PRODUCT + _CURRENCY + _STORE,
    "Aisle Dwelled": _CATEGORY + _STORE,
    "Consent Changed": [*_CONSENT, truth("granted", True)],
    "Consent Changed, withdrawn": [*_CONSENT, truth("granted", False)],
    "Session Ended": [],
    "Email Opened": [],
    "Email Link Clicked": [],
    "Email Marked as Spam": [],
    "Push Notification Tapped": [],
}
KINDS = {name: number for number, name in enumerate(_FIELDS, start=1)}


def _line(name: str, own: list[Field]) -> list[Field]:
    return [
        hashed("id", "event-", ID),
        text("type", name.split(",")[0]),
        iso_time("time", TIME),
        word("source", SOURCE, _FIRST_SOURCE),
        numbered("userId", "customer-", USER, 7, optional=True),
        numbered("loyaltyId", "card-", LOYALTY, 7, optional=True),
        hashed("anonymousId", "device-", ANONYMOUS, optional=True),
        *own,
    ]


def writer() -> JsonWriter:
    """The writer of all kinds of lines; a row's TEMPLATE is the number of its kind in KINDS."""
    order_line = [
        numbered("product_id", "product-", LINE_PRODUCT, 5),
        word("category", LINE_CATEGORY),
        money("price", LINE_PRICE),
        integer("quantity", LINE_QUANTITY),
    ]
    return JsonWriter(
        [order_line, *(_line(name, own) for name, own in _FIELDS.items())],
        nested=(_ORDER_LINE,),
        words=CATEGORIES + SOURCES + CHANNELS + PROMOTIONS + COUPONS + ZONES,
    )
