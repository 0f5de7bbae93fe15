"""What goes out: actions, the decision log, dead letters and late events."""
