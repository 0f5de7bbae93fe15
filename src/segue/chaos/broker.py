"""The broker of a chaos run: the one of deploy/kafka, in a folder of its own, to be killed and made to stand still."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any, Protocol

import segue
from segue.errors import SettingsError


class Broker(Protocol):
    """What is asked of deploy/kafka/broker.py."""

    @property
    def brokers(self) -> str: ...

    def start(self, *, dies_with_parent: bool = False) -> Any: ...

    def kill(self) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...


def own_broker(folder: Path, *, throughput: bool = False) -> Broker:
    """A new broker on a free port, started. It ends with this process."""
    roots = (Path.cwd(), Path(segue.__file__).resolve().parents[2])
    script = next((p for root in roots if (p := root / "deploy" / "kafka" / "broker.py").is_file()), None)
    if script is None:
        raise SettingsError(
            "start a broker",
            "deploy/kafka/broker.py is not here: it belongs to the sources, not to the package",
            "run this in a checkout, or give --brokers HOST:PORT of a broker that may be filled",
        )
    name = "segue_chaos_broker_script"
    spec = importlib.util.spec_from_file_location(name, script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    try:
        broker: Broker = module.Broker(folder).create(port=0, throughput=throughput)
        broker.start(dies_with_parent=True)
    except module.BrokerError as error:
        raise SettingsError("start a broker", str(error)) from error
    return broker
