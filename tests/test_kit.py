"""`msvae plugin new`, and the guide that goes on from it: what is written works as it is."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from msvae.campaigns.launch import launch
from msvae.cli.app import app
from msvae.cli.kit import KINDS, write_package
from msvae.errors import PluginError
from msvae.plugins import add_file, registry
from msvae.plugins.conformance import checks, costs

GUIDE = Path(__file__).parents[1] / "docs" / "plugins.md"
BLOCK = re.compile(r"^```(\w+) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run(words: list[str], folder: Path) -> str:
    """Run a command in a folder and return what it printed."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                   "OMP_NUM_THREADS": "1", "MPIEXEC_TIMEOUT": "300"}  # fmt: skip
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          check=False)  # fmt: skip
    assert done.returncode == 0, f"{shlex.join(words)}: {done.stdout[-3000:]} {done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_package_keeps_its_promises_and_its_study_runs(kind: str, tmp_path: Path) -> None:
    name = f"an-own-{kind}"
    files = write_package(name, kind, tmp_path)
    assert {f.suffix for f in files} == {".py", ".toml", ".md"}
    add_file(tmp_path / name / f"an_own_{kind}.py")
    plugin = registry().loaded[kind, name].plugin
    for check in checks(plugin):
        check()
    assert bool([str(cost) for cost in costs(plugin)]) == (kind != "searcher")
    small = ["dataset.count=60", "training.epochs=1"]
    less = {"dataset": small, "architecture": small, "searcher": [*small, "design.budget=8", "design.control_budget=8"]}
    assert launch(tmp_path / name / "study.toml", tmp_path / "run", overrides=less.get(kind, [])) is not None


def test_a_new_package_passes_its_own_tests(tmp_path: Path) -> None:
    write_package("with-tests", "solver", tmp_path)
    assert "passed" in run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], tmp_path / "with-tests")


def test_names_that_are_not_free_are_refused_in_one_sentence(tmp_path: Path) -> None:
    write_package("an-own-one", "solver", tmp_path)
    for name, kind, why in [
        ("an-own-one", "solver", "is there already"),
        ("conductivity", "solver", "a solver of 'msvae' is called 'conductivity'"),
        ("../x", "solver", "no name of a plugin"),
        ("My_Solver", "solver", "no name of a plugin"),
        ("class", "solver", "a module of Python"),
        ("json", "dataset", "a module of Python"),
        ("mine", "campaign", "expected one of solver"),
    ]:
        with pytest.raises(PluginError, match=why):
            write_package(name, kind, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["an-own-one"]


def test_commands_take_a_plugin_file(tmp_path: Path) -> None:
    write_package("of-a-file", "solver", tmp_path)
    file = str(tmp_path / "of-a-file" / "of_a_file.py")
    listed = CliRunner().invoke(app, ["plugin", "list", "--plugin", file]).stdout
    assert "of-a-file" in listed
    image = tmp_path / "image.npy"
    np.save(image, np.eye(4, dtype=np.uint8))
    solved = CliRunner().invoke(app, ["solve", "of-a-file", str(image), "--plugin", file, "--set",
                                      "dataset.spacing=1e-6", "--set", "densities=[0.5, 4.5]"])  # fmt: skip
    assert "density (kg/m^3):\n1.5\n" in solved.stdout, (solved.output, solved.exception)
    missing = CliRunner().invoke(app, ["plugin", "show", "x", "--plugin", str(tmp_path / "none.py")])
    assert isinstance(missing.exception, PluginError)
    assert "there is no such file" in str(missing.exception)


@pytest.mark.mpi
def test_the_guide_is_true(tmp_path: Path) -> None:
    """Every command of the guide runs, in its order, with the files as it writes them."""
    blocks = BLOCK.findall(GUIDE.read_text())
    assert [kind for kind, *_ in blocks].count("python") == 2
    for _, file, text in blocks:
        if file:
            (tmp_path / file).parent.mkdir(exist_ok=True)
            (tmp_path / file).write_text(text)
            continue
        for line in text.splitlines():
            assert "FAILED" not in run(shlex.split(line), tmp_path)
