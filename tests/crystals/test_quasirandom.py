"""Special quasirandom structures: short-range order as in a random alloy, found by annealing."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from msvae import Crystal
from msvae_crystals.quasirandom import SpecialQuasirandom, _Pairs
from msvae_crystals.short_range_order import shells_of, warren_cowley
from msvae_crystals.solid_solution import SolidSolution


def test_shells_have_the_coordination_numbers_of_the_crystals() -> None:
    for channels, numbers in ((1, [6, 12, 8, 6]), (2, [8, 6, 12, 24, 8]), (4, [12, 6, 24, 12])):
        shells = shells_of(Crystal.cubic(channels, 3e-10), (3, 3, 3), len(numbers))
        assert [len(first) // (27 * channels) for first, _ in shells] == numbers


def test_order_is_that_of_l1_2() -> None:
    """Cu3Au: an Au atom has no Au in the first shell and only Au in the second; 1 - 0 and 1 - 1 / c."""
    values = np.zeros((1, 4, 2, 2, 2), dtype=np.uint8)
    values[:, 0] = 1
    found = warren_cowley(values, shells_of(Crystal.cubic(4, 3.7e-10), (2, 2, 2), 2), 2)
    np.testing.assert_allclose(found[0, :, 1, 1], [1.0, 1 - 4.0])
    np.testing.assert_allclose(found[0, :, 0, 1], [1 - 4 / 3, 1.0])


def test_annealing_finds_the_least_of_all_occupations_of_a_small_cell() -> None:
    shape, shells = (2, 1, 1), shells_of(Crystal.cubic(4, 3.56e-10), (2, 1, 1), 3)

    def objective(occupation: np.ndarray) -> float:
        return _Pairs(occupation.astype(int), shells, 2).objective

    every = [np.isin(np.arange(8), chosen) for chosen in combinations(range(8), 4)]
    least = min(objective(occupation) for occupation in every)
    found = SpecialQuasirandom(shape=shape, count=3, shells=3, steps=500).load(0)
    assert [objective(v.ravel()) for v in found.values] == pytest.approx([least] * 3)
    assert np.mean([objective(occupation) for occupation in every]) > 2 * least


def test_a_cell_of_256_atoms_has_no_order_in_four_shells() -> None:
    structures = SpecialQuasirandom(shape=(4, 4, 4), count=2).load(0)
    assert np.abs(structures.properties["warren_cowley"]).max() < 1e-12
    assert structures.fractions[:, 0].tolist() == [0.5, 0.5]
    assert len(set(structures.ids)) == 2
    random = warren_cowley(
        np.random.default_rng(0).integers(0, 2, (1, 4, 4, 4, 4)), shells_of(Crystal.cubic(4, 1.0), (4, 4, 4), 4), 2
    )
    assert np.abs(random).max() > 0.02


def test_a_solid_solution_lies_on_the_sites_of_a_crystal_from_a_file(tmp_path: Path) -> None:
    pytest.importorskip("ase")
    (tmp_path / "POSCAR").write_text(
        "hcp\n1\n3.2 0 0\n-1.6 2.77 0\n0 0 5.2\nMg\n2\nDirect\n0.33 0.67 0.25\n0.67 0.33 0.75\n"
    )
    data = SolidSolution(species=("Mg", "Al"), crystal=tmp_path / "POSCAR", shape=(3, 3, 2), count=2)
    specification = data.load(0).specification
    assert specification.shape == (2, 3, 3, 2)
    assert specification.grid.spacing == pytest.approx((3.2e-10, 3.1989e-10, 5.2e-10), rel=1e-4)


def test_three_species_in_a_crystal_of_two_atoms() -> None:
    structures = SpecialQuasirandom(
        species=("Fe", "Ni", "Cr"), fractions=(0.25, 0.25), lattice="bcc", shape=(4, 4, 2), count=1, shells=2
    ).load(3)
    assert structures.fractions[0].tolist() == [0.25, 0.25, 0.5]
    assert np.abs(structures.properties["warren_cowley"]).max() < 0.1


def test_pairs_that_are_counted_on_are_those_counted_anew() -> None:
    """In a cell so small that a site is its own neighbour."""
    shells, rng = shells_of(Crystal.cubic(4, 3.56e-10), (2, 1, 1), 4), np.random.default_rng(0)
    pairs = _Pairs(rng.integers(0, 3, 8), shells, 3)
    for a, b in rng.integers(0, 8, (100, 2)):
        pairs.exchange(int(a), int(b))
    np.testing.assert_array_equal(pairs.counts, _Pairs(pairs.occupation, shells, 3).counts)
