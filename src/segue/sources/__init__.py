"""Where events come from: partitions of files and pipes (Kafka topics stand behind the same interface)."""
