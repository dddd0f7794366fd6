"""Executors: every engine gives the same evaluations; limits end a campaign where it can go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msvae import MsvaeError, Run, StudyError
from msvae.campaigns.launch import launch
from msvae.dispatch.executors import SerialExecutor, open_executor, width
from msvae.dispatch.limits import Limits
from msvae.errors import Stopped
from msvae.study.engines import ParslSettings
from msvae.study.settings import ExecutorSettings, LimitsSettings

ENGINES = Path(__file__).parents[2] / "examples" / "executors"


def msvae(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, for engines that keep threads and sockets."""
    environment = {**os.environ, "PYTHONPATH": str(ENGINES), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return subprocess.run(
        [sys.executable, "-m", "msvae", *arguments], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def same(first: Run, second: Run) -> None:
    """Assert that two runs have the same evaluations, whoever made them."""
    one, two = first.evaluations, second.evaluations
    for name in ("index", "structure", "status", "seed", "iterations", "latents"):
        np.testing.assert_array_equal(one[name], two[name])
    for name, array in one.properties.items():
        np.testing.assert_array_equal(array, two.properties[name])


@pytest.mark.parametrize(
    ("name", "library"),
    [("processes", "loky"), ("parsl", "parsl"), ("engines:dask_workers", "distributed")],
)
def test_every_engine_gives_the_evaluations_of_the_serial_one(
    study_file: Callable[..., Path], tmp_path: Path, name: str, library: str
) -> None:
    pytest.importorskip(library, exc_type=ImportError)
    study = study_file("label")
    launch(study, tmp_path / "serial")
    settings = ("--set", f"executor.name={name}", "--set", "executor.workers=2", "--set", "executor.parsl.workers=2")
    result = msvae(tmp_path, "run", str(study), "--output", "run", "--no-report", *settings)
    assert result.returncode == 0, result.stderr
    same(Run.open(tmp_path / "serial"), Run.open(tmp_path / "run"))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("absent:make", "No module named 'absent'"),
        ("json:make", "no attribute 'make'"),
        ("builtins:repr", "no concurrent.futures.Executor"),
        ("mpi", "mpiexec -n N"),
    ],
)
def test_an_engine_that_cannot_be_had_is_one_sentence(name: str, says: str) -> None:
    with pytest.raises(StudyError, match=says), open_executor(ExecutorSettings(name)):
        pass


@pytest.mark.parametrize(
    ("own", "says"),
    [
        (ParslSettings(configuration="absent:make"), "No module named 'absent'"),
        (ParslSettings(configuration="builtins:dict"), "no parsl.Config"),
        (ParslSettings(provider="slurm", walltime=60.0, last=60.0), "are its whole walltime of 60 s"),
    ],
)
def test_blocks_that_cannot_be_had_are_one_sentence(own: ParslSettings, says: str) -> None:
    pytest.importorskip("parsl", exc_type=ImportError)
    with pytest.raises(StudyError, match=says), open_executor(ExecutorSettings("parsl", parsl=own)):
        pass


def test_ranks_that_are_not_there_are_asked_for() -> None:
    asked = pytest.raises(StudyError, match=r"2 ranks run the solver together.*mpiexec -n 3")
    with asked, open_executor(ExecutorSettings(), ranks_per_solver=2):
        pass
    assert width(ExecutorSettings("processes", workers=3)) == 3
    assert width(ExecutorSettings("engines:any", workers=5)) == 5
    assert width(ExecutorSettings("auto")) == width(ExecutorSettings("serial", workers=7)) == 1


def test_the_serial_executor_keeps_an_exception_in_its_future() -> None:
    with SerialExecutor() as executor:
        assert executor.submit(divmod, 7, 2).result() == (3, 1)
        assert isinstance(executor.submit(divmod, 1, 0).exception(), ZeroDivisionError)


def test_the_wall_time_ends_a_campaign_with_exit_code_75_and_it_goes_on(
    slow_study: Callable[..., Path], tmp_path: Path
) -> None:
    study = slow_study("[limits]\nwalltime = 0.6\n")
    with pytest.raises(Stopped, match=r"0\.6 s of limits\.walltime are over.*--resume") as stopped:
        launch(study, tmp_path / "run")
    assert stopped.value.code == 75
    assert len(Run.open(tmp_path / "run").evaluations) < 24  # how many a busy machine makes until then is open
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert log[-1]["event"] == "campaign stopped"
    launch(study, tmp_path / "run", resume=True, overrides=["limits.walltime='1-00:00:00'"])
    assert len(Run.open(tmp_path / "run").evaluations) == 24


def test_evaluations_that_outlast_their_grace_are_left(slow_study: Callable[..., Path], tmp_path: Path) -> None:
    study = slow_study("[limits]\nwalltime = 6.0\ngrace = 0.5\n")
    settings = [f"--set={s}" for s in ("executor.name=processes", "executor.workers=2", "solver.pause=1e6")]
    result = msvae(tmp_path, "run", str(study), "--output", "run", "--no-report", *settings)
    assert result.returncode == 75, result.stderr
    assert "were left" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_a_campaign_with_exit_code_75_and_nothing_is_lost(
    slow_study: Callable[..., Path], tmp_path: Path, run_command: Callable[..., list[str]], number: signal.Signals
) -> None:
    study = slow_study()
    command = run_command(study, tmp_path / "run")
    with open(tmp_path / "err", "w") as err:
        job = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err)
    while not (tmp_path / "run" / "evaluations").exists():
        assert job.poll() is None, (tmp_path / "err").read_text()
        time.sleep(0.02)
    job.send_signal(number)
    assert job.wait(60) == 75
    assert f"{number.name} came" in (tmp_path / "err").read_text()
    assert 0 < len(Run.open(tmp_path / "run").evaluations) < 24
    launch(study, tmp_path / "run", resume=True)
    assert len(Run.open(tmp_path / "run").evaluations) == 24


def test_a_training_that_is_stopped_has_a_checkpoint_and_gives_the_same_weights(
    study_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_file("train")
    launch(study, tmp_path / "whole")
    steps: list[int] = []

    def stop_at_the_fifth(limits: Limits) -> None:
        steps.append(1)
        if len(steps) == 5:
            raise Stopped("enough")

    monkeypatch.setattr(Limits, "check", stop_at_the_fifth)
    with pytest.raises(Stopped):
        launch(study, tmp_path / "run")
    monkeypatch.undo()
    assert (tmp_path / "run" / "checkpoint.safetensors").exists()
    launch(study, tmp_path / "run", resume=True)
    files: list[Any] = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "run")]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("executor.timeout=3.0", "executor.isolation"),
        ("executor.memory_limit=1.0", "executor.isolation"),
        ("executor.retries={done = 1}", "retries"),
        ("executor.name='rm -rf /'", "executor.name"),
        ("limits.walltime='soon'", "limits.walltime"),
        ("limits.walltime=-1.0", "limits.walltime"),
        ("executor.max_failures=0", "max_failures"),
    ],
)
def test_settings_that_cannot_be_are_named(
    study_file: Callable[..., Path], tmp_path: Path, key: str, says: str
) -> None:
    with pytest.raises(MsvaeError, match=says):
        launch(study_file("label"), tmp_path / "run", overrides=[key])
    assert LimitsSettings("02:00:30").seconds == 7230
