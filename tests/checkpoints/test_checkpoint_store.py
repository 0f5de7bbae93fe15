"""What is read of Bytewax's store is what Bytewax resumes, also after kill -9 and with several workers' fronts; and it
can be put back to an earlier epoch as a whole."""

from __future__ import annotations

import contextlib
import os
import random
import re
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from segue.checkpoints.folder import open_folder
from segue.checkpoints.store import (
    ResumePoint,
    list_cuts,
    manifests_kept,
    point_at,
    restore,
    resume_point,
    verify,
)
from segue.cli import app
from segue.errors import CheckpointError, SegueError, SettingsError
from tests.checkpoints.parts import deployment, opened

KNOWN = "flow.known"
KEYS = 5
HOLDS_S_MAX = 60.0  # two cores may be shared by many


def free_addresses(count: int) -> list[str]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]


def run(
    path: Path,
    *,
    processes: int = 1,
    kill_after_s: float | None = None,
    kill_when: Callable[[], bool] = lambda: True,
    **environment: str,
) -> list[str]:
    """Run the flow, to its end or until all its processes are killed (after a time, and not before something holds);
    what it said."""
    with opened(path) as folder:
        fd, lock = folder.inheritance()
        addresses = free_addresses(processes) if processes > 1 else []
        running = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.checkpoints.bytewax_flow", str(path), str(process), *addresses],
                env={**os.environ, **lock, **environment},
                pass_fds=(fd,),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL if kill_after_s is not None else None,
                text=True,
            )
            for process in range(processes)
        ]
        if kill_after_s is not None:
            # what is built is told before anything else; a part is built at once only when it is resumed
            said = []
            while sum("source" in line for line in said) < 2:
                for each in running:
                    assert each.stdout is not None
                    os.set_blocking(each.stdout.fileno(), False)
                    said += list(iter(each.stdout.readline, ""))
                time.sleep(0.005)
            time.sleep(kill_after_s)
            deadline = time.monotonic() + HOLDS_S_MAX
            while not kill_when() and time.monotonic() < deadline:
                time.sleep(0.2)
            for each in running:
                each.kill()
        else:
            said = []
        for each in running:
            assert each.stdout is not None
            os.set_blocking(each.stdout.fileno(), True)
            said += each.stdout.read().splitlines()
            each.wait()
            each.stdout.close()
            assert kill_after_s is not None or each.returncode == 0
    return [line.strip() for line in said]


def positions(point: ResumePoint) -> dict[str, int]:
    return {key: state for (step, key), state in point.states.items() if step == "flow.numbers"}


def expected(point: ResumePoint, path: Path) -> set[str]:
    """What the flow says when it is built from this point."""
    from segue.checkpoints.bases import load
    from tests.checkpoints.parts import rows_of

    said = {f"source {part} {positions(point).get(part, 0)}" for part in ("a", "b")}
    for manifests in point.manifests().values():
        for manifest in manifests:
            said.add(f"part {manifest.part} {rows_of(load(path, manifest))[0][0]}")
    return said


def bases(point: ResumePoint) -> set[str]:
    """Of all parts; "" = one has none yet."""
    return {manifest.base for manifests in point.manifests().values() for manifest in manifests} or {""}


def sums(read: dict[str, int]) -> dict[int, int]:
    """Of each key, when so many numbers of each partition were read. All keys are woken before the first number."""
    total = dict.fromkeys(range(KEYS), 0) if read else {}
    for count in read.values():
        for number in range(count):
            total[number % KEYS] += number
    return total


def agrees(point: ResumePoint, path: Path) -> bool:
    """Whether the sums are those of exactly the numbers that were read."""
    parts = {f"part {key} {value}" for key, value in sums(positions(point)).items()}
    return {line for line in expected(point, path) if line.startswith("part")} == parts


def test_a_first_start_resumes_nothing(tmp_path: Path) -> None:
    opened(tmp_path).close()
    assert resume_point(tmp_path) == ResumePoint(0, 1, {})
    (only,) = list_cuts(tmp_path)
    assert (only.epoch, only.parts, only.is_complete, only.is_next) == (1, 0, True, True)
    assert verify(tmp_path).problems == ()


def test_a_run_that_ended_is_resumed_where_it_ended(tmp_path: Path) -> None:
    run(tmp_path, LAST="1", NUMBERS="30")
    point = resume_point(tmp_path)
    assert point.execution == 1
    assert positions(point) == {"a": 30, "b": 30}
    assert agrees(point, tmp_path)
    assert set(run(tmp_path, LAST="1", NUMBERS="31")) == expected(point, tmp_path)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("processes", [1, 2])
