"""Faults on purpose: load, kill -9, outages, and whether everything that came out is still right."""
