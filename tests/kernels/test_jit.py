"""What kernels mean by an index, and how they are kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from numba.core import config

from segue_kernels.jit import JIT_DISABLED, Array


def _word(words: Array, at: int) -> int:
    return int(words[at])


@pytest.mark.skipif(JIT_DISABLED or config.BOUNDSCHECK, reason="needs the compiler, and indices unchecked")
def test_only_other_packages_pay_for_indices_below_zero() -> None:
    words = np.arange(10)
    elsewhere = numba.njit(_word)
    assert elsewhere(words[5:], -1) == 9

    def kernel(words: Array, at: int) -> int:
        return int(words[at])

    kernel.__module__ = "segue_kernels.example"
    plain = numba.njit(boundscheck=False)(kernel)
    assert plain(words[5:], -1) == 4
    checked = numba.njit(boundscheck=True)(kernel)
    with pytest.raises(IndexError):
        checked(words[5:], -1)


_ADDED = "from segue_kernels.jit import kernel\n\n\n@kernel\ndef add(words, n):\n    return words[0] + n\n"

_COMPILES = """
import sys, time
from pathlib import Path
import numpy as np
from segue_kernels.jit import kernel
sys.path.insert(0, sys.argv[1])
from added import add
while not Path(sys.argv[1], "go").exists():
    time.sleep(0.001)
for code in sys.argv[2]:
    add(np.ones(1, code), 1)
print(sum(add.stats.cache_hits.values()))
"""


@pytest.mark.skipif(JIT_DISABLED, reason="needs the compiler")
def test_processes_that_compile_one_kernel_for_different_types_keep_them_all(tmp_path: Path) -> None:
    (tmp_path / "added.py").write_text(_ADDED)
    codes = "bhilBHILfd"
    environment = {**os.environ, "SEGUE_CACHE_DIR": str(tmp_path / "cache")}
    environment.pop("NUMBA_CACHE_DIR", None)

    def hits(types: list[str]) -> list[int]:
        go = tmp_path / "go"
        go.unlink(missing_ok=True)
        started = [
            subprocess.Popen(
                [sys.executable, "-c", _COMPILES, str(tmp_path), some],
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
            )
            for some in types
        ]
        go.touch()
        return [int(process.communicate()[0]) for process in started]

    assert hits(list(codes)) == [0] * len(codes)
    assert hits([codes]) == [len(codes)]


_LOSES = """
import os, shutil, sys
import numpy as np
from numba.core import caching
from segue_kernels.jit import kernel
sys.path.insert(0, sys.argv[1])
from added import add
save = caching.IndexDataCacheFile.save
def lose(file, key, data):
    shutil.rmtree(os.path.dirname(os.path.dirname(file._index_path)))
    save(file, key, data)
caching.IndexDataCacheFile.save = lose
print(add(np.ones(1), 1))
"""


@pytest.mark.skipif(JIT_DISABLED, reason="needs the compiler")
def test_a_process_whose_folder_is_deleted_goes_on(tmp_path: Path) -> None:
    (tmp_path / "added.py").write_text(_ADDED)
    environment = {**os.environ, "SEGUE_CACHE_DIR": str(tmp_path / "cache")}
    environment.pop("NUMBA_CACHE_DIR", None)
    done = subprocess.run(
        [sys.executable, "-c", _LOSES, str(tmp_path)], check=True, env=environment, capture_output=True
    )
    assert done.stdout == b"2.0\n"
    assert not list((tmp_path / "cache").iterdir())
