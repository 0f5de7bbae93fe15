"""Interpreter, virtual machine and native code agree bit for bit on random policies and customers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from naive_history import Event, NaiveHistory
from random_expressions import NOW_MS, conditions, histories, numbers, scope
from three_ways import agree

from segue.errors import PolicyError
from segue.policy import ir
from segue.policy.expression import compile_condition, compile_number
from segue.policy.interpret import interpret
from segue.policy.scope import Scope
from segue_kernels.jit import JIT_DISABLED

RELAXED = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Random policies leave no object files behind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGUE_CACHE_DIR", str(tmp_path_factory.mktemp("objects")))
        yield


def compiled_by(read: Callable[[str, Scope], ir.Node], text: str) -> ir.Node:
    """The tree of a random expression; a count against what it can't reach is refused by design."""
    try:
        return read(text, scope())
    except PolicyError as error:
        if "a count" in error.found or "characters" in error.found:
            reject()
        raise


@RELAXED
@given(
    st.lists(conditions(), min_size=1, max_size=4),
    st.lists(numbers(), min_size=1, max_size=4),
    st.lists(histories(), min_size=1, max_size=12),
)
def test_all_forms_agree(when: list[str], values: list[str], customers: list[NaiveHistory]) -> None:
    programs = [compiled_by(compile_condition, text) for text in when]
    programs += [compiled_by(compile_number, text) for text in values]
    agree(programs, customers, native=True)


@pytest.mark.parametrize("sign", ["<", "<=", ">", ">=", "==", "!="])
def test_all_forms_agree_on_what_is_not_a_number(sign: str) -> None:
    huge = "exp(event.quantity * 1e9) * exp(event.quantity * 1e9)"
    texts = [
        f"{huge} - {huge} {sign} 0",
        f"min({huge} - {huge}, 1) {sign} 1",
        f"max(1, {huge} - {huge}) {sign} 1",
    ]
    history = NaiveHistory([Event(NOW_MS, 3, quantity=1)])
    agree([compile_condition(text, scope()) for text in texts], [history], native=True)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(numbers(6), st.lists(histories(), min_size=1, max_size=4))
def test_the_virtual_machine_agrees_on_long_expressions(text: str, customers: list[NaiveHistory]) -> None:
    agree([compiled_by(compile_number, text)], customers, native=False)


@given(conditions(), histories())
@RELAXED
def test_conditions_are_one_or_zero(text: str, history: NaiveHistory) -> None:
    assert interpret(compiled_by(compile_condition, text), history) in (0.0, 1.0)


@given(numbers(), histories())
@RELAXED
def test_numbers_are_finite(text: str, history: NaiveHistory) -> None:
    assert np.isfinite(interpret(compiled_by(compile_number, text), history))


@pytest.mark.skipif(JIT_DISABLED, reason="this is the test that starts without the compiler")
def test_the_forms_agree_without_the_compiler() -> None:
    here = Path(__file__)
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, f"{here}::test_all_forms_agree"],
        env=environment,
        capture_output=True,
        text=True,
        cwd=here.parents[2],
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3_000:]
