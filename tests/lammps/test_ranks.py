"""LAMMPS on two ranks, and a script's own process on the ranks of a job: the serial results."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import msvae
from msvae import Run, Structures
from msvae.campaigns.launch import launch

pytestmark = pytest.mark.mpi
TOGETHER = """
import json
import numpy as np
from mpi4py import MPI
import msvae
values = np.random.default_rng(0).integers(0, 2, (2, 4, 3, 3, 3)).astype(np.uint8)
grid = msvae.Grid.of((3, 3, 3), 3.56e-10)
structures = msvae.Structures(values, msvae.Specification("occupation", 4, grid, ("Fe", "Ni")))
found = {}
for relax in ("none", "positions", "cell"):
    solver = msvae.load_solver("lammps-energy", potential="POTENTIAL", relax=relax, force=1e-13,
                               properties=["stress", "forces", "lengths"])
    properties = solver.evaluate_on(MPI.COMM_WORLD, structures)
    assert not properties.failures, properties.failures
    found[relax] = {name: np.asarray(properties[name]).tolist() for name in properties}
if MPI.COMM_WORLD.rank == 0:
    open("found.json", "w").write(json.dumps(found))
"""


def test_two_ranks_give_the_serial_energies_forces_and_stress(
    potential: str, occupation: Callable[..., Structures], tmp_path: Path, mpiexec: Callable[..., Any]
) -> None:
    result = mpiexec(2, "-c", TOGETHER.replace("POTENTIAL", potential))
    assert result.returncode == 0, result.stderr
    found, structures = json.loads((tmp_path / "found.json").read_text()), occupation(2, (3, 3, 3))
    for relax, properties in found.items():
        solver = msvae.load_solver("lammps-energy", potential=potential, relax=relax, force=1e-13,
                                   properties=["stress", "forces", "lengths"])  # fmt: skip
        serial = solver.evaluate(structures)
        np.testing.assert_allclose(properties["energy"], serial["energy"], rtol=1e-12 if relax == "none" else 1e-9)
        np.testing.assert_allclose(properties["forces"], serial["forces"], atol=2e-13)
        np.testing.assert_allclose(properties["stress"], serial["stress"], atol=1e6)  # Pa; 4e9 before relaxing
        np.testing.assert_allclose(properties["lengths"], serial["lengths"], rtol=1e-6)


def test_a_script_in_a_process_of_its_own_does_not_join_the_job(
    potential: str, tmp_path: Path, mpiexec: Callable[..., Any]
) -> None:
    """It would, and hang or end the job, if it saw the launcher's variables."""
    (tmp_path / "ours.in").write_text(
        "units metal\natom_style atomic\nread_data ${structure}\npair_style eam/alloy\n"
        "pair_coeff * * ${potential} ${elements}\nvariable energy equal pe/atoms\nrun 0\n"
    )
    (tmp_path / "study.toml").write_text(
        'campaign = "label"\n[dataset]\nname = "solid-solution"\nshape = [2, 2, 2]\ncount = 6\n'
        f'[solver]\nname = "lammps-script"\nscript = "ours.in"\nvariables = {{ potential = "{potential}" }}\n'
        'outputs = [{ name = "energy", unit = "J", variable = "energy", factor = 1.602176634e-19 }]\n'
    )
    result = mpiexec(3, "-m", "msvae", "run", "study.toml", "--output", "run")
    assert result.returncode == 0, result.stderr
    table = Run.open(tmp_path / "run").evaluations
    assert table.done.all()
    assert set(table["rank"].tolist()) == {1, 2}
    launch(tmp_path / "study.toml", tmp_path / "serial", overrides=[
        f"solver={{name='lammps-energy', potential='{potential}'}}"])  # fmt: skip
    serial = Run.open(tmp_path / "serial").evaluations.properties["energy"]
    np.testing.assert_allclose(table.properties["energy"], serial, rtol=1e-12)


def test_a_structure_that_fails_on_two_ranks_fails_alone(
    potential: str, tmp_path: Path, mpiexec: Callable[..., Any]
) -> None:
    (tmp_path / "study.toml").write_text(
        'campaign = "label"\n[dataset]\nname = "solid-solution"\nspecies = ["vacancy", "Ni"]\n'
        "fractions = [[0.3, 0.8]]\n"
        "count = 8\nshape = [1, 1, 2]\n[executor]\nmax_failures = 8\nranks_per_solver = 2\n"
        f'[solver]\nname = "lammps-energy"\npotential = "{potential}"\n'
        "basis = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0, 0.51]]\n"
    )
    result = mpiexec(3, "-m", "msvae", "run", "study.toml", "--output", "run")
    assert result.returncode == 0, result.stderr
    launch(tmp_path / "study.toml", tmp_path / "serial", overrides=["executor.ranks_per_solver=1"])
    table, serial = (Run.open(tmp_path / name).evaluations for name in ("run", "serial"))
    assert table["status"].tolist() == serial["status"].tolist()
    assert 0 < table.done.sum() < 8
    np.testing.assert_allclose(table.properties["energy"], serial.properties["energy"], rtol=1e-12)


def test_an_error_of_one_rank_alone_is_said_too(potential: str, tmp_path: Path, mpiexec: Callable[..., Any]) -> None:
    (tmp_path / "study.toml").write_text(
        'campaign = "label"\n[dataset]\nname = "solid-solution"\nconstant = 1e-10\nshape = [2, 2, 2]\ncount = 2\n'
        f'[executor]\nranks_per_solver = 2\n[solver]\nname = "lammps-energy"\npotential = "{potential}"\n'
    )
    result = mpiexec(3, "-m", "msvae", "run", "study.toml", "--output", "run")
    assert "LAMMPS: Neighbor list overflow" in result.stderr
    table = Run.open(tmp_path / "run").evaluations
    assert all("LAMMPS: Neighbor list overflow" in message for message in table["message"])
