"""What every flow test has: the command that repeats it, and a place of its own for compiled policies."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.flows.runs")


@pytest.fixture(autouse=True)
def _repeated_by(request: pytest.FixtureRequest) -> None:
    """Shown with a failure."""
    seed = getattr(request.node, "callspec", None) and request.node.callspec.params.get("seed")
    chosen = "" if seed is None else f"SEGUE_FLOW_SEEDS={seed}:{seed + 1} "
    print(f"repeat with: {chosen}python -m pytest '{request.node.nodeid}'")


@pytest.fixture(autouse=True, scope="session")
def _own_objects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Random policies leave no object files behind. Kernels stay where they are."""
    from segue.policy import native

    folder = tmp_path_factory.mktemp("objects") / "kernels"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "cache_folder", lambda: folder)
        yield
