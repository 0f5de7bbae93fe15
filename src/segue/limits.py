"""Every bound of Segue, in one place. Meeting one is counted and reported, never silent.

Units stand last in the names. A bound that a deployment may change is a default here and a setting
elsewhere; the others are part of a layout (the comment says which).
"""

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

# --- reading -----------------------------------------------------------------------------------------
MESSAGE_BYTES_MAX = 1 << 20  # a longer message is a dead letter
IDENTIFIER_BYTES_MAX = 255  # length of an identifier in UTF-8; one byte of the record's span holds it
LINES_PER_EVENT_MAX = 512  # lines of one order
QUANTITY_MAX = 1_000_000
MONEY_MINOR_MAX = 10**15  # below 2**53: exact in a float64 too
NESTING_MAX = 64  # depth of JSON
EVENT_TIME_MS_MIN = 946_684_800_000  # 2000-01-01T00:00:00Z: earlier is a dead letter
FUTURE_MS_MAX = DAY_MS  # further ahead of the start of the run than this is a dead letter
BATCH_ROWS_DEFAULT = 65_536
BATCH_BYTES_MAX = 64 << 20  # a batch ends here even when it has fewer rows
IN_FLIGHT_BATCHES_MAX = 4  # per source partition
PARTITIONS_MAX = 256  # inputs read side by side
READ_WAIT_MS = 100  # a pipe that gives nothing for this long is quiet; the reader asks again later
READ_IDLE_MS = 5  # a live input that is quiet is looked at again so soon; the worker has other things to do
READ_LINGER_MS = 20  # lines of a pipe wait this long at most for more to share their batch
DEAD_LETTER_BYTES_MAX = 65_536  # original bytes kept in a dead letter; longer ones are cut and say so

# --- Kafka -------------------------------------------------------------------------------------------
LANES_DEFAULT = 4  # fixed for the life of a deployment
LANES_MAX = 64
LANE_QUEUE_MESSAGES_MAX = (
    50_000  # taken by a lane and not yet committed or acknowledged; then the worker waits
)
TRANSACTION_MESSAGES_MAX = 10_000  # a transaction takes no further item beyond so many messages
# from a commit's answer to the next transaction of a lane: the broker still writes its marks, and who comes sooner is
# sent away for 20 ms. Read (medians): begun within 3 ms a transaction takes 24 ms, later 6
TRANSACTIONS_APART_MS = 5
TRANSACTION_MS_MAX = 10_000  # the broker aborts an older one; what can't be sent in this time is an error
GATHER_LOGS_MS = (
    100  # logs alone wait so long for more to share their transaction: one costs more than its messages
)
SNAPSHOT_APART_MS = 20  # of logs alone no transaction begins so near to when the next snapshot is expected
HEARTBEAT_MS = 1_000  # an idle lane commits something so often: a fenced one notices
LEASE_MS = 2_000  # a lane sends without a transaction only so long after the last one that succeeded
MESSAGE_BYTES_TARGET = 512 * 1024  # tables are cut into messages of this size, headers included
BROKER_WAIT_MS = 60_000  # at the start brokers that are away are waited for so long
TAIL_RECEIPTS_MAX = 4_000_000  # read back after a crash: 512 MB
PENDING_MS = 60 * MINUTE_MS  # ids of the tail are forgotten when none of them has come again for so long
KAFKA_MESSAGE_BYTES_MAX = 16 << 20  # of a message that holds many events; a longer one is a dead letter
KAFKA_QUEUE_BYTES = 128 << 20  # fetched and not yet read, of all partitions of a process together ...
KAFKA_QUEUE_MESSAGES = 400_000  # ... and beyond so many nothing is fetched
KAFKA_FETCH_BYTES_MIN = 64 << 10  # a broker that has less than this ...
KAFKA_FETCH_WAIT_MS = 10  # ... answers so late: an answer costs more than what is in it
KAFKA_METADATA_MS = 30_000  # between two looks at which topics there are
KAFKA_LINGER_MS = 10  # partitions are read together, so often at most, ...
KAFKA_LINGER_MESSAGES = 4_000  # ... but at once where so many messages stand in the queue
KAFKA_END_BEHIND_MS = (
    20  # idle partitions ask for their end so often while another partition of the process reads ...
)
KAFKA_END_IDLE_MS = 250  # ... and so often while none does
KAFKA_ANSWER_MS_MAX = 1_000  # an answer that comes later is none
KAFKA_TELL_MS = 5_000  # brokers that can't be reached for so long are told about, once
KAFKA_LOG_AGAIN_MS = MINUTE_MS  # of librdkafka's log one line of a kind in this time
KAFKA_CLOSE_MS_MAX = 2_000  # a client that has not ended by then is left behind

