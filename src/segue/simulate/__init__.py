"""Shoppers that are not there: seeded streams of events for demonstrations, tests and benchmarks."""
