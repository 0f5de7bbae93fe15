"""Names of the outputs beside the channels: files and topics are called by them."""

from segue.events.names import CHANNELS

DECISIONS = "decisions"
CHANGES = "changes"
JOINS = "joins"
LEDGER = "ledger"  # what became of every voucher: the state of the ledger, which reads it at its start
TABLE_OUTPUTS = (DECISIONS, CHANGES, JOINS, LEDGER)  # these take batches of columns, not lines
DEAD_LETTERS = "dead_letters"
LATE = "late"
LOG_OUTPUTS = (*TABLE_OUTPUTS, DEAD_LETTERS, LATE)  # what people and programs look into later
HEARTBEAT = "heartbeat"  # of Kafka: a record a second and lane tells an idle engine that it was fenced
SUMMARY = "summary"  # of files: where partitions and shards send their parts; one JSON line each
ALL_OUTPUTS = (*CHANNELS, *TABLE_OUTPUTS, DEAD_LETTERS, LATE, SUMMARY)  # of a run with any policies

BINARY = "application/octet-stream"  # what the messages of the ledger are
ARROW_STREAM = "application/vnd.apache.arrow.stream"  # what the messages of table outputs are
