"""What Segue says when something is wrong: the step, the place, what was found, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar


class SegueError(Exception):
    """An error its reader can act on. The text is complete: no traceback is needed to understand it.

    step   what Segue was doing ("read events", "load policies")
    found  what it met, with the place (file, offset, path in a document)
    hint   what to do about it, if Segue knows
    """

    # told of every error made: a worker process notes it, for Bytewax may end in a panic that hides it
    noted: ClassVar[Callable[[SegueError], None] | None] = None

    def __init__(self, step: str, found: str, hint: str = "") -> None:
        super().__init__(step, found, hint)
        self.step = step
        self.found = found
        self.hint = hint
        if SegueError.noted is not None:
            SegueError.noted(self)

    def __str__(self) -> str:
        text = f"{self.step}: {self.found}"
        return f"{text}\n  hint: {self.hint}" if self.hint else text


class SourceError(SegueError):
    """An input can't be read: missing, unreadable, cut off, or of a format nobody knows."""


class SinkError(SegueError):
    """An output can't be written: a full disk, a folder that is not one, no permission."""


class PolicyError(SegueError):
    """A policy file is not valid; `found` has the path inside the document."""


class SettingsError(SegueError):
    """A setting or an argument is not one Segue can run with."""


class StateError(SegueError):
    """Saved state can't be read, or not by this version."""


class CheckpointError(SegueError):
    """State that survives can't be written, or can't be read back: a full disk, a file that is damaged or gone."""


class LimitError(SegueError):
    """A bound of limits.py that cannot be passed by dropping one event was met."""


def root_cause(error: BaseException) -> BaseException:
    """The innermost SegueError of a chain, else the innermost exception.

    Bytewax wraps what a step raises in exceptions of its own; people want the first one.
    """
    innermost = error
    segue: SegueError | None = None
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        innermost = link
        if isinstance(link, SegueError):
            segue = link
        link = link.__cause__ or link.__context__
    return segue or innermost


def did_you_mean(word: str, known: list[str] | tuple[str, ...]) -> str:
    """`did you mean "x"?` for the nearest known word, or the known words if none is near."""
    import difflib

    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if not near:
        folded = {name.casefold(): name for name in known}
        near = [folded[m] for m in difflib.get_close_matches(word.casefold(), list(folded), n=1, cutoff=0.6)]
    if near:
        return f'did you mean "{near[0]}"?'
    listed = ", ".join(sorted(known)[:12])
    return f"known: {listed}{', …' if len(known) > 12 else ''}"
