"""Who an event belongs to: anonymous identifiers and the customers they turn out to be."""
