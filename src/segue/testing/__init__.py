"""Policies against their own examples: played through the real pipeline in this process, judged and drawn."""
