"""Compiled kernels of other versions are deleted once nobody has started with them for a while; nothing else is."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from segue import limits
from segue.run import unused
from segue.run.unused import MARK, Deleted, delete_unused
from segue.run.warmup import is_warm, warm_up
from segue_kernels.jit import JIT_DISABLED

DAYS = limits.KERNELS_UNUSED_MS_MAX / limits.DAY_MS
OWN = "kernels-ffffffffffffffff"


def kept(cache: Path, name: str, days: float = 0.0, size_bytes: int = 1_000) -> Path:
    """A folder with that many bytes, used last so many days ago."""
    folder = cache / name
    (folder / "sources").mkdir(parents=True)
    (folder / "sources" / "engine.nbc").write_bytes(bytes(size_bytes))
    (folder / MARK).touch()
    aged(folder, days)
    return folder


def aged(path: Path, days: float) -> None:
    used_s = time.time() - days * 86_400
    os.utime(path, (used_s, used_s))


def number(n: int) -> str:
    return f"kernels-{n:016x}"


def test_only_unused_folders_of_other_versions_go(tmp_path: Path) -> None:
    stay = [
        kept(tmp_path, OWN, DAYS + 100),
        kept(tmp_path, number(1)),
        kept(tmp_path, number(2), DAYS - 0.01),
        kept(tmp_path, number(3), -1),  # the clock was set back
        *(
            kept(tmp_path, name, DAYS + 100)
            for name in (
                "kafka-4.2.0", "policies", "kernels-", "kernels-0123", number(4) + "0", number(4) + ".old",
                number(0xAB).upper(), "x" + number(4),
            )
        ),
    ]  # fmt: skip
    elsewhere = kept(tmp_path / "elsewhere", number(4), DAYS + 100)
    (tmp_path / number(5)).symlink_to(elsewhere)
    (tmp_path / number(6)).touch()
    os.utime(tmp_path / number(5), (0, 0), follow_symlinks=False)
    aged(tmp_path / number(6), DAYS + 100)
    go = [
        kept(tmp_path, number(7), DAYS + 0.01, 1_000_000),
        kept(tmp_path, number(8), DAYS + 400, 2_000_000),
    ]
    (go[1] / MARK).unlink()  # it was never complete
    aged(go[1], DAYS + 400)

    assert delete_unused(tmp_path / OWN) == Deleted(2, 3_000_000)
    assert not any(folder.exists() for folder in go)
    for folder in [*stay, elsewhere, tmp_path / number(5)]:
        assert (folder / "sources" / "engine.nbc").stat().st_size == 1_000
    assert (tmp_path / number(6)).exists()
    assert delete_unused(tmp_path / OWN) == Deleted(0, 0)


def test_what_was_deleted_is_told() -> None:
    assert str(Deleted(1, 9_400_000)) == (
        f"compiled kernels of another version, unused for {DAYS:g} days, deleted: 9 MB"
    )
    assert "of 1,234 other versions" in str(Deleted(1_234, 1))


def test_a_place_that_is_not_there_or_cannot_be_written_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert delete_unused(tmp_path / "nowhere" / OWN) == Deleted(0, 0)
    (tmp_path / "file").touch()
    assert delete_unused(tmp_path / "file" / OWN) == Deleted(0, 0)

    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    folder = kept(tmp_path, number(1), DAYS + 1)
    with monkeypatch.context() as patched:
        for name in ("unlink", "rmdir"):
            patched.setattr(os, name, refuse)
        patched.setattr(Path, "unlink", refuse)
        assert delete_unused(tmp_path / OWN) == Deleted(0, 0)
    assert (folder / MARK).exists()
    assert (folder / "sources" / "engine.nbc").exists()


def test_several_may_delete_at_once(tmp_path: Path) -> None:
    many, at_once = 200, 8
    for n in range(many):
        kept(tmp_path, number(n), DAYS + 1)
    used = kept(tmp_path, number(many))
    with ThreadPoolExecutor(at_once) as pool:
        told = list(pool.map(delete_unused, [tmp_path / OWN] * at_once))
    assert os.listdir(tmp_path) == [used.name]
    assert sum(deleted.versions for deleted in told) == many
    assert sum(deleted.size_bytes for deleted in told) == many * 1_000


def test_who_starts_meanwhile_does_not_take_a_rest_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark goes first."""
    folder = kept(tmp_path, number(1), DAYS + 1)
    monkeypatch.setattr(unused.shutil, "rmtree", lambda *arguments, **options: None)
    assert delete_unused(tmp_path / OWN) == Deleted(0, 0)
    assert (folder / "sources" / "engine.nbc").exists()
    assert not (folder / MARK).exists()


@pytest.mark.skipif(JIT_DISABLED, reason="nothing is compiled")
def test_warming_up_deletes_and_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    own, old = kept(tmp_path, OWN), kept(tmp_path, number(1), DAYS + 1)
    monkeypatch.setattr("segue.run.warmup.cache_folder", lambda: own)
    assert is_warm()
    notes: list[str] = []
    warm_up(lambda _: contextlib.nullcontext(), notes.append)
    assert notes == [str(Deleted(1, 1_000))]
    assert is_warm()
    assert not old.exists()
    warm_up(lambda _: contextlib.nullcontext(), notes.append)
    assert len(notes) == 1


_STARTS = """
import os, sys
if "read-only" in sys.argv:
    def refuse(*arguments, **options):
        raise OSError(30, "Read-only file system")
    os.utime = refuse
from segue_kernels.jit import cache_folder
print(cache_folder(), flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def started(cache: Path, *arguments: str) -> Iterator[Path]:
    """A process that has started with the folder that it tells of, and runs."""
    environment = {**os.environ, "SEGUE_CACHE_DIR": str(cache)}
    environment.pop("NUMBA_CACHE_DIR", None)
    command = [sys.executable, "-c", _STARTS, *arguments]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield Path(process.stdout.readline().strip())
        process.communicate()
    assert process.returncode == 0


@pytest.mark.skipif(JIT_DISABLED, reason="nothing is kept")
def test_each_start_with_a_version_is_noted(tmp_path: Path) -> None:
    with started(tmp_path) as folder:
        pass
    for arguments, deleted in (((), Deleted(0, 0)), (("read-only",), Deleted(1, 0))):
        aged(folder, DAYS + 1)
        with started(tmp_path, *arguments) as same:
            assert same == folder
        assert delete_unused(tmp_path / OWN) == deleted


@pytest.mark.skipif(JIT_DISABLED, reason="nothing is kept")
@pytest.mark.parametrize("arguments", [(), ("read-only",)])
def test_what_a_process_runs_stays_however_long(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    with started(tmp_path) as folder:
        pass
    with started(tmp_path, *arguments), started(tmp_path, *arguments):
        aged(folder, DAYS + 1)
        assert delete_unused(tmp_path / OWN) == Deleted(0, 0)
        assert folder.exists()
    assert delete_unused(tmp_path / OWN) == Deleted(1, 0)
