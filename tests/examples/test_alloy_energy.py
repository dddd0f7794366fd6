"""The example of the atomistic solver runs on the published potential."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from msvae import Run, StudyError
from msvae.campaigns.launch import launch

STUDY = Path(__file__).parents[2] / "examples" / "alloy-energy" / "study.toml"


def test_relaxed_energies_lie_below_static_ones(data: Path, tmp_path: Path, lammps: None) -> None:
    potential = f"solver.potential='{data}/eam/FeNiCrCoAl-heaweight.eam.alloy'"
    energies = []
    for how in ("positions", "none"):
        launch(STUDY, tmp_path / how, overrides=[potential, "dataset.count=4", f"solver.relax={how}"])
        table = Run.open(tmp_path / how).evaluations
        assert table.done.all(), table["message"]
        energies.append(table.properties["energy"] / 1.602176634e-19)
    relaxed, static = energies
    assert (relaxed < static).all()
    assert (np.abs(relaxed - static) < 0.1).all()
    assert ((static > -4.6) & (static < -4.1)).all()  # eV; between the cohesive energies of Cr and Ni


def test_a_potential_that_is_not_there_is_said_before_anything_is_solved(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"potential 'absent\.eam' is not a file"):
        launch(STUDY, tmp_path / "run", overrides=["solver.potential=absent.eam"])
    assert not (tmp_path / "run").exists()


def test_a_cluster_expansion_and_a_head_stand_in_for_lammps(
    data: Path, tmp_path: Path, lammps: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The example, reduced; it compares what it has in README.md."""
    monkeypatch.chdir(tmp_path)
    small = [f"solver.potential='{data}/eam/FeNiCrCoAl-heaweight.eam.alloy'", "dataset.shape=[2, 2, 2]"]
    launch(STUDY, tmp_path / "runs" / "known", overrides=[*small, "dataset.count=80", "executor={}"])
    launch(STUDY, tmp_path / "runs" / "other", overrides=[*small, "dataset.count=20", "seed=1", "executor={}"])
    table = launch(
        STUDY.with_name("expansion.toml"), tmp_path / "runs" / "expansion", overrides=[*small[1:], "dataset.count=20"]
    )
    assert table is not None
    launch(STUDY.with_name("head.toml"), tmp_path / "runs" / "head", overrides=["training.epochs=2"])
    specification = importlib.util.spec_from_file_location("compare", STUDY.with_name("compare.py"))
    assert specification is not None
    assert specification.loader is not None
    compare = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(compare)
    monkeypatch.setattr("sys.argv", ["compare.py", "runs/known", "runs/other", "runs/head"])
    compare.main()
    rows = [line.split("|")[1:4] for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    errors = {row[0].strip(): float(row[2]) for row in rows[2:]}
    assert errors["cluster expansion, pairs, ridge"] < errors["polynomial of the composition, degree 1"]
    assert errors["the VAE's head"] > 0
    true, found = (
        Run.open(tmp_path / "runs" / name).evaluations.properties["energy"] for name in ("other", "expansion")
    )
    assert np.sqrt(np.mean((true - found) ** 2)) < 0.2 * true.std()


def test_the_readme_has_what_the_comparison_prints() -> None:
    page = STUDY.with_name("README.md").read_text()
    for what in ("polynomial of the composition, degree 3", "cluster expansion, and triplets, lasso", "the VAE's head"):
        assert f"| {what} |" in page
