"""Which source a run reads, and the board its processes pace one another by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from segue.settings import Settings
from segue.sources.files import file_source
from segue.sources.interface import Source
from segue.sources.pace import Pace


def open_source(settings: Settings) -> Source[Any]:
    """The inputs of a run, checked."""
    if settings.dataset:
        from segue.datasets.source import dataset_source

        return dataset_source(settings.dataset)
    if settings.kafka.brokers:
        from segue.sources.kafka.source import kafka_source

        return kafka_source(settings.kafka)
    return file_source(settings.inputs, interleave=settings.interleave, live=settings.live)


def new_pace(settings: Settings, partitions: Sequence[str], path: str | None = None) -> Pace:
    """A fresh board for these partitions (Pace.create)."""
    if not settings.kafka.brokers:
        return Pace.create(len(partitions), settings.shards, path)
    from segue.sources.kafka.source import first_to_read

    first = first_to_read(settings.kafka, partitions)
    return Pace.create(len(partitions), settings.shards, path, merged=False, first=first)


def shared_pace(settings: Settings, partitions: Sequence[str]) -> Pace:
    """The run's board: made by whoever started its processes, or this process's own."""
    return Pace.attach(settings.pace_path) if settings.pace_path else new_pace(settings, partitions)
