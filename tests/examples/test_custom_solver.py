"""A third-party package, and a broken one beside it, installed with pip into the environment of the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from msvae import Run

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_solver"
BROKEN = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "msvae-broken"
version = "0.1.0"
[project.entry-points.msvae]
broken = "msvae_broken_plugin"
[tool.hatch.build.targets.wheel]
include = ["msvae_broken_plugin.py"]
"""


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", *arguments]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Install the example and a broken plugin into a folder of their own, and return the environment that sees it."""
    folder = tmp_path_factory.mktemp("packages")
    shutil.copytree(EXAMPLE, folder / "custom_solver")
    (folder / "broken").mkdir()
    (folder / "broken" / "pyproject.toml").write_text(BROKEN)
    (folder / "broken" / "msvae_broken_plugin.py").write_text("import a_module_that_is_not_there\n")
    for name in ("custom_solver", "broken"):
        pip("install", "--quiet", "--no-deps", "--no-build-isolation", str(folder / name))
    yield dict(os.environ)
    pip("uninstall", "--quiet", "--yes", "msvae-mean-density", "msvae-broken")


def msvae(environment: dict[str, str], *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "msvae", *arguments]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment, cwd=cwd, check=False
    )


def test_the_example_has_at_most_forty_lines() -> None:
    files = [EXAMPLE / "pyproject.toml", EXAMPLE / "mean_density.py"]
    assert sum(len(f.read_text().splitlines()) for f in files) <= 40


def test_it_is_listed_checked_and_run_and_the_broken_one_only_reported(
    installed: dict[str, str], tmp_path: Path, study_file: Callable[..., Path]
) -> None:
    listed = msvae(installed, "plugin", "list", cwd=tmp_path)
    assert listed.returncode == 0
    assert "mean-density" in listed.stdout
    assert "did not load: ModuleNotFoundError" in listed.stdout
    checked = msvae(installed, "plugin", "check", "mean-density", cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout
    assert "FAILED" not in checked.stdout
    study = study_file("label")
    study.write_text(study.read_text().replace('"conductivity"\nphases', '"mean-density"\n#').replace("heads", "#"))
    ran = msvae(installed, "run", str(study), "--output", "run", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    densities = Run(tmp_path / "run").evaluations.properties["density"]
    assert ((densities > 1000) & (densities < 2700)).all()
