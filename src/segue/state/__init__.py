"""Customers as rows of arrays: reserved, grown without a pause, tracked for deltas."""
