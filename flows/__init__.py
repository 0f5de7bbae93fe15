"""What is deployed: one page a flow, wiring only."""
