"""How fast Segue is, each figure with an oracle beside it. Run as `python -m benchmarks.NAME` from the repository."""
