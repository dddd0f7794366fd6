"""Groups of ranks that run one solver together, and signals that end a job."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msvae import Run
from msvae.campaigns.launch import launch

pytestmark = pytest.mark.mpi

TOGETHER = """
import json, time
from dataclasses import dataclass
import numpy as np
import msvae

@dataclass(frozen=True)
class Together(msvae.Solver):
    '''Every rank adds up its share of the voxels.'''
    name = "together"
    kinds = ("phases",)
    computes = (msvae.Quantity("sum"),)
    ranks = 2
    log: str = ""
    fault: str = ""
    pause: float = 0.03

    def evaluate(self, structures):
        return {"sum": structures.values.reshape(len(structures), -1).sum(axis=1).astype(float)}

    def evaluate_on(self, communicator, structures):
        start = time.time()
        time.sleep(self.pause)
        rank, size = communicator.Get_rank(), communicator.Get_size()
        if self.fault == "all" and int(structures.ids[0], 16) % 2:
            raise ValueError("no mesh")
        if self.fault == "one" and rank == 1 and int(structures.ids[0], 16) % 2:
            raise ValueError("no mesh here")
        share = structures.values.reshape(len(structures), -1)[:, rank::size].sum(axis=1).astype(float)
        total = share if self.fault == "one" else communicator.allreduce(share)
        with open(f"{self.log}-{structures.ids[0]}-{rank}", "w") as file:
            json.dump([size, start, time.time()], file)
        return {"sum": total}

@msvae.hook
def msvae_solvers():
    return [Together]
"""


@pytest.fixture
def together(study_file: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a study with an MPI-parallel solver."""

    def write(fault: str = "") -> Path:
        (tmp_path / "together.py").write_text(TOGETHER)
        study = study_file("label")
        settings = f'name = "together"\nlog = "{tmp_path}/log"\nfault = "{fault}"\n#'
        text = study.read_text().replace('name = "conductivity"\nphases', settings)
        study.write_text('plugin_files = ["together.py"]\n' + text.replace('heads = ["conductivity"]', ""))
        return study

    return write


def test_two_groups_of_two_ranks_work_at_once_and_give_the_serial_results(
    together: Callable[..., Path], tmp_path: Path, mpiexec: Callable[..., Any]
) -> None:
    study = together()
    result = mpiexec(5, "-m", "msvae", "run", str(study), "--output", "run")
    assert result.returncode == 0, result.stderr
    run = Run.open(tmp_path / "run", trust=True)
    table = run.evaluations
    expected = run.study.need_solver().evaluate(run.structures)["sum"]
    np.testing.assert_array_equal(table.properties["sum"], expected)
    assert set(table["rank"].tolist()) == {1, 3}
    spans: dict[int, list[Any]] = {1: [], 3: []}
    for leader, name in zip(table["rank"].tolist(), table["structure"].tolist(), strict=True):
        for member in (0, 1):
            size, *span = json.loads((tmp_path / f"log-{name}-{member}").read_text())
            assert size == 2
            spans[leader].append(span)
    assert any(a[0] < b[1] and b[0] < a[1] for a in spans[1] for b in spans[3])


@pytest.mark.parametrize(
    ("fault", "says"), [("all", "ValueError: no mesh"), ("one", "rank 1 of the group failed: ValueError: no mesh here")]
)
def test_a_failure_of_a_group_is_a_failed_evaluation(
    together: Callable[..., Path], tmp_path: Path, mpiexec: Callable[..., Any], fault: str, says: str
) -> None:
    forgiving = ("--set", "executor.max_failures=24")  # half of the structures fail
    result = mpiexec(
        4, "-m", "msvae", "run", str(together(fault)), "--output", "run", *forgiving
    )  # a rank is left over
    assert result.returncode == 0, result.stderr
    table = Run.open(tmp_path / "run").evaluations
    for name, status, message in zip(table["structure"], table["status"], table["message"], strict=True):
        assert (status, says in message) == (("failed", True) if int(name, 16) % 2 else ("done", False))


