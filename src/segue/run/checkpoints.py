"""`segue checkpoints`: what a deployment could resume, whether it is whole, and going back to it."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from segue.checkpoints.store import list_cuts, restore, verify
from segue.run.positions import Outside


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "KB", "MB"):
        if size < 1_000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1_000
    return f"{size:.1f} GB"


def _ago(time: datetime, now: datetime) -> str:
    seconds = max(0, int((now - time).total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit} ago"
    return f"{seconds} s ago"


def show_list(state: str, console: Console) -> None:
    """A table of all epochs that can be resumed, newest first."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title, where in (("epoch", "right"), ("saved (UTC)", "left"), ("", "left"), ("parts", "right")):
        table.add_column(title, justify=where, no_wrap=True)  # type: ignore[arg-type]
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("files", overflow="fold")
    now = datetime.now(UTC)
    for cut in list_cuts(state):
        if cut.is_complete:
            files = "all there"
        else:
            more = f" and {len(cut.missing) - 1} more" if len(cut.missing) > 1 else ""
            files = f"[red]{cut.missing[0].name}{more} missing[/red]"
        files += ", the next start resumes here" if cut.is_next else ""
        time = cut.time.strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(str(cut.epoch), time, _ago(cut.time, now), str(cut.parts), _size(cut.bytes), files)
    console.print(table)


def show_verify(state: str, epoch: int | None, console: Console) -> bool:
    """Read a whole cut and tell what is wrong with it; whether nothing is."""
    verified = verify(state, epoch)
    for problem in verified.problems:
        console.print(f"[red]damaged[/red] {problem.found}", soft_wrap=True)
    what = f"epoch {verified.epoch}: {verified.parts} parts, {_size(verified.bytes)} read"
    if verified.problems:
        console.print(f"{what}, {len(verified.problems)} damaged", soft_wrap=True)
        console.print(
            f"go back to the last good checkpoint: segue checkpoints restore --state {state}", soft_wrap=True
        )
        return False
    console.print(f"{what}, all checksums agree", soft_wrap=True)
    return True


def show_restore(state: str, epoch: int | None, console: Console, outside: Outside | None) -> None:
    """Go back as a whole, and tell to where. Without `outside` nothing is asked whether topics and files still fit."""
    restored = restore(state, epoch, None if outside is None else outside.check)
    console.print(
        f"the next start resumes at epoch {restored.epoch} with {restored.parts} parts", soft_wrap=True
    )
    console.print(
        "what was sent to topics since then stays the truth: the next start reads it back and counts it, and "
        "sends none of it again; files are cut back to what they held",
        soft_wrap=True,
    )
    console.print(f"the recovery store as it was: {restored.copy}", soft_wrap=True)
