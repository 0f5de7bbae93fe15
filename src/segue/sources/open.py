"""Which source a run reads, and the board its processes pace one another by."""

from __future__ import annotations

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


def shared_pace(settings: Settings, partitions: int) -> Pace:
    """The run's board: made by whoever started its processes, or this process's own."""
    if settings.pace_path:
        return Pace.attach(settings.pace_path)
    return Pace.create(partitions, settings.shards, merged=not settings.kafka.brokers)
