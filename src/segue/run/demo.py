"""`segue demo`: simulate, decide, show. Everything it shows comes from the files that anybody can open."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from rich.console import Console

from segue.errors import SinkError
from segue.run.live import Live
from segue.run.progress import Display, display, terminal
from segue.run.report import Summary, show
from segue.run.runner import prepare, run
from segue.run.simulating import simulate_to
from segue.run.warmup import is_warm, warm_up
from segue.settings import Settings

_EPOCH = timedelta(milliseconds=200)  # outputs are flushed so often: the view reads them
_SECONDS = 8.0  # a terminal shows the stream for about so long
_BATCH_ROWS = 2_000
_CUSTOMERS_SHARE = 0.08  # shoppers per event: enough visits each for something to happen
_SLICE_S = 0.05


def run_demo(out: str, seed: int, events: int, fast: bool) -> None:
    """Simulate, decide and show. Raises SettingsError, SinkError, whatever a run raises."""
    console = terminal()
    shown = display(console, quiet=False)
    folder = Path(out)
    source = folder / "events.jsonl"
    results = folder / "results"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(
            "demo", f'"{out}" can\'t be a folder: {error.strerror}', "choose another with --out"
        ) from error
    if not is_warm():
        console.print("The first time everything is compiled to machine code; it is kept.")
        warm_up(shown.step, shown.note)
    customers = max(1, round(events * _CUSTOMERS_SHARE))
    options = {"seed": seed, "customers": customers, "events": events}
    simulate_to(str(source), options, shown, overwrite=True)
    played = console.is_terminal and not fast
    if console.is_terminal:
        summary = _live(source, results, events, fast, console)
    else:
        summary = _run(str(source), results, shown)
    stdout = Console(highlight=False)
    show(summary, stdout, str(results))
    if played:
        stdout.print("Played slowly, to be watched: --fast goes as fast as it can.", style="dim")
    _what_next(stdout, source, results, summary)


def _run(source: str, results: Path, shown: Display) -> Summary:
    settings = Settings(
        inputs=(source,), out=str(results), batch_rows=_BATCH_ROWS, arrival_ms=time.time_ns() // 1_000_000
    )
    return run(prepare(settings, overwrite=True), shown, epoch=_EPOCH)


def _live(source: Path, results: Path, events: int, fast: bool, console: Console) -> Summary:
    """As fast as it goes everything is over in a second: the stream is played at a pace one can watch."""
    view = Live(console, results, events)
    if fast:
        return _run(str(source), results, view)
    with tempfile.TemporaryDirectory(prefix="segue-") as folder:
        pipe = Path(folder) / "events.jsonl"
        os.mkfifo(pipe)
        with _playing(source, pipe, _SECONDS):
            return _run(str(pipe), results, view)


@contextlib.contextmanager
def _playing(source: Path, pipe: Path, seconds: float) -> Iterator[None]:
    """Meanwhile a file is written into a pipe, evenly, in about so many seconds."""
    ended = threading.Event()
    slice_bytes = max(1, round(source.stat().st_size * _SLICE_S / seconds))

    def play() -> None:
        with (
            contextlib.suppress(OSError),
            open(source, "rb") as file,
            open(pipe, "wb", buffering=0) as target,
        ):
            while (part := file.read(slice_bytes)) and not ended.is_set():
                target.write(part)
                ended.wait(_SLICE_S)

    player = threading.Thread(target=play, daemon=True)
    player.start()
    try:
        yield
    finally:
        ended.set()
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # lets go a player that waits for one
        player.join(0.5)
        os.close(reader)  # ... or for one that reads
        player.join(1.0)


def _what_next(console: Console, source: Path, results: Path, summary: Summary) -> None:
    channel = max(summary.actions_by_channel, key=lambda name: summary.actions_by_channel[name])
    log = results / "decisions.arrows"
    lines = [
        "",
        "Look inside:",
        f"  head -1 {source} | jq .",
        f"  jq -r '[.time, .customer_id, .offer, .product_id] | @tsv' {results / channel}.jsonl | head",
        f"  jq . {results / 'summary.json'}",
        f"  python -c \"import pyarrow as pa; print(pa.ipc.open_stream('{log}').read_all())\"",
        "Go on:",
        f"  segue run {source} --out out          the same, as fast as it goes",
        "  segue language                        how policies are written",
        "  segue check policies/                 whether they are right, and what they need",
    ]
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)
