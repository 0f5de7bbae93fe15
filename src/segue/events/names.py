"""The closed registry of event types: a name has one code for ever. New names are appended, none is moved.

Names are the Segment spec's, letter for letter, and the shop's own; GA4's are mapped at the door.
"""

from __future__ import annotations

NAMES: tuple[str, ...] = (
    # browse
    "Products Searched",
    "Product List Viewed",
    "Product Viewed",
    "Product Clicked",
    # cart and order
    "Product Added",
    "Product Removed",
    "Cart Viewed",
    "Checkout Started",
    "Order Completed",
    "Order Refunded",
    "Order Cancelled",
    # promotion and coupon
    "Promotion Viewed",
    "Promotion Clicked",
    "Coupon Entered",
    "Coupon Applied",
    "Coupon Denied",
    "Coupon Removed",
    # wishlist and review
    "Product Added to Wishlist",
    "Product Removed from Wishlist",
    "Product Reviewed",
    # channel feedback
    "Email Delivered",
    "Email Opened",
    "Email Link Clicked",
    "Email Bounced",
    "Email Marked as Spam",
    "Unsubscribed",
    "Push Notification Received",
    "Push Notification Tapped",
    "Experiment Viewed",
    # identity
    "identify",
    "alias",
    "page",
    "screen",
    # added for shops
    "Store Entered",
    "Store Exited",
    "Store Nearby",
    "Product Scanned",
    "Aisle Dwelled",
    "Consultation Held",
    "Product Tried",
    "Appointment Booked",
    "Badge Scanned",
    "Survey Answered",
    "Loyalty Enrolled",
    "Consent Changed",
    "Support Case Opened",
    "Support Case Closed",
    "Inventory Updated",
    "Price Updated",
    "Profile Erasure Requested",
    "Session Ended",
    "Exit Intended",
    "Action Delivered",
    "Action Viewed",
    "Action Clicked",
    "Action Dismissed",
    "Action Failed",
    # rows of tables, with any of their fields
    "Catalogue Updated",
    "Price Row Updated",
    "Stock Row Updated",
    "Profile Updated",
)
CODE_BY_NAME: dict[str, int] = {name: code for code, name in enumerate(NAMES, start=1)}

GA4_NAMES: dict[str, str] = {
    "search": "Products Searched",
    "view_search_results": "Products Searched",
    "view_item_list": "Product List Viewed",
    "view_item": "Product Viewed",
    "select_item": "Product Clicked",
    "add_to_cart": "Product Added",
    "remove_from_cart": "Product Removed",
    "view_cart": "Cart Viewed",
    "begin_checkout": "Checkout Started",
    "purchase": "Order Completed",
    "refund": "Order Refunded",
    "view_promotion": "Promotion Viewed",
    "select_promotion": "Promotion Clicked",
    "add_to_wishlist": "Product Added to Wishlist",
}

# every spelling a message may use
CODE_BY_SPELLING: dict[str, int] = {
    **CODE_BY_NAME,
    **{spelling: CODE_BY_NAME[name] for spelling, name in GA4_NAMES.items()},
}

IDENTIFY = CODE_BY_NAME["identify"]
ALIAS = CODE_BY_NAME["alias"]
UNSUBSCRIBED = CODE_BY_NAME["Unsubscribed"]
# mail did not arrive or was not wanted: an end to all mail
MAIL_REFUSED_CODES: tuple[int, ...] = (CODE_BY_NAME["Email Bounced"], CODE_BY_NAME["Email Marked as Spam"])
CONSENT_CHANGED = CODE_BY_NAME["Consent Changed"]
# who may be addressed: consent, and suppressions
ABOUT_CONSENT_CODES: tuple[int, ...] = (CONSENT_CHANGED, UNSUBSCRIBED, *MAIL_REFUSED_CODES)
ERASURE = CODE_BY_NAME["Profile Erasure Requested"]
# rows of tables, in the order of plan.TABLE_*
ROW_CODES: tuple[int, ...] = tuple(
    CODE_BY_NAME[name]
    for name in ("Catalogue Updated", "Price Row Updated", "Stock Row Updated", "Profile Updated")
)
# what they say holds from its time on however late it comes: consent, who somebody is, who is to be forgotten, and
# rows of tables, whose time may be that of their last change long ago
NEVER_LATE_CODES: tuple[int, ...] = (*ABOUT_CONSENT_CODES, IDENTIFY, ALIAS, ERASURE, *ROW_CODES)
# they change tables, and reach no customer's state
REFERENCE_CODES: tuple[int, ...] = (
    CODE_BY_NAME["Inventory Updated"],
    CODE_BY_NAME["Price Updated"],
    *ROW_CODES,
)

# what a customer does himself: these make a session; messages that reach him, consent and the shop's data do not
ACTIVITY_NAMES: tuple[str, ...] = (
    *("Products Searched", "Product List Viewed", "Product Viewed", "Product Clicked"),
    *("Product Added", "Product Removed", "Cart Viewed", "Checkout Started"),
    *("Order Completed", "Order Refunded", "Order Cancelled"),
    *("Promotion Viewed", "Promotion Clicked"),
    *("Coupon Entered", "Coupon Applied", "Coupon Denied", "Coupon Removed"),
    *("Product Added to Wishlist", "Product Removed from Wishlist", "Product Reviewed"),
    *("Email Opened", "Email Link Clicked", "Push Notification Tapped", "page", "screen"),
    *("Store Entered", "Store Exited", "Store Nearby", "Product Scanned", "Aisle Dwelled"),
    *("Consultation Held", "Product Tried", "Appointment Booked", "Badge Scanned", "Survey Answered"),
    *("Loyalty Enrolled", "Support Case Opened", "Session Ended", "Exit Intended"),
)
ACTIVITY_CODES: tuple[int, ...] = tuple(sorted(CODE_BY_NAME[name] for name in ACTIVITY_NAMES))

CHANNELS: tuple[str, ...] = ("email", "push", "sms", "web", "till", "ads", "call", "mail")
PURPOSES: tuple[str, ...] = ("marketing", "service")
PURPOSE_DEFAULT = "marketing"
CHANNEL_DEFAULT = "email"  # of Unsubscribed


def consent_word(channel: int, purpose: int, granted: bool) -> int:
    """The CODE word of Consent Changed: channel | purpose << 8 | granted << 16 | present << 24."""
    return channel | purpose << 8 | int(granted) << 16 | 1 << 24


def suppression_word(channel: int) -> int:
    """The CODE word of Unsubscribed: channel | suppressed << 17 | present << 24. It is for every purpose."""
    return channel | 1 << 17 | 1 << 24


def type_name(code: int) -> str:
    """The name of an event type code; a code nobody gave out reads `type <code>`."""
    return NAMES[code - 1] if 0 < code <= len(NAMES) else f"type {code}"
