"""Run directories: made, resumed, refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import msvae
from msvae import RunError, Study
from msvae.run.directory import Run


def test_a_run_describes_itself(study_file: Callable[..., Path], tmp_path: Path) -> None:
    study = Study.load(study_file())
    Run.start(tmp_path / "run", study)
    run = msvae.Run.open(tmp_path / "run")
    assert run.study == study
    provenance = run.read_json("provenance.json")
    assert provenance["study"]["digest"] == study.digest
    assert {p["name"] for p in provenance["plugins"]} == {"simulated", "perceptron", "conductivity"}
    assert provenance["packages"]["torch"]
    assert len(run.evaluations) == 0
    with pytest.raises(RunError, match="no model"):
        _ = run.model


def test_a_run_is_neither_overwritten_nor_resumed_by_mistake(study_file: Callable[..., Path], tmp_path: Path) -> None:
    study = Study.load(study_file())
    path = tmp_path / "run"
    Run.start(path, study)
    with pytest.raises(RunError, match="--resume"):
        Run.start(path, study)
    assert Run.start(path, study, resume=True).study == study
    other = Study.load(study_file(), ["seed=9"])
    with pytest.raises(RunError, match=r"another study: seed is 3 there and 9 here"):
        Run.start(path, other, resume=True)
    (path / "extra").write_text("x")
    assert Run.start(path, other, force=True).study == other
    assert not (path / "extra").exists()
    busy = tmp_path / "busy"
    busy.mkdir()
    (busy / "thesis.doc").write_text("x")
    for force in (False, True):
        with pytest.raises(RunError, match="not empty"):
            Run.start(busy, study, force=force)


def test_what_is_not_a_run_cannot_be_opened(tmp_path: Path, study_file: Callable[..., Path]) -> None:
    with pytest.raises(RunError, match="has no study"):
        Run.open(tmp_path / "absent")
    run = Run.start(tmp_path / "run", Study.load(study_file()))
    (run.path / "summary.json").write_text("{")
    with pytest.raises(RunError, match="damaged"):
        run.read_json("summary.json")


def test_a_run_keeps_the_plugin_file_that_its_study_names(study_file: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "own_solver.py").write_text(
        "from dataclasses import dataclass\nimport msvae\n"
        "@dataclass(frozen=True)\nclass Own(msvae.Solver):\n"
        "    '''Own.'''\n    name = 'own'\n    computes = (msvae.Quantity('q'),)\n"
        "    def evaluate(self, structures):\n        return {'q': structures.fractions[:, 0]}\n"
        "@msvae.hook\ndef msvae_solvers():\n    return [Own]\n"
    )
    path = study_file()
    path.write_text(
        'plugin_files = ["own_solver.py"]\n' + path.read_text().replace('"conductivity"\nphases', '"own"\n#')
    )
    study = Study.load(path, ["model.heads=[]"])
    run = Run.start(tmp_path / "run", study)
    (tmp_path / "own_solver.py").unlink()
    with pytest.raises(RunError, match=r"plugins/own_solver.py.*would be executed.*--trust"):
        _ = Run.open(run.path).study
    assert len(Run.open(run.path).evaluations) == 0
    assert Run.open(run.path, trust=True).study.need_solver().name == "own"
    assert json.loads((run.path / "provenance.json").read_text())["plugins"][-1]["version"].startswith("a file")
