"""What every flow test has: the command that repeats it, and a place of its own for compiled policies."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.flows.runs")


@pytest.fixture(autouse=True)
def _repeated_by(request: pytest.FixtureRequest) -> None:
    """Shown with a failure."""
    seed = getattr(request.node, "callspec", None) and request.node.callspec.params.get("seed")
    chosen = "" if seed is None else f"SEGUE_FLOW_SEEDS={seed}:{seed + 1} "
    print(f"repeat with: {chosen}python -m pytest '{request.node.nodeid}'")


@pytest.fixture(scope="session")
def objects_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the flow tests' compiled policies go."""
    return tmp_path_factory.mktemp("objects") / "kernels"


@pytest.fixture(autouse=True)
def _own_objects(objects_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random policies leave no object files behind. Kernels stay where they are."""
    from segue.policy import native

    monkeypatch.setattr(native, "cache_folder", lambda: objects_folder)
