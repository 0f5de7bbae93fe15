"""One engine a folder, of one deployment, fixed for life."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from segue.checkpoints.folder import (
    LOCK_VARIABLE,
    generation_lives,
    hold,
    open_folder,
    read_deployment,
    started_as,
)
from segue.errors import CheckpointError, SettingsError
from tests.checkpoints.parts import deployment, opened

_OTHER = """
import sys
from tests.checkpoints.parts import deployment
from segue.checkpoints.folder import open_folder
from segue.errors import SegueError
try:
    path, process, processes, cluster = sys.argv[1:]
    folder = open_folder(path, deployment(), process=int(process), processes=int(processes), cluster=cluster)
    print("open", folder.generation, flush=True)
except SegueError as error:
    print("refused", error, flush=True)
sys.stdin.read()
"""


class Other:
    """Another process that opens the folder, and holds it until it is ended."""

    def __init__(self, path: Path, process: int = 0, processes: int = 1, cluster: str = "") -> None:
        arguments = [str(path), str(process), str(processes), cluster]
        self.process = subprocess.Popen(
            [sys.executable, "-c", _OTHER, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline()

    @property
    def is_open(self) -> bool:
        return self.said.startswith("open")

    def end(self, kill: bool = False) -> None:
        if kill:
            self.process.kill()
        self.process.communicate()


def test_a_folder_is_made_once_and_found_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "state"
    with opened(path) as folder:
        assert folder.generation == 1
        assert sorted(entry.name for entry in path.iterdir() if entry.is_dir()) == [
            "bases",
            "generations",
            "journals",
            "recovery",
        ]
        store = (folder.recovery / "part-0.sqlite3").stat().st_ino
    with opened(path) as folder:
        assert folder.generation == 2
        assert (folder.recovery / "part-0.sqlite3").stat().st_ino == store
    assert read_deployment(path) == deployment()


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"shards": 8}, "made with 4 as the number of shards, now it is 8"),
        ({"lanes": 3}, "made with 2 as the number of lanes, now it is 3"),
        ({"secret": b"another sixteen."}, "made with another secret"),
    ],
)
def test_another_deployment_is_refused(tmp_path: Path, changed: dict[str, object], found: str) -> None:
    opened(tmp_path).close()
    with pytest.raises(SettingsError, match=found) as caught:
        open_folder(tmp_path, deployment(**changed))
    assert caught.value.hint
    opened(tmp_path).close()  # the lock was let go


def test_another_layout_of_files_is_refused(tmp_path: Path) -> None:
    opened(tmp_path).close()
    file = tmp_path / "deployment.json"
    file.write_text(file.read_text().replace('"format": 1', '"format": 9'))
    with pytest.raises(SettingsError, match="made with 9 as the layout of its files, now it is 1"):
        opened(tmp_path)


def test_partitions_keep_their_index_and_new_ones_are_appended(tmp_path: Path) -> None:
    opened(tmp_path).close()
    for partitions in (("b", "c"), ("c", "a", "b"), ()):
        with open_folder(tmp_path, deployment(partitions=partitions)) as folder:
            assert folder.deployment.partitions == ("a", "b", "c")


def test_the_secret_is_not_in_the_folder(tmp_path: Path) -> None:
    opened(tmp_path).close()
    for file in tmp_path.rglob("*"):
        assert file.is_dir() or b"sixteen bytes" not in file.read_bytes()


@pytest.mark.parametrize("text", ["", "{", '{"shards": 4}', '{"shards": "x"}'])
def test_a_deployment_that_can_not_be_read_is_refused(tmp_path: Path, text: str) -> None:
    opened(tmp_path).close()
    (tmp_path / "deployment.json").write_text(text)
    with pytest.raises(SettingsError, match=r"deployment\.json"):
        opened(tmp_path)


def test_a_lost_file_is_no_first_start(tmp_path: Path) -> None:
    opened(tmp_path).close()
    (tmp_path / "deployment.json").rename(tmp_path / "away")
    with pytest.raises(SettingsError, match=r"recovery store but no deployment\.json"):
        opened(tmp_path)
    (tmp_path / "away").rename(tmp_path / "deployment.json")
    (tmp_path / "recovery" / "part-0.sqlite3").unlink()
    with pytest.raises(SettingsError, match=r'part-0.sqlite3" is missing'):
        opened(tmp_path)


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "state"):
        with pytest.raises(SettingsError, match="is not a folder"):
            opened(path)


def test_no_permission_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(tmp_path).close()

    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(CheckpointError, match="can't be written: Permission denied") as caught:
        opened(tmp_path)
    assert "let this user" in caught.value.hint


def test_a_folder_without_state_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="holds no state"):
        read_deployment(tmp_path)


# --- locks -----------------------------------------------------------------------------------------------


def test_a_second_engine_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    first = Other(tmp_path)
    assert first.is_open
    with pytest.raises(
        SettingsError, match=f"used by another engine .process {first.process.pid} on"
    ) as caught:
        opened(tmp_path)
    assert "stop it first" in caught.value.hint
    with pytest.raises(SettingsError, match="used by another engine"), hold(tmp_path):
        pass
    assert generation_lives(tmp_path, 1)
    first.end(kill=True)
    assert not generation_lives(tmp_path, 1)
    with opened(tmp_path) as folder:
        assert folder.generation == 2


def test_processes_that_an_engine_starts_share_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as folder:
        fd, environment = folder.inheritance()
        code = (
            "import sys; from tests.checkpoints.parts import opened; "
            "folder = opened(sys.argv[1]); print(folder.generation, flush=True); sys.stdin.read()"
        )
        children = [
            subprocess.Popen(
                [sys.executable, "-c", code, str(tmp_path)],
                env={**os.environ, **environment},
                pass_fds=(fd,),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        generations = set()
        for child in children:
            assert child.stdout is not None
            generations.add(int(child.stdout.readline()))
        assert generations == {1, 2}
    # whoever started them is gone: they hold it still
    stranger = Other(tmp_path)
    assert not stranger.is_open
    stranger.end()
    for child in children:
        child.communicate()
    # a variable that names no lock of this folder gives no right
    monkeypatch.setenv(LOCK_VARIABLE, "0")
    again = Other(tmp_path)
    assert again.is_open
    with pytest.raises(SettingsError):
        opened(tmp_path)
    again.end()


def test_processes_of_a_cluster_that_start_on_their_own_share_the_folder(tmp_path: Path) -> None:
    first = Other(tmp_path, 0, 2, "host:1;host:2")
    second = Other(tmp_path, 1, 2, "host:1;host:2")
    assert first.is_open
    assert second.is_open
    for stranger in (
        Other(tmp_path, 0, 2, "host:1;host:2"),
        Other(tmp_path, 2, 3, "host:1;host:2;host:3"),
        Other(tmp_path),
    ):
        assert "used by another engine" in stranger.said
        stranger.end()
    first.end(kill=True)
    third = Other(tmp_path, 0, 2, "host:1;host:2")
    assert third.is_open
    for each in (second, third):
        each.end()
    opened(tmp_path).close()


def test_who_bytewax_started_is_read_as_bytewax_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BYTEWAX_PROCESS_ID", "BYTEWAX_ADDRESSES", "BYTEWAX_POD_NAME"):
        monkeypatch.delenv(name, raising=False)
    assert started_as(["flow:flow"]) == (0, 1, "")
    assert started_as(["flow:flow", "-i", "1", "-a", "h:1;h:2"]) == (1, 2, "h:1;h:2")
    assert started_as(["flow:flow", "-i1", "--addresses=h:1;h:2"]) == (1, 2, "h:1;h:2")
    assert started_as(["--process-id", "0", "flow:flow", "-a", "h:1"]) == (0, 1, "h:1")
    monkeypatch.setenv("BYTEWAX_ADDRESSES", "h:1;h:2;h:3")
    monkeypatch.setenv("BYTEWAX_PROCESS_ID", "2")
    assert started_as(["flow:flow"]) == (2, 3, "h:1;h:2;h:3")
