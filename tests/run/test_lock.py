"""One run, one writer: live locks refuse, dead ones give way, and the start of a run is one step."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from msvae import RunError
from msvae.campaigns.launch import launch
from msvae.errors import StudyError
from msvae.run import lock
from msvae.run.directory import Run
from msvae.run.lock import NAME, RunLock


@pytest.fixture
def study(slow_study: Callable[..., Path]) -> Path:
    return slow_study()


def started(study: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "msvae", "run", str(study), "--output", "run", "--no-report", *more]
    return subprocess.Popen(command, cwd=study.parent, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, text=True)  # fmt: skip


def test_a_second_writer_is_refused_in_one_sentence_and_the_first_loses_nothing(study: Path) -> None:
    first = started(study, "--set", "solver.pause=5.0")
    while not list((study.parent / "run").glob("evaluations/*/*")):
        assert first.poll() is None
        time.sleep(0.05)
    for flag in ("--resume", "--force"):
        second = started(study, flag, "--set", "solver.pause=5.0")
        assert second.wait(60) == 2
        said = second.communicate()[1]
        assert "is being written by process" in said
        assert "Traceback" not in said
    assert first.poll() is None
    first.send_signal(signal.SIGTERM)
    assert first.wait(120) == 75, first.communicate()
    first.communicate()
    found = Run.open(study.parent / "run", trust=True).evaluations
    assert 0 < len(found) < 24
    assert len(set(found["index"].tolist())) == len(found)
    assert not list((study.parent / "run").glob(f"{NAME}*"))


def test_a_dead_lock_gives_way_and_one_of_another_host_after_its_patience(tmp_path: Path) -> None:
    held = RunLock(tmp_path)
    with pytest.raises(
        RunError, match=r"is being written by process \d+ on .*last heartbeat \d+ s ago.*delete '.*run.lock'"
    ):
        RunLock(tmp_path)
    held.release()
    own = lock.Owner.this()
    dead = {"host": own.host, "pid": 2**22 - 1, "born": "1", "job": "", "token": "x"}
    (tmp_path / NAME).write_text(json.dumps(dead))
    RunLock(tmp_path).release()
    (tmp_path / NAME).write_text(json.dumps({**dead, "pid": os.getpid(), "born": "another process with this number"}))
    RunLock(tmp_path).release()
    (tmp_path / NAME).write_text(json.dumps({**dead, "host": "elsewhere"}))
    with pytest.raises(RunError, match="on elsewhere"):
        RunLock(tmp_path)
    long_ago = time.time() - lock.PATIENCE - 5
    os.utime(tmp_path / NAME, (long_ago, long_ago))
    RunLock(tmp_path).release()
    assert not list(tmp_path.iterdir())


def test_a_job_that_the_queue_starts_again_takes_its_own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    before = {"host": "elsewhere", "pid": 1, "born": "1", "job": "17", "token": "x"}
    (tmp_path / NAME).write_text(json.dumps(before))
    RunLock(tmp_path).release()
    (tmp_path / NAME).write_text(json.dumps({**before, "job": "18"}))
    with pytest.raises(RunError, match=r"\(job 18\)"):
        RunLock(tmp_path)


def test_where_there_are_no_hard_links_it_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    held = RunLock(tmp_path)
    with pytest.raises(RunError, match="is being written"):
        RunLock(tmp_path)
    held.release()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("loss", ["vanished", "taken"])
def test_a_run_that_is_lost_ends_its_campaign(study: Path, loss: str) -> None:
    run = study.parent / "run"
    job = started(study, "--set", "solver.pause=1.0")
    while not list(run.glob("evaluations/*/*")):
        assert job.poll() is None
        time.sleep(0.05)
    if loss == "vanished":
        run.rename(study.parent / "elsewhere")
    else:
        (run / NAME).unlink()
    assert job.wait(60) == 2
    said = job.communicate()[1]
    assert "vanished" in said
    assert "Traceback" not in said


def test_a_start_that_was_killed_anywhere_can_be_made_again(
    study: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever file a start is at when it dies, the next one goes on; and what is not a run's is never touched."""
    import msvae.run.directory as directory

    class Killed(BaseException):
        pass

    def kill(*arguments: object, **more: object) -> None:
        raise Killed

    for victim in ("provenance", "write_atomically"):
        for force in (False, True):
            with monkeypatch.context() as patch:
                patch.setattr(directory, victim, kill)
                with pytest.raises(Killed):
                    launch(study, tmp_path / "run", force=force)
    table = launch(study, tmp_path / "run", overrides=["solver.pause=0.0"])
    assert table is not None
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match="is not empty and not a run"):
        launch(study, tmp_path / "mine", force=True)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


@pytest.mark.slow
def test_a_start_that_is_killed_at_random_instants_can_be_made_again(study: Path) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        job = started(study, "--set", "solver.pause=0.0")
        while not (study.parent / "run").exists():
            assert job.poll() is None
        time.sleep(rng.uniform(0, 0.2))
        job.send_signal(signal.SIGKILL)
        job.communicate()
        again = started(study, "--resume" if rng.integers(2) else "--force", "--set", "solver.pause=0.0")
        said = again.communicate(timeout=60)
        assert again.returncode == 0, said
        subprocess.run(["rm", "-r", str(study.parent / "run")], check=True)


def test_a_study_that_is_refused_leaves_room_for_the_corrected_one(
    study_file: Callable[..., Path], tmp_path: Path
) -> None:
    study = study_file("label")
    with pytest.raises(StudyError, match="folder"):
        launch(study, tmp_path / "run", overrides=["dataset={name='tiff', folder='nowhere', spacing=1e-6}"])
    assert not (tmp_path / "run").exists()
    assert launch(study, tmp_path / "run") is not None


def test_a_linked_run_directory_is_replaced_where_it_is(study_file: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    launch(study_file("label"), tmp_path / "run")
    launch(study_file("label"), tmp_path / "run", force=True)
    assert len(Run.open(tmp_path / "disk").evaluations) == 24
