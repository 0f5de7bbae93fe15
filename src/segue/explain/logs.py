"""Where a run's decisions and actions are read from: its output folder, or its topics."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import msgspec
import pyarrow as pa

from segue.errors import SegueError
from segue.events.names import CHANNELS
from segue.explain.rows import STEP
from segue.kafka.client import client_properties
from segue.kafka.read import partitions_of, read_topics
from segue.kafka.settings import KafkaSettings
from segue.outputs import DEAD_LETTERS, DECISIONS, LATE
from segue.sinks.files import output_files, output_path
from segue.sinks.parquet import parquet_files, read_log

ANSWER_S = 10.0  # somebody waits


class Logs(Protocol):
    """What a run wrote. `where` is for people."""

    @property
    def where(self) -> str:
        """The folder or the topics."""

    def decisions(self) -> Iterator[pa.RecordBatch]:
        """Batches of the decision log, each with its schema's metadata."""

    def actions(self, about: str) -> Iterator[dict[str, Any]]:
        """Actions, and what takes them back, in whose message this text occurs."""

    def not_used(self, about: str) -> dict[str, int]:
        """How many late events and dead letters this text occurs in."""


class FolderLogs:
    """The files of a run's output folder. Raises SegueError if it has no decision log."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._logs = output_files(self._folder, DECISIONS) or parquet_files(self._folder)
        if not self._logs:
            hint = "the folder that `segue run … --out` wrote to, without --log off: --out FOLDER; of topics: --brokers"
            raise SegueError(STEP, f'"{output_path(folder, DECISIONS)}" is missing', hint)

    @property
    def where(self) -> str:
        """The folder."""
        return str(self._folder)

    def decisions(self) -> Iterator[pa.RecordBatch]:
        """Batches of all files of the log."""
        for path in self._logs:
            yield from read_log(path)

    def actions(self, about: str) -> Iterator[dict[str, Any]]:
        """Actions, and what takes them back, in whose line this text occurs."""
        for channel in CHANNELS:
            for line in self._lines(channel, about):
                yield msgspec.json.decode(line)

    def not_used(self, about: str) -> dict[str, int]:
        """How many late events and dead letters this text occurs in."""
        return {name: sum(1 for _ in self._lines(name, about)) for name in (LATE, DEAD_LETTERS)}

    def _lines(self, name: str, about: str) -> Iterator[bytes]:
        wanted = about.encode()
        path = output_path(self._folder, name)
        if path.exists():
            with open(path, "rb") as lines:
                for line in lines:
                    if wanted in line and line.endswith(b"\n"):  # the last may be half written
                        yield line


class TopicLogs:
    """The topics of a deployment, from a time on, to their end now. Raises SegueError if the log's topic is missing."""

    def __init__(self, settings: KafkaSettings, from_ms: int = 0) -> None:
        self._settings = settings
        self._properties = client_properties(settings, "consumer")
        self._from_ms = from_ms
        topic = settings.prefix + DECISIONS
        if not partitions_of(settings.brokers, [topic], self._properties, ANSWER_S):
            hint = "another --prefix? `segue topics list` shows the plan"
            raise SegueError(STEP, f'topic "{topic}" is missing at {settings.brokers}', hint)

    @property
    def where(self) -> str:
        """The topics."""
        return f"topics {self._settings.prefix}* at {self._settings.brokers}"

    def decisions(self) -> Iterator[pa.RecordBatch]:
        """Batches of all messages of the log."""
        for _, value in self._messages([DECISIONS]):
            with pa.ipc.open_stream(value) as reader:
                yield from reader

    def actions(self, about: str) -> Iterator[dict[str, Any]]:
        """Actions, and what takes them back, in whose message this text occurs; each once."""
        wanted = about.encode()
        known: set[tuple[str, str]] = set()
        for _, value in self._messages(CHANNELS):
            if wanted in value:
                action: dict[str, Any] = msgspec.json.decode(value)
                name = action["kind"], action["action_id"]
                if name not in known:
                    known.add(name)
                    yield action

    def not_used(self, about: str) -> dict[str, int]:
        """How many late events and dead letters this text occurs in."""
        wanted = about.encode()
        found = {LATE: 0, DEAD_LETTERS: 0}
        for name, value in self._messages(list(found)):
            found[name] += sum(wanted in line for line in value.split(b"\n"))
        return found

    def _messages(self, names: list[str] | tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
        topics = {self._settings.prefix + name: name for name in names}
        for record in read_topics(
            self._settings.brokers, list(topics), properties=self._properties, from_ms=self._from_ms
        ):
            yield topics[record.topic], record.value