def test_the_example_of_a_parallel_solver_gives_its_serial_values(tmp_path: Path, mpiexec: Callable[..., Any]) -> None:
    study = Path(__file__).parents[2] / "examples" / "parallel_solver" / "study.toml"
    assert len((study.parent / "surface.py").read_text().splitlines()) < 40
    small = ("--set", "dataset.count=6", "--set", "dataset.shape=[8, 8, 8]")
    result = mpiexec(5, "-m", "msvae", "run", str(study), "--output", "run", *small)
    assert result.returncode == 0, result.stderr
    run = Run.open(tmp_path / "run", trust=True)
    expected = run.study.need_solver().evaluate(run.structures)["surface"]
    np.testing.assert_array_equal(run.evaluations.properties["surface"], expected)
    assert set(run.evaluations["rank"].tolist()) <= {1, 3}


def test_too_few_ranks_for_a_group_are_refused(together: Callable[..., Path], mpiexec: Callable[..., Any]) -> None:
    result = mpiexec(2, "-m", "msvae", "run", str(together()), "--output", "run")
    assert result.returncode == 2
    assert "ranks_per_solver is 2, but of 2 ranks 1 can work" in result.stderr
    assert "Traceback" not in result.stderr


def test_lammps_on_groups_of_two_ranks_gives_its_serial_energies(
    data: Path, tmp_path: Path, mpiexec: Callable[..., Any], lammps: None
) -> None:
    study = tmp_path / "study.toml"
    study.write_text(
        'campaign = "label"\n[dataset]\nname = "solid-solution"\nspecies = ["Fe", "Ni", "Cr"]\n'
        "fractions = [[0.2, 0.5], [0.2, 0.4]]\ncount = 8\n"
        f'[solver]\nname = "lammps-energy"\npotential = "{data}/eam/FeNiCrCoAl-heaweight.eam.alloy"\n'
    )
    result = mpiexec(5, "-m", "msvae", "run", str(study), "--output", "run", "--set", "executor.ranks_per_solver=2")
    assert result.returncode == 0, result.stderr
    launch(study, tmp_path / "serial")
    table, serial = (Run.open(tmp_path / name).evaluations for name in ("run", "serial"))
    assert set(table["rank"].tolist()) == {1, 3}
    np.testing.assert_allclose(table.properties["energy"], serial.properties["energy"], rtol=1e-12)


@pytest.mark.parametrize(
    ("whom", "number"),
    [
        ("the launcher", signal.SIGTERM),
        ("the first rank", signal.SIGUSR1),
        pytest.param("the launcher", signal.SIGUSR1, marks=pytest.mark.slow),
        pytest.param("the first rank", signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_a_job_with_exit_code_75_and_it_goes_on(
    together: Callable[..., Path], tmp_path: Path, start_job: Callable[..., subprocess.Popen[str]],
    mpiexec: Callable[..., Any], launcher: str, number: signal.Signals, whom: str,
) -> None:  # fmt: skip
    arguments = ("-m", "msvae", "run", str(together()), "--output", "run", "--set", "solver.pause=0.15")
    job = start_job(3, *arguments)
    while not (tmp_path / "run" / "evaluations").exists():
        assert job.poll() is None, (tmp_path / "job.log").read_text()
        time.sleep(0.01)
    if whom == "the launcher":
        job.send_signal(number)
    else:
        process = json.loads((tmp_path / "run" / "status.json").read_text())["process"]
        os.kill(process, number)
        time.sleep(0.02)
        os.kill(process, number)  # a signal that comes again is none more
    code = job.wait(60)
    if whom == "the launcher" and number == signal.SIGTERM and "openmpi" in launcher:
        assert code == 1  # Open MPI's mpiexec passes the signal on and has an exit code of its own
    else:
        assert code == 75
    assert f"{number.name} came" in (tmp_path / "job.log").read_text()
    before = Run.open(tmp_path / "run").evaluations
    assert len(before) < 24
    result = mpiexec(3, *arguments, "--resume")
    assert result.returncode == 0, result.stderr
    assert Run.open(tmp_path / "run").evaluations["index"].tolist() == list(range(24))


def test_ranks_are_spawned_where_there_is_one(
    study_file: Callable[..., Path], tmp_path: Path, mpiexec: Callable[..., Any]
) -> None:
    study = study_file("label")
    launch(study, tmp_path / "serial")
    settings = ("--set", "executor.name=mpi", "--set", "executor.workers=2")
    result = mpiexec(1, "-m", "msvae", "run", str(study), "--output", "run", *settings)
    assert result.returncode == 0, result.stderr
    table, serial = (Run.open(tmp_path / name).evaluations for name in ("run", "serial"))
    np.testing.assert_array_equal(table.properties["conductivity"], serial.properties["conductivity"])
