"""Public data sets as streams of events."""
