"""State that survives: a folder of journals and bases, and the cut that one epoch makes through all of them."""
