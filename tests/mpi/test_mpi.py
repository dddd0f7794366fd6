"""Real MPI jobs: any number of ranks gives the same, an error ends the job, kill -9 loses nothing."""

from __future__ import annotations

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

from msvae import Run
from msvae.campaigns.launch import launch

pytestmark = pytest.mark.mpi

LOGGING_SOLVER = """
import os, time
from dataclasses import dataclass
import msvae

@dataclass(frozen=True)
class Logged(msvae.Solver):
    '''Writes down what it evaluates.'''
    name = "logged"
    kinds = ("phases",)
    computes = (msvae.Quantity("fraction"),)
    log: str = ""

    def evaluate(self, structures):
        time.sleep(0.02)
        with open(self.log, "a") as file:
            file.write(structures.ids[0] + "\\n")
        return {"fraction": structures.fractions[:, 1]}

@msvae.hook
def msvae_solvers():
    return [Logged]
"""


def columns(run: Run, stage: str) -> dict[str, Any]:
    table = run.store(stage).load()
    return {"structure": table["structure"], "latents": table.latents, **table.properties}


def test_serial_and_one_to_five_ranks_give_the_same_evaluations_and_table(
    study_file: Callable[..., Path], tmp_path: Path, mpiexec: Callable[..., Any]
) -> None:
    study = study_file("inverse-design")
    launch(study, tmp_path / "serial")
    serial = Run.open(tmp_path / "serial")
    for n in (1, 2, 3, 5):
        result = mpiexec(n, "-m", "msvae", "run", str(study), "--output", f"run{n}")
        assert result.returncode == 0, result.stderr
        run = Run.open(tmp_path / f"run{n}")
        for stage in ("label", "search-0", "control-0"):
            for name, column in columns(serial, stage).items():
                np.testing.assert_array_equal(columns(run, stage)[name], column)
        assert run.read_json("summary.json") == serial.read_json("summary.json")
        ranks = set(run.evaluations["rank"].tolist())
        assert ranks <= ({0} if n == 1 else set(range(1, n)))


@pytest.mark.parametrize("extra", ["", "free_bits = 0.2\n"])
def test_two_ranks_train_like_one_with_twice_the_batch(
    study_file: Callable[..., Path], tmp_path: Path, mpiexec: Callable[..., Any], extra: str
) -> None:
    """24 structures, 19 to train on: the last batch is shared unevenly."""
    study = study_file("train")
    study.write_text(study.read_text().replace("[training]\n", f"{extra}[training]\n"))
    launch(study, tmp_path / "one")
    result = mpiexec(2, "-m", "msvae", "run", str(study), "--output", "two", "--set", "training.ranks=2", "--set",
                     "training.batch_size=4", "--set", "training.checkpoint_minutes=0")  # fmt: skip
    assert result.returncode == 0, result.stderr
    histories = [Run.open(tmp_path / name).read_json("training.json") for name in ("one", "two")]
    for one, two in zip(*histories, strict=True):
        assert one.keys() == two.keys()
        np.testing.assert_allclose(list(two.values()), list(one.values()), rtol=1e-4, atol=1e-5)
    result = mpiexec(2, "-m", "msvae", "run", str(study), "--output", "three", "--set", "training.ranks=3")
    assert result.returncode == 2
    assert "training.ranks: 3 processes cannot train together, there are 2" in result.stderr


def test_an_exception_on_any_rank_ends_the_job_at_once(mpiexec: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text('plugin_files = ["p.py"]\ncampaign = "label"\n[dataset]\nname = "simulated"\n')
    (tmp_path / "p.py").write_text(
        "from mpi4py import MPI\nif MPI.COMM_WORLD.rank == 1:\n    raise KeyboardInterrupt\n"
    )
    result = mpiexec(3, "-m", "msvae", "run", "study.toml", limit=60)
    assert result.returncode != 0
    assert "timed out" not in (result.stderr + result.stdout).lower()


def test_a_mistake_under_mpi_is_one_sentence_and_exit_code_two(mpiexec: Callable[..., Any]) -> None:
    result = mpiexec(3, "-m", "msvae", "run", "absent.toml")
    assert result.returncode == 2
    assert result.stderr.count("cannot be read") == 1
    assert "Traceback" not in result.stderr


def test_only_rank_zero_scans_the_entry_points(mpiexec: Callable[..., Any]) -> None:
    code = (
        "import importlib.metadata as m, sys\nfrom mpi4py import MPI\nfrom msvae import plugins\n"
        "calls = []\nreal = plugins.entry_points\n"
        "plugins.entry_points = lambda **k: calls.append(1) or real(**k)\n"
        "from msvae.dispatch.world import share_plugins\nshare_plugins()\n"
        "assert len(calls) == (MPI.COMM_WORLD.rank == 0), calls\n"
        "assert len(plugins.registry().loaded) >= 8\n"
    )
    result = mpiexec(3, "-c", code)
    assert result.returncode == 0, result.stderr


def test_kill_nine_of_the_whole_job_loses_and_repeats_nothing_that_was_acknowledged(
    tmp_path: Path, study_file: Callable[..., Path], mpiexec: Callable[..., Any], launcher: str
) -> None:
    (tmp_path / "logged.py").write_text(LOGGING_SOLVER)
    study = study_file("label")
    lines = study.read_text().replace('name = "conductivity"\nphases', f'name = "logged"\nlog = "{tmp_path}/log"\n#')
    study.write_text('plugin_files = ["logged.py"]\n' + lines.replace("count = 24", "count = 120"))
    arguments = ["-m", "msvae", "run", str(study), "--output", "run", "--set", "model.heads=[]"]
    job = subprocess.Popen(
        [*launcher.split(), "-n", "3", sys.executable, "-m", "mpi4py", *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path,
    )  # fmt: skip
    log = tmp_path / "log"
    while not log.exists() or len(log.read_text().splitlines()) < 30:
        assert job.poll() is None, "the job ended before it could be killed"
        time.sleep(0.01)
    kill_tree(job.pid)
    job.wait()
    before = Run.open(tmp_path / "run").evaluations
    assert 0 < len(before) < 120
    log.write_text("")
    result = mpiexec(3, *arguments, "--resume")
    assert result.returncode == 0, result.stderr
    after = Run.open(tmp_path / "run").evaluations
    assert after["index"].tolist() == list(range(120))
    assert not set(log.read_text().split()) & set(before["structure"].tolist())
    np.testing.assert_array_equal(after.properties["fraction"][before["index"]], before.properties["fraction"])


def kill_tree(pid: int) -> None:
    """Send SIGKILL to a process and all its descendants, the children's children first found."""
    family = [pid]
    for parent in family:
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[1]) == parent:
                family.append(int(path.parent.name))
    for member in family:
        try:
            os.kill(member, signal.SIGKILL)
        except ProcessLookupError:
            continue


@pytest.mark.parametrize("driver", ["label", "train", "inverse_design"])
def test_every_driver_runs_under_mpi(driver: str, study_file: Callable[..., Path], mpiexec: Callable[..., Any]) -> None:
    script = Path(__file__).parents[2] / "drivers" / f"{driver}.py"
    assert len(script.read_text().splitlines()) < 30
    study = study_file("inverse-design")
    result = mpiexec(2, str(script), str(study), "run")
    assert result.returncode == 0, result.stderr
    assert result.stdout
