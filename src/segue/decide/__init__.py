"""The engine of a shard: state, conditions and decisions over a batch."""
