"""Plugin files: what they import from beside them is found, kept with a run, and part of what they are."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from msvae import Run, RunError, Study, StudyError
from msvae.campaigns.launch import launch
from msvae.plugins import registration
from msvae.plugins.files import helpers_of, module_name
from msvae.run.cache import solver_key

PLUGIN = """
from dataclasses import dataclass
import numpy as np
import msvae
import constants
from laws.hooke import scaled

@dataclass(frozen=True)
class Scaled(msvae.Solver):
    '''A fraction of voxels, scaled.'''
    name = "scaled"
    kinds = ("phases",)
    computes = (msvae.Quantity("fraction"),)
    table: str = ""

    def evaluate(self, structures):
        import late
        return {"fraction": scaled(structures.fractions[:, 1]) + late.NOTHING}

@msvae.hook
def msvae_solvers():
    return [Scaled]
"""
STUDY = """
campaign = "label"
plugin_files = ["scaled.py"]
[dataset]
name = "simulated"
count = 4
shape = [6, 6]
[solver]
name = "scaled"
table = "{table}"
"""


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a study in a folder of its own, whose solver imports two modules and a package; nothing is loaded yet."""
    monkeypatch.setattr(registration, "_registry", None)
    folder = tmp_path / "mine"
    (folder / "laws").mkdir(parents=True)
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "steel.txt").write_text("1")
    (folder / "scaled.py").write_text(PLUGIN)
    (folder / "constants.py").write_text("FACTOR = 2.0\n")
    (folder / "late.py").write_text("NOTHING = 0.0\n")
    (folder / "unused.py").write_text("raise RuntimeError\n")
    (folder / "laws" / "__init__.py").write_text("")
    (folder / "laws" / "hooke.py").write_text(
        "from constants import FACTOR\nfrom .law import same\n\ndef scaled(x):\n    return FACTOR * same(x)\n"
    )
    (folder / "laws" / "law.py").write_text("def same(x):\n    return x\n")
    (folder / "study.toml").write_text(STUDY.format(table=tmp_path / "tables"))
    return folder / "study.toml"


def test_helpers_are_found_in_the_source(study: Path) -> None:
    found = [h.relative_to(study.parent).as_posix() for h in helpers_of(study.parent / "scaled.py")]
    assert found == ["constants.py", "late.py", "laws/__init__.py", "laws/hooke.py", "laws/law.py"]


def test_helpers_work_from_any_folder_and_are_kept_with_the_run(
    study: Path, tmp_path: Path, run_command: Callable[..., list[str]]
) -> None:
    command = run_command(study, "run", "executor.workers=2")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, env=environment, stdin=subprocess.DEVNULL)
    run = Run.open(tmp_path / "run", trust=True)
    assert run.evaluations.properties["fraction"].tolist() == (2 * run.structures.fractions[:, 1]).tolist()
    assert (tmp_path / "run" / "plugins" / "laws" / "law.py").is_file()
    assert not (tmp_path / "run" / "plugins" / "unused.py").exists()
    (study.parent / "laws" / "law.py").write_text("def same(x):\n    return 3 * x\n")
    with pytest.raises(RunError, match=r"made with another plugin file 'laws/law\.py'"):
        launch(study, tmp_path / "run", resume=True)


def test_what_a_solver_depends_on_is_its_key(study: Path) -> None:
    loaded = Study.load(study)

    def key() -> tuple[str, str]:
        return module_name(study.parent / "scaled.py"), solver_key(loaded)

    keys = [key()]
    for file, text in (
        ("laws/law.py", "def same(x):\n    return 1.0 * x\n"),
        ("constants.py", "FACTOR = 3.0\n"),
        ("../tables/steel.txt", "2"),
        ("../tables/iron.txt", "2"),
    ):
        (study.parent / file).write_text(text)
        keys.append(key())
    assert len(set(keys)) == len(keys) == 5
    (study.parent / "unused.py").write_text("")
    assert key() == keys[-1]


def test_helpers_of_one_name_stay_apart(tmp_path: Path) -> None:
    for name, value in (("one", 1), ("two", 2)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "shared_name.py").write_text(f"VALUE = {value}\n")
        (folder / f"{name}.py").write_text(
            PLUGIN.replace("import constants\nfrom laws.hooke import scaled", "from shared_name import VALUE")
            .replace("import late\n        ", "")
            .replace("scaled(structures.fractions[:, 1]) + late.NOTHING", "VALUE + 0 * structures.fractions[:, 1]")
            .replace('"scaled"', f'"scaled-{name}"')
        )
        text = STUDY.format(table="").replace("scaled.py", f"{name}.py").replace('"scaled"', f'"scaled-{name}"')
        (folder / "study.toml").write_text(text)
        launch(folder / "study.toml", tmp_path / f"run-{name}")
        assert Run.open(tmp_path / f"run-{name}").evaluations.properties["fraction"].tolist() == 4 * [value]
    both = tmp_path / "both.toml"
    both.write_text(STUDY.format(table="").replace('"scaled.py"', '"one/one.py", "two/two.py"').replace(
        'name = "scaled"', 'name = "scaled-one"'))  # fmt: skip
    with pytest.raises(StudyError, match=r"plugin_files.*have one name, and a run keeps both in one folder"):
        launch(both, tmp_path / "run-both")


def test_a_file_that_is_not_python_has_no_helpers(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_bytes(b"\xff\x00 import os")
    assert helpers_of(tmp_path / "broken.py") == []
    assert module_name(tmp_path / "broken.py") != module_name(tmp_path / "absent.py")
