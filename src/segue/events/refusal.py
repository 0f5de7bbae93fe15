"""Why one message was not taken: the reason that its dead letter carries."""

from __future__ import annotations


class Refusal(Exception):  # noqa: N818  (no error of Segue: it never leaves the events package)
    """A message can't be used; the text is the dead letter's reason, for the person who sends the
    messages."""
