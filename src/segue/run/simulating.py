"""Writing a simulation to a file, or to standard output."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO

from segue.errors import SinkError
from segue.run.progress import Display

_STEP = "simulate shoppers"


def simulate_to(
    out: str, options: dict[str, Any], display: Display, *, catalogue: str = "", overwrite: bool = False
) -> None:
    """Write a simulation, and its products if `catalogue` names a file; `options` are fields of SimulationSettings.

    Raises SettingsError, SinkError.
    """
    from segue.simulate import SimulationSettings, write_simulation
    from segue.simulate.catalogue import write_catalogue

    settings = SimulationSettings(**options)
    if catalogue:
        write_catalogue(settings, catalogue, overwrite=overwrite)
    written = 0
    started = time.monotonic()

    def progress(events: int) -> None:
        nonlocal written
        written += events

    with contextlib.ExitStack() as stack:
        stream: BinaryIO
        try:
            if out == "-":
                stream = sys.stdout.buffer
            else:
                Path(out).parent.mkdir(parents=True, exist_ok=True)
                stream = stack.enter_context(open(out, "wb" if overwrite else "xb"))
            with display.count(lambda: written, settings.events):
                size = write_simulation(settings, stream, progress)
                stream.flush()
        except FileExistsError as error:
            raise SinkError(
                _STEP, f'"{out}" exists already', "choose another file, or give --overwrite"
            ) from error
        except BrokenPipeError:
            raise
        except OSError as error:
            raise SinkError(
                _STEP, f'"{out}" can\'t be written: {error.strerror}', "check the path and the disk"
            ) from error
    seconds = max(1e-9, time.monotonic() - started)
    display.note(
        f"{written:,} events, {size / 1e6:,.1f} MB in {seconds:.1f} s ({written / seconds:,.0f} events/s)"
    )
