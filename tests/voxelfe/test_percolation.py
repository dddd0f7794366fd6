"""Structures that hang together only by edges or corners of voxels say so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import msvae
from msvae import Structures
from msvae.cli import app

PHASES = {
    "conductivity": [{"conductivity": 0.0}, {"conductivity": 1.0}],
    "elasticity": [{"youngs_modulus": 0.0, "poissons_ratio": 0.3}, {"youngs_modulus": 1.0, "poissons_ratio": 0.3}],
    "through-conductivity": [{"conductivity": 0.0}, {"conductivity": 1.0}],
}


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("name", list(PHASES))
def test_a_checkerboard_of_solid_and_void_says_what_it_is_worth(name: str, periodic: bool) -> None:
    board = np.add.outer(np.arange(8) // 2, np.arange(8) // 2) % 2
    column = np.zeros((8, 8), dtype=int)
    column[:, 2:5] = 1  # leads along axis 0 only, where nothing is to be said
    through = name == "through-conductivity"
    solved = [board, np.ones_like(board)] if through else [board, column, np.ones_like(board)]
    structures = Structures.from_labels(np.stack(solved), 1.0, periodic=periodic, phases=2)
    found = msvae.load_solver(name, phases=PHASES[name]).evaluate(structures)
    assert isinstance(found, msvae.Properties)
    assert list(found.notes) == [0]
    assert "along axis 0 and 1 its voxels hang together only by edges or corners" in found.notes[0]


def test_solve_says_it_beside_the_result(tmp_path: Path) -> None:
    np.save(tmp_path / "board.npy", np.add.outer(np.arange(6), np.arange(6)) % 2)
    settings = ["--set", "phases=[{conductivity=0.0}, {conductivity=1.0}]"]
    said = CliRunner().invoke(app, ["solve", "conductivity", str(tmp_path / "board.npy"), *settings]).output
    assert "done along axis 0 and 1" in " ".join(said.split())
