"""Topics as sinks: lanes that send exactly once. PROTOCOL.md says how, and what it rests on."""
