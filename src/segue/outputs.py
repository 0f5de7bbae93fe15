"""Names of the outputs beside the channels: files and topics are called by them."""

DECISIONS = "decisions"
CHANGES = "changes"
JOINS = "joins"
TABLE_OUTPUTS = (DECISIONS, CHANGES, JOINS)  # these take batches of columns, not lines
DEAD_LETTERS = "dead_letters"
LATE = "late"
HEARTBEAT = "heartbeat"  # of Kafka: a record a second and lane tells an idle engine that it was fenced

ARROW_STREAM = "application/vnd.apache.arrow.stream"  # what the messages of table outputs are
