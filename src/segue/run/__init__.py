"""Starting a run, watching it, and telling what it did."""
