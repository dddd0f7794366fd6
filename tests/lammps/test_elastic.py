"""Elastic constants and cells by LAMMPS, against energies of another program and published ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import msvae
from msvae import Structures

GPA = 1e9
MISHIN = {(0, 0): 247.0, (0, 1): 148.0, (3, 3): 125.0}
"""GPa, Mishin, Farkas, Mehl and Papaconstantopoulos, Phys. Rev. B 59 (1999) 3393, whose nickel (3.52 angstrom, -4.45
eV) the potential has."""


def nickel(occupation: Callable[..., Structures], n: int = 2) -> Structures:
    return occupation(1, (n, n, n), pure=0, names=("Ni", "Fe"), constant=3.53e-10)


def by_ase(potential: str, constant: float) -> dict[tuple[int, int], float]:
    """Return elastic constants in GPa from second differences of the energies of ASE's own embedded-atom method."""
    from ase.build import bulk
    from ase.calculators.eam import EAM

    perfect = bulk("Ni", cubic=True, a=constant * 1e10)
    calculator, cell, step = EAM(potential=potential), perfect.cell.array.copy(), 3e-4

    def energy(strain: np.ndarray) -> float:
        atoms = perfect.copy()
        atoms.set_cell(cell @ (np.eye(3) + strain), scale_atoms=True)
        atoms.calc = calculator
        return float(atoms.get_potential_energy())

    def second(direction: np.ndarray) -> float:
        change = energy(step * direction) - 2 * energy(0 * direction) + energy(-step * direction)
        return change / step**2 / perfect.get_volume() * 160.2176634

    along, across = np.diag([1.0, 0.0, 0.0]), np.zeros((3, 3))
    across[1, 2] = across[2, 1] = 0.5
    first = second(along)
    return {(0, 0): first, (0, 1): (second(np.diag([1.0, 1.0, 0.0])) - 2 * first) / 2, (3, 3): second(across)}


def test_nickel_has_the_constants_of_finite_differences_by_ase_and_the_published_ones(
    potential: str, occupation: Callable[..., Structures]
) -> None:
    pytest.importorskip("ase")
    found = msvae.load_solver("lammps-elastic", potential=potential).evaluate(nickel(occupation))
    constant = found["lengths"][0, 0] / 2
    assert constant == pytest.approx(3.52e-10, rel=1e-5)
    independent, c = by_ase(potential, constant), found["stiffness"][0] / GPA
    for place, published in MISHIN.items():
        assert c[place] == pytest.approx(independent[place], rel=0.01)
        assert c[place] == pytest.approx(published, rel=0.03)
    cubic = np.full((6, 6), 0.0)
    cubic[:3, :3] = c[0, 1]
    cubic[np.arange(6), np.arange(6)] = [*[c[0, 0]] * 3, *[c[3, 3]] * 3]
    np.testing.assert_allclose(c, cubic, atol=0.01)


def test_relaxed_atoms_make_an_alloy_softer_and_its_stiffness_is_positive(
    potential: str, occupation: Callable[..., Structures]
) -> None:
    structures = occupation()
    clamped, relaxed = (
        msvae.load_solver("lammps-elastic", potential=potential, relax=relax).evaluate(structures)["stiffness"][0]
        for relax in ("none", "positions")
    )
    assert (np.linalg.eigvalsh(clamped - relaxed) > -1e-3 * clamped[0, 0]).all()
    assert (np.linalg.eigvalsh(relaxed) > 0).all()


def test_a_primitive_cell_has_the_constants_of_the_cubic_one(
    potential: str, occupation: Callable[..., Structures], tmp_path: object
) -> None:
    pytest.importorskip("ase")
    from pathlib import Path

    file = Path(str(tmp_path)) / "POSCAR"
    file.write_text("fcc\n3.53\n0 .5 .5\n.5 0 .5\n.5 .5 0\nNi\n1\nDirect\n0 0 0\n")
    small = occupation(1, (2, 2, 2), pure=0, names=("Ni", "Fe"), channels=1, constant=3.53e-10 / np.sqrt(2))
    oblique = msvae.load_solver("lammps-elastic", potential=potential, crystal=str(file)).evaluate(small)
    cubic = msvae.load_solver("lammps-elastic", potential=potential).evaluate(nickel(occupation))
    np.testing.assert_allclose(oblique["stiffness"], cubic["stiffness"], atol=1e-4 * cubic["stiffness"].max())


def test_nickel_expands_with_temperature(potential: str, occupation: Callable[..., Structures]) -> None:
    """Measured: 13.4e-6 / K at room temperature; a classical crystal expands from 0 K on."""
    settings = {"potential": potential, "relax": "none", "duration": 4e-12}
    lengths = []
    for temperature in (0.0, 300.0, 600.0):
        found = msvae.load_solver("lammps-elastic", **settings, temperature=temperature).evaluate(nickel(occupation, 3))
        lengths.append(found["lengths"][0].mean() / 3)
        assert (found["lengths_error"][0] < 2e-3 * found["lengths"][0]).all()
    again = msvae.load_solver("lammps-elastic", **settings, temperature=600.0).evaluate(nickel(occupation, 3))
    assert again["lengths"][0].mean() / 3 == lengths[-1]
    assert lengths[0] == pytest.approx(3.53e-10)  # as it was given: nothing relaxes
    slope = (lengths[2] - lengths[1]) / lengths[1] / 300
    assert 5e-6 < slope < 3e-5


@pytest.mark.parametrize(
    ("temperature", "says"),
    [
        (1e5, "the crystal does not hold at 100000 K: its edges changed by over 10%"),
        (1e9, "LAMMPS: Lost atoms: original 32"),
    ],
)
def test_atoms_that_fly_apart_are_a_failure_and_the_next_are_computed(
    potential: str, occupation: Callable[..., Structures], temperature: float, says: str
) -> None:
    settings = {"potential": potential, "relax": "none", "duration": 2e-12}
    found = msvae.load_solver("lammps-elastic", **settings, temperature=temperature).evaluate(occupation())
    assert says in found.failures[0]
    assert not msvae.load_solver("lammps-elastic", **settings).evaluate(occupation()).failures


def test_strains_that_do_not_relax_are_a_failure(potential: str, occupation: Callable[..., Structures]) -> None:
    found = msvae.load_solver("lammps-elastic", potential=potential, steps=2).evaluate(occupation())
    assert "it did not relax: after 2 steps" in found.failures[0]
