"""A receipt: what was decided, as it stands in the header of what was sent (`segue`: one receipt or many, int64 words,
little-endian). After a crash the receipts sent since the cut are read back: what was sent is the truth.
"""

RECEIPT_PART = 0  # shard; ANONYMOUS_PART added for a shard of anonymous identifiers
RECEIPT_SEQUENCE = 1  # number of the shard's run that decided it; the cut knows the last one before it
RECEIPT_CUSTOMER_LO = 2
RECEIPT_CUSTOMER_HI = 3
RECEIPT_CUSTOMER_KIND = 4
RECEIPT_DECISION_LO = 5
RECEIPT_DECISION_HI = 6
RECEIPT_OFFER = 7  # hash of the winning offer's (journey, offer) names, or of the held one's; 0 = neither
RECEIPT_TIME = 8  # the customer's clock as it was decided, ms
RECEIPT_PRODUCT = 9  # hash of the product that the action is about; 0 = none
RECEIPT_CATEGORY = 10
RECEIPT_FLAGS = 11  # RECEIPT_IS_SENT | RECEIPT_IS_LOGGED | RECEIPT_IS_HELD | RECEIPT_IS_WITHDRAWN
RECEIPT_CONTACT = 12  # of the action: 1 + channel index * 2 + purpose index; 0 = no action, or not told
RECEIPT_ZONE = 13  # number of the customer's time zone, 0 = the deployment's
RECEIPT_WORDS = 16

RECEIPT_IS_SENT = 1  # stands in the header of the action
RECEIPT_IS_LOGGED = 2  # stands in the header of the decision log
RECEIPT_IS_HELD = 32  # no action: what would have been sent is held
RECEIPT_IS_WITHDRAWN = 64  # the decision's action was taken back; the offer is 0
ANONYMOUS_PART = 1 << 16
