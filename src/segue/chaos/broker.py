"""The broker of a chaos run: the one of deploy/kafka, in a folder of its own, to be killed and made to stand still."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from segue.errors import SettingsError

if TYPE_CHECKING:
    from deploy.kafka.broker import Broker

_STEP = "start a broker"


def own_broker(folder: Path, *, throughput: bool = False) -> Broker:
    """A new broker on a free port, started. It ends with this thread."""
    try:
        from deploy.kafka.broker import Broker, BrokerError
    except ModuleNotFoundError:
        raise SettingsError(
            _STEP,
            "deploy/kafka/broker.py can't be imported: it belongs to the sources, not to the package",
            "run this in a checkout, or give --brokers HOST:PORT of a broker that may be filled",
        ) from None
    try:
        return Broker(folder).create(port=0, throughput=throughput).start(dies_with_parent=True)
    except BrokerError as error:
        raise SettingsError(_STEP, str(error)) from error
