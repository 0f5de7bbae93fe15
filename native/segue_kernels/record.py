"""The event record: sixteen 64-bit words a row, 128 bytes, the form in which an event crosses workers.

An event is one header record; an event with lines (an order) is its header, flagged HAS_LINES, followed at
once by a record per line, flagged IS_LINE, with the same identifiers. All words are int64 (hashes are the same
64 bits reinterpreted); an absent hash is 0, a hash that comes out as 0 is stored as 1.
"""

RECORD_WORDS = 16

TIME = 0  # event time, ms since 1970 UTC
CLOCK = 1  # largest event time of the source partition up to this row: its clock, ms
CUSTOMER_LO = 2  # 128-bit keyed hash of (kind, identifier) ...
CUSTOMER_HI = 3
MESSAGE_LO = 4  # 128-bit keyed hash of the event's id ...
MESSAGE_HI = 5
PRODUCT = 6  # 64-bit keyed hashes
CATEGORY = 7
STORE = 8
CODE = 9  # coupon, else promotion
PRICE = 10  # minor units of the currency; 0 when absent (flag HAS_PRICE tells)
AMOUNT = 11  # minor units: total of an event, price x quantity of a line; (flag HAS_AMOUNT tells)
PACK = 12  # type | flags << 8 | currency << 16 | quantity << 32 | time zone << 52
HEAP = 13  # offset of the strings << 32 | lengths (customer, message, product, category: a byte each)
SEQUENCE = 14  # partition << 48 | row number within the partition (the same for an event and its lines)
SOURCE = 15  # 64-bit keyed hash of `source`

# identify and alias have no product: the anonymous identifier's 128-bit hash stands in PRODUCT and CATEGORY.
ANONYMOUS_LO = PRODUCT
ANONYMOUS_HI = CATEGORY
# Consent Changed and Unsubscribed have no coupon: CODE holds channel | purpose << 8 | granted << 16 | suppressed << 17
# (plus 1 << 24: present).
CONSENT = CODE
# An event that is a row of a table: its lines are fields, not products. A number is whole millionths with
# FLAG_HAS_PRICE, a text its hash; a line with neither takes the value away.
FIELD_TEXT = PRODUCT
FIELD_NAME = CATEGORY
FIELD_NUMBER = PRICE

# flags (bits 8-15 of PACK)
FLAG_KIND = 0b0000_0011  # what identifies the customer: KIND_USER, KIND_LOYALTY, KIND_ANONYMOUS
FLAG_IS_LINE = 0b0000_0100
FLAG_HAS_LINES = 0b0000_1000
FLAG_HAS_PRICE = 0b0001_0000
FLAG_HAS_AMOUNT = 0b0010_0000
FLAG_HAS_QUANTITY = 0b0100_0000
FLAG_HAS_HISTORY = 0b1000_0000  # an identify that brings the anonymous row along (set by the engine)

QUANTITY_SHIFT = 32
QUANTITY_MASK = 0xFFFFF
# the customer's time zone: 1 + its place in the sorted list of all names; 0 = not told
ZONE_SHIFT = 52
ZONE_MASK = 0x3FF
ZONE_UNKNOWN = ZONE_MASK  # a name that nobody knows: counted and cleared when the row is stamped

KIND_USER = 0
KIND_LOYALTY = 1
KIND_ANONYMOUS = 2

# strings of a record, in the order of their lengths in HEAP
STRING_CUSTOMER = 0
STRING_MESSAGE = 1
STRING_PRODUCT = 2
STRING_CATEGORY = 3
STRINGS = 4
