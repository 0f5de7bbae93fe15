"""Topics as partitions of events: one consumer a process, messages copied into lines without an object each."""
