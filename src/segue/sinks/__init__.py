"""Where results go: a folder of files (Kafka topics stand behind the same interface)."""
