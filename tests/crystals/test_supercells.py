"""All occupations of a supercell: counted by Burnside's lemma, and every one of them is one of those that are there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import msvae
from msvae import Crystal, DataError
from msvae_crystals.derivatives import Superlattice, moves
from msvae_crystals.supercells import SupercellOccupations


def cycles(permutation: np.ndarray) -> int:
    seen, found = np.zeros(len(permutation), dtype=bool), 0
    for start in range(len(permutation)):
        found += not seen[start]
        while not seen[start]:
            seen[start], start = True, permutation[start]
    return found


@pytest.mark.parametrize(
    ("lattice", "channels", "shape", "species"),
    [("fcc", 4, (2, 1, 1), 2), ("bcc", 2, (2, 2, 1), 2), ("sc", 1, (2, 2, 2), 3)],
)
def test_their_number_is_burnsides(lattice: str, channels: int, shape: tuple[int, int, int], species: int) -> None:
    a, b, c = shape
    group = {tuple(p.tolist()) for p, _ in
             moves(Superlattice(((a, 0, 0), (0, b, 0), (0, 0, c))), Crystal.cubic(channels, 3e-10))}  # fmt: skip
    burnside = sum(species ** cycles(np.array(p)) for p in group) // len(group)
    data = SupercellOccupations(lattice=lattice, shape=shape, species=("Fe", "Ni", "Cr")[:species])  # type: ignore[arg-type]
    structures = data.load(0)
    assert len(structures) == burnside
    assert structures.properties["multiplicity"].sum() == species ** (a * b * c * channels)


def test_a_cell_of_four_sites_has_its_five_occupations() -> None:
    """Of a face-centred cubic cell: no, one, two, three or four atoms of the other species, all equal by symmetry."""
    structures = SupercellOccupations(shape=(1, 1, 1)).load(0)
    found = sorted(zip((4 * structures.fractions[:, 1]).tolist(), structures.properties["multiplicity"], strict=True))
    assert found == [(0.0, 1.0), (1.0, 4.0), (2.0, 6.0), (3.0, 4.0), (4.0, 1.0)]


def test_a_sum_over_all_occupations_is_one_over_the_distinct_ones(data: Path, lammps: None) -> None:
    """log Z of an 8-site cell at 1,000 K, from 256 energies and from the distinct ones."""
    potential = str(data / "eam" / "FeNiCrCoAl-heaweight.eam.alloy")
    solver, kt = msvae.load_solver("lammps-energy", potential=potential), 1.380649e-23 * 1000
    structures = SupercellOccupations(species=("Ni", "Al"), shape=(2, 1, 1)).load(0)
    bits = np.arange(256)[:, None] // 2 ** np.arange(8) % 2
    every = msvae.Structures(bits.reshape(256, *structures.specification.shape), structures.specification)

    def log_sum(energies: np.ndarray, numbers: np.ndarray | float) -> float:
        least = energies.min()
        return float(np.log((numbers * np.exp(-8 * (energies - least) / kt)).sum()) - 8 * least / kt)

    known = log_sum(solver.evaluate(structures)["energy"], structures.properties["multiplicity"])
    assert len(structures) < 40
    assert known == pytest.approx(log_sum(solver.evaluate(every)["energy"], 1.0), abs=1e-8)


def test_too_many_are_one_sentence() -> None:
    with pytest.raises(DataError, match="32 sites can hold 2 species in 4294967296 ways"):
        SupercellOccupations(shape=(2, 2, 2)).load(0)
