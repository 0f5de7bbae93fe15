"""Kafka: settings and clients, what comes in, what goes out, and the protocol that makes it exactly once."""
