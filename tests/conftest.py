"""What several tests need: the real data, small studies, and an MPI launcher."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
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
targets = [{ property = "conductivity", component = [0, 0], value = 4.0, unit = "W/m/K", tolerance = 0.001 }]
"""


@pytest.fixture
def study_file(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a small study and returns its path."""

    def write(campaign: str = "label", extra: str = "") -> Path:
        path = tmp_path / "study.toml"
        path.write_text(SMALL.format(campaign=campaign) + (DESIGN if campaign == "inverse-design" else "") + extra)
        return path

    return write


@pytest.fixture
def data() -> Path:
    """Return the folder with the real data; skip where it is not there."""
    if not DATA.is_dir():
        pytest.skip("the real data (../shared/data) is not here")
    return DATA


@pytest.fixture
def mpiexec(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs a Python command line on n ranks."""
    launcher = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if launcher is None:
        pytest.skip("no mpiexec: install msvae[mpich]")

    def run(n: int, *arguments: str, limit: int = 120) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "MPIEXEC_TIMEOUT": str(limit), "OMP_NUM_THREADS": "1"}
        command = [launcher, "-n", str(n), sys.executable, "-m", "mpi4py", *arguments]
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