PENDING_ROWS_PER_BATCH = 4_096  # of the table of what is pending, looked at with each batch

# --- checkpoints -------------------------------------------------------------------------------------
EPOCH_MS_DEFAULT = 1_000
START_WAIT_S = 60  # for the other processes of a cluster
STOP_MS_MAX = 8_000  # from a signal: by then the epoch under way is finished, or given up; ...
STOP_LATE_MS = 1_200  # ... and who does not end then is ended so much later
BACKUP_MS = 60_000  # epochs of the last so many ms stay resumable
ERASE_WITHIN_MS_DEFAULT = DAY_MS  # words given up are in no file any more after so long
ERASE_WITHIN_MS_MIN = 10 * MINUTE_MS  # less can't be held with BACKUP_MS
JOURNAL_FILE_BYTES = 128 << 20  # a journal goes on in a new file from here on
JOURNAL_WRITE_BYTES = 1 << 20  # written at once, so that the disk works while more is packed
SAVE_EARLY_ROWS = 256  # changed rows of a part that are saved before the epoch ends; more, ...
SAVE_EARLY_SHARE = 4  # ... if an epoch changes more than so many times as many
SAVE_LATE_MS = 90  # before an epoch is expected to end fewer changed rows are enough: ...
SAVE_LATE_ROWS = 24  # ... these
SAVE_ROOM_WORDS_MAX = 4 << 20  # kept for what changed in a part: 32 MiB; more gets memory of its own
CHAIN_FILES_MAX = 12  # journal files of a part since its base: a manifest names them and stays below 1 KB
CHAIN_RECORDS_MAX = 512  # ... and records: each costs some 0.1 ms when the part is read back
COMPACT_BYTES_MIN = 32 << 20  # a part's records go into a base once they exceed this and twice their base
COMPACT_BYTES_PER_S = 64 << 20  # that a new base is written with, at most
BASE_BLOCK_WORDS = 1 << 19  # 4 MiB: read, checked and placed by one thread
BASE_BLOCK_ROWS = 1 << 16
LOAD_THREADS = 4
PRELOAD_THREADS = 2  # parts read back at a time, while others are restored
PRELOAD_BYTES = 256 << 20  # of their files: twice to three times as much memory

# --- time --------------------------------------------------------------------------------------------
LATENESS_MS_DEFAULT = 5 * MINUTE_MS
AHEAD_MS_MAX = 5 * MINUTE_MS  # live: an event further ahead of its arrival is set to its arrival
TICK_MS = 1_000  # live: the clock of an idle partition moves at most so often ...
TICK_BEHIND_MS = 20  # ... but so often while it holds back another partition's rows
TELL_MS = 100  # shards that get no rows of a partition hear so often how far its clock has come
TIMERS_PER_READ = 1_024  # due timers that a worker's shards fire between two reads: 5 ms with their actions
WINDOW_MS_MAX = 3_650 * DAY_MS
RETENTION_MS_DEFAULT = 400 * DAY_MS  # a customer idle for longer starts again (consent and caps stay)

# --- compiled kernels --------------------------------------------------------------------------------
KERNELS_UNUSED_MS_MAX = (
    3 * DAY_MS
)  # other versions' go when nobody runs them, or started with them for so long

# --- customers ---------------------------------------------------------------------------------------
SHARDS_DEFAULT = 16  # fixed for the life of a deployment
SHARDS_MAX = 1_024
CUSTOMERS_PER_SHARD_MAX = 1 << 22  # rows reserved (address space, not memory)
POOL_WORDS_PER_SHARD_MAX = 1 << 30  # 8 GiB of address space for rings and spilled keys
DEDUPE_IDS_MAX = 64  # the last ids of a customer (a power of two, 4 to 64) ...
DEDUPE_MS_MAX = DAY_MS  # ... within this time (less than 2**32: times are kept modulo that)
RATE_EVENTS_PER_MINUTE_MAX = 1_000  # more from one customer is a bot
QUARANTINE_MS = HOUR_MS
TIMERS_PER_STEP = 4_096  # timers fired before a shard looks at its input again
PRODUCT_NAMES_MAX = 1 << 22  # that a worker knows, for the lists of actions; a power of two

