"""Events: from the bytes of a message to sixteen-word records, dead letters and late events."""
