"""The example of the atomistic solver runs on the published potential."""

from __future__ import annotations

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