def test_what_was_killed_resumes_as_it_was_read(tmp_path: Path, processes: int) -> None:
    chance = random.Random(processes)
    point = ResumePoint(0, 1, {})
    opened(tmp_path).close()
    for start in range(4):
        number = str(50 * (start + 1))
        before = resume_point(tmp_path)
        assert agrees(before, tmp_path)
        told = expected(before, tmp_path)
        said = run(
            tmp_path, processes=processes, kill_after_s=chance.uniform(0, 0.6), NUMBERS=number, BACKUP_MS="0"
        )
        assert set(said) >= {line for line in told if line.startswith("source")}
        parts = {line for line in said if line.startswith("part")}
        assert parts <= told
        assert before.execution <= start  # one that is killed at once has not been noted
        point = resume_point(tmp_path)
        assert point.epoch >= before.epoch
    last = run(tmp_path, LAST="1", NUMBERS="400")  # another number of processes too
    assert set(last) == expected(point, tmp_path)
    assert agrees(resume_point(tmp_path), tmp_path)
    assert positions(resume_point(tmp_path)) == {"a": 400, "b": 400}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("processes", [1, 2])
def test_what_was_killed_while_files_were_gathered_and_deleted_resumes(
    tmp_path: Path, processes: int
) -> None:
    opened(tmp_path).close()
    for start in range(3):
        before = resume_point(tmp_path)
        assert agrees(before, tmp_path)
        assert verify(tmp_path).problems == ()
        told = expected(before, tmp_path)  # now: its files may go
        seen: set[Path] = set()

        def gathered_and_deleted(seen: set[Path] = seen, epoch: int = before.epoch) -> bool:
            there = {path for folder in ("bases", "journals") for path in (tmp_path / folder).iterdir()}
            seen |= there
            with contextlib.suppress(CheckpointError):  # the store is busy
                point = resume_point(tmp_path)
                return point.epoch > epoch and seen > there and "" not in bases(point)
            return False

        said = run(
            tmp_path,
            processes=processes,
            kill_after_s=0,
            kill_when=gathered_and_deleted,
            NUMBERS="1000000",
            BACKUP_MS="0",
            ERASE_WITHIN_MS="800",
        )
        assert {line for line in said if line.startswith("part")} <= told
        assert resume_point(tmp_path).epoch > before.epoch, start
        assert bases(resume_point(tmp_path)) != {""}
    assert agrees(resume_point(tmp_path), tmp_path)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    run(tmp_path, LAST="1", NUMBERS="60")
    return tmp_path


def test_all_epochs_of_the_backup_interval_are_listed_and_whole(saved: Path) -> None:
    cuts = list_cuts(saved)
    assert len(cuts) > 4
    assert [cut.epoch for cut in cuts] == sorted((cut.epoch for cut in cuts), reverse=True)
    assert [cut.is_next for cut in cuts] == [True] + [False] * (len(cuts) - 1)
    for cut in cuts:
        assert cut.is_complete
        verified = verify(saved, cut.epoch)
        assert verified.problems == ()
        assert verified.parts == cut.parts
        assert agrees(point_at(saved, cut.epoch), saved)
    assert cuts[0].parts == KEYS
    assert cuts[0].bytes > 0


def test_epochs_that_bytewax_cleaned_up_are_not_offered(tmp_path: Path) -> None:
    run(tmp_path, LAST="1", NUMBERS="60", BACKUP_MS="0")
    cuts = list_cuts(tmp_path)
    assert len(cuts) < 4
    for cut in cuts:
        assert agrees(point_at(tmp_path, cut.epoch), tmp_path)
    with pytest.raises(CheckpointError, match="epoch 1 can't be resumed"):
        verify(tmp_path, 1)


def test_a_restored_epoch_is_where_bytewax_resumes(saved: Path) -> None:
    for back in (2, 1):  # once more from there
        cut = list_cuts(saved)[back]
        before = point_at(saved, cut.epoch)
        seen: list[ResumePoint] = []
        restored = restore(saved, cut.epoch, seen.append)
        assert (restored.epoch, restored.parts) == (cut.epoch, cut.parts)
        assert seen == [before]
        point = resume_point(saved)
        assert (point.epoch, point.states) == (before.epoch, before.states)
        with contextlib.closing(sqlite3.connect(restored.copy)) as copy:
            assert copy.execute("SELECT MAX(snap_epoch) FROM snaps").fetchone()[0] >= cut.epoch
    said = run(saved, LAST="1", NUMBERS="60")
    assert set(said) == expected(point, saved)
    assert agrees(resume_point(saved), saved)
    assert positions(resume_point(saved)) == {"a": 60, "b": 60}


