"""From a source batch to shards: packets, and the order in which they arrive."""