# --- policies ----------------------------------------------------------------------------------------
POLICY_BYTES_MAX = 1 << 20
EXPRESSION_CHARS_MAX = 4_096
EXPRESSION_DEPTH_MAX = 32
EXPRESSION_TREE_DEPTH_MAX = 200  # levels with the links of a chain a + b + c counted one by one
JOURNEYS_MAX = 512
LIMITS_PER_JOURNEY_MAX = 8
ROW_WORDS_MAX = 1 << 16  # 512 KiB a customer: policies that need more are refused
OFFERS_MAX = 8_192
SEGMENTS_MAX = 60  # a bit each in a word of the row
STAGES_MAX = 16
JOINS_MAX = 64
CAPS_MAX = 64
QUIET_HOURS_MAX = 64
JOIN_UP_TO_DEFAULT = 8  # unmatched left events that a join remembers
JOIN_UP_TO_MAX = 64
WAITS_PER_JOURNEY_MAX = 8  # steps
WAITS_PER_CUSTOMER_MAX = 64  # pending at once; one more is refused and counted
WAIT_MS_MAX = 365 * DAY_MS
HELD_PER_CUSTOMER_MAX = 16  # actions that quiet hours hold at once; one more is dropped and counted
OUTSTANDING_PER_CUSTOMER_MAX = (
    16  # actions that may be taken back; with one more the oldest can't be, and is counted
)
SESSION_GAP_MS_MIN = MINUTE_MS
SESSION_GAP_MS_MAX = 365 * DAY_MS
SESSIONS_KEPT_MAX = 8  # newest sessions remembered: late events may still join them
ITEMS_PER_ACTION_DEFAULT = 5  # products that an action lists
ITEMS_PER_ACTION_MAX = 32
TABLE_FIELDS_MAX = 32
FEATURES_PER_MODEL_MAX = 256
MODEL_BYTES_MAX = 64 << 20  # of a file with a model's weights
EXAMPLES_PER_FILE_MAX = 200  # that a policy file carries
EVENTS_PER_EXAMPLE_MAX = 2_000
SLOTS_MAX = 64
STREAMS_MAX = 1_024
COUNT_UP_TO_DEFAULT = 32  # a count used as a number saturates here unless the policy says otherwise
COUNT_UP_TO_MAX = 1_024
SEQUENCE_UP_TO_DEFAULT = 8  # newest events of a name that a sequence looks through
SEQUENCE_UP_TO_MAX = 32
SEQUENCE_STEPS_MAX = 8
ANY_OF_MAX = 8  # events that stand for one another
KEYED_SLOTS_DEFAULT = 1  # products (or categories) a stream keeps in the row; the rest spills
KEYED_SLOTS_BROWSING = 3  # of what is looked at: many products in a short time

# --- reference tables --------------------------------------------------------------------------------
TABLE_VERSIONS_MAX = 16  # of a key, of those that come along the way; the one valid the longest is given up
TABLE_WORDS_MAX = 1 << 28  # 2 GiB a worker for all versions of all tables

# --- decisions ---------------------------------------------------------------------------------------
LOGIT_MAX = 60.0  # a logit is clamped to ±this: exp() stays finite
SAMPLE_SHARE_DEFAULT = 0.01  # decisions logged with every candidate's numbers

# --- vouchers ----------------------------------------------------------------------------------------
VOUCHERS_MAX = (1 << 24) - 2  # rows of a ledger (24 bits of an index); an own code takes two
CAMPAIGNS_MAX = 4_096
VOUCHERS_PER_CUSTOMER_MAX = (1 << 16) - 1  # of one campaign: 16 bits
VOUCHER_MINOR_MAX = (1 << 31) - 1  # that one voucher may cost: 31 bits
VOUCHER_VALID_MS_MAX = 731 * DAY_MS
VOUCHER_RESERVE_MS_MAX = 31 * DAY_MS
SHOPS_PER_CAMPAIGN_MAX = 1_024
OWN_CODES_PER_CAMPAIGN_MAX = 4_000_000  # that a shop brings along
TYPED_CODE_BYTES_MAX = 64  # a longer text is no code
CODE_HINTS_MAX = 5  # told to somebody who mistyped a code
CODE_ATTEMPTS_MAX = 64  # at a code that no other voucher has and whose check character can be printed
VOUCHER_KEYS_MAX = 16  # of one campaign, in its life

# --- topics ------------------------------------------------------------------------------------------
TOPIC_PARTITIONS_DEFAULT = 4  # of an input topic that `segue topics create` makes
TOPIC_RETENTION_MS_DEFAULT = 7 * DAY_MS
TOPIC_RETENTION_MS_MIN = DAY_MS  # an engine that was down for longer finds neither its place nor what it sent
TOPIC_REJECTED_RETENTION_MS = 30 * DAY_MS  # of dead letters and late events, which people look into
TOPIC_HEARTBEAT_RETENTION_MS = HOUR_MS
TOPIC_REPLICAS_MAX = 3  # a topic has so many where the cluster has the brokers for them
KAFKA_ADMIN_MS_MAX = 10_000  # an answer about topics must come within this time
