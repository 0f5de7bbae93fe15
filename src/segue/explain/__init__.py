"""`segue explain`: why this action and not the others, or why nothing, from what a run wrote."""