def damage(path: Path, epoch: int) -> Path:
    """The newest record of an epoch is no more what it was."""
    manifest = max(
        (manifest for each in point_at(path, epoch).manifests().values() for manifest in each),
        key=lambda manifest: (manifest.file, manifest.offset),
    )
    file = path / "journals" / manifest.file
    data = bytearray(file.read_bytes())
    data[manifest.offset + 140] ^= 4
    file.write_bytes(data)
    return file


def test_a_damaged_cut_is_refused_and_the_last_good_one_found(saved: Path) -> None:
    newest, *older = list_cuts(saved)
    file = damage(saved, newest.epoch)
    (problem,) = verify(saved).problems
    assert f'"{file}" is damaged at byte ' in problem.found
    with pytest.raises(CheckpointError, match="is damaged at byte"):
        restore(saved, newest.epoch)
    assert resume_point(saved).epoch == newest.epoch
    restored = restore(saved)
    assert restored.epoch in {cut.epoch for cut in older}
    told = expected(resume_point(saved), saved)
    assert verify(saved).problems == ()
    assert set(run(saved, LAST="1", NUMBERS="60")) == told


def test_without_any_whole_epoch_nothing_is_changed(saved: Path) -> None:
    epoch = resume_point(saved).epoch
    for file in (saved / "journals").iterdir():
        file.unlink()
    assert not any(cut.is_complete for cut in list_cuts(saved) if cut.parts)
    store = (saved / "recovery" / "part-0.sqlite3").read_bytes()
    cuts = [cut for cut in list_cuts(saved) if cut.parts]
    with pytest.raises(CheckpointError, match="is missing"):
        restore(saved, cuts[0].epoch)
    assert (saved / "recovery" / "part-0.sqlite3").read_bytes() == store
    assert resume_point(saved).epoch == epoch


def test_a_refusal_of_the_positions_changes_nothing(saved: Path) -> None:
    def refuse(point: ResumePoint) -> None:
        raise SettingsError("check the topics", f"{len(positions(point))} are too short", "")

    epoch = resume_point(saved).epoch
    with pytest.raises(SettingsError, match="2 are too short"):
        restore(saved, list_cuts(saved)[1].epoch, refuse)
    assert resume_point(saved).epoch == epoch


def test_nothing_is_restored_under_a_running_engine(saved: Path) -> None:
    with open_folder(saved, deployment()), pytest.raises(SettingsError, match="used by another engine"):
        restore(saved)


def test_a_store_that_is_no_store_is_told(saved: Path) -> None:
    store = saved / "recovery" / "part-0.sqlite3"
    for left in store.parent.glob("*-*l"):
        left.unlink()
    store.write_bytes(b"no store" * 1_000)
    for look in (resume_point, list_cuts, verify, manifests_kept):
        with pytest.raises(SegueError, match="file is not a database") as caught:
            look(saved)
        assert caught.value.hint
    store.unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        resume_point(saved)


def test_a_state_that_can_not_be_unpickled_is_named(saved: Path) -> None:
    with contextlib.closing(sqlite3.connect(saved / "recovery" / "part-0.sqlite3")) as store, store:
        store.execute("UPDATE snaps SET ser_change = x'00' WHERE state_key = 'key-1'")
    with pytest.raises(CheckpointError, match=r'the state of "key-1" in step "flow\.known" can\'t be read'):
        resume_point(saved)


# --- commands --------------------------------------------------------------------------------------------


def command(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["checkpoints", *arguments], env={"COLUMNS": "200"})
    return result.exit_code, result.output


def test_the_commands_list_verify_and_restore(saved: Path) -> None:
    state = f"--state={saved}"
    code, text = command("list", state)
    assert code == 0
    cuts = list_cuts(saved)
    assert re.findall(r"^ *(\d+) ", text, re.M) == [str(cut.epoch) for cut in cuts]
    assert text.count("the next start resumes here") == 1
    code, text = command("verify", state)
    assert (code, "all checksums agree" in text) == (0, True)
    file = damage(saved, cuts[0].epoch)
    code, text = command("verify", state)
    assert code == 1
    assert str(file) in text
    assert f"segue checkpoints restore --state {saved}" in text
    code, text = command("restore", state, f"--epoch={cuts[0].epoch}")
    assert code == 1
    code, text = command("restore", state)
    assert code == 0, text
    assert f"resumes at epoch {resume_point(saved).epoch} with" in text
    assert command("verify", state)[0] == 0
    damage(saved, resume_point(saved).epoch).unlink()
    assert "missing" in command("list", state)[1]
    code, text = command("verify", state, "--epoch=99999")
    assert code == 1
    assert "epoch 99999 can't be resumed" in text


def test_a_folder_without_state_is_told_by_the_commands(tmp_path: Path) -> None:
    for name in ("list", "verify", "restore"):
        code, text = command(name, "--state", str(tmp_path))
        assert code == 1
        assert "holds no state" in text
