"""The lattice's operations, the clusters and the expansion of the energy, and the models with exact answers."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy.special import logsumexp

import msvae
from msvae import Grid, Specification, Structures
from msvae_partition.expansion.clusters import Clusters, Expansion, site_functions
from msvae_partition.expansion.symmetry import Lattice
from msvae_partition.lattice import RandomOccupation
from msvae_partition.models.exact import ising, kaufman
from msvae_partition.models.ising import BOLTZMANN


def specification(channels: int, shape: tuple[int, ...], names: tuple[str, ...] = ("a", "b")) -> Specification:
    return Specification("occupation", channels, Grid.of(shape, 3e-10), names)


def every(sites: int, species: int = 2) -> np.ndarray:
    return np.array([*itertools.product(range(species), repeat=sites)])


@pytest.mark.parametrize(
    ("channels", "shape", "count"),
    [(1, (4, 4), 128), (1, (3, 3, 3), 27 * 48), (2, (3, 3, 3), 54 * 48), (4, (3, 3, 3), 108 * 48), (1, (3, 5), 60)],
)
def test_a_cell_has_the_translations_times_the_point_group(channels: int, shape: tuple[int, ...], count: int) -> None:
    """Oh has 48 operations, C4v 8, C2v 4."""
    lattice = Lattice.of(specification(channels, shape))
    assert len(lattice.operations) == count
    assert (np.sort(lattice.operations, axis=1) == np.arange(lattice.sites)).all()
    apart = lattice.distances()
    for operation in lattice.operations[:: max(count // 20, 1)]:
        np.testing.assert_allclose(apart[operation][:, operation], apart, atol=1e-16)


@pytest.mark.parametrize(("c", "count"), [(1.6, 9 * 3 * 24), (1.0, 9 * 3 * 24)])
def test_a_hexagonal_crystal_of_a_file_has_its_own_operations(tmp_path: Path, c: float, count: int) -> None:
    """A simple hexagonal lattice: D6h has 24 operations; its distances are those of the nearest images."""
    (tmp_path / "POSCAR").write_text(
        f"hexagonal\n3.0\n1.0 0.0 0.0\n-0.5 0.8660254037844386 0.0\n0.0 0.0 {c}\nFe\n1\nDirect\n0.0 0.0 0.0\n"
    )
    own = Specification("occupation", 1, Grid.of((3, 3, 3), (3e-10, 3e-10, 3e-10 * c)), ("a", "b"))
    lattice = Lattice.of(own, crystal=tmp_path / "POSCAR")
    assert len(lattice.operations) == count
    apart = lattice.distances() / 3e-10
    assert (np.isclose(apart, 1.0).sum(axis=1) == (6 if c > 1 else 8)).all()
    for operation in lattice.operations[::40]:
        np.testing.assert_allclose(apart[operation][:, operation], apart, atol=1e-6)


def test_images_have_one_occupation_that_stands_for_them_and_others_have_another() -> None:
    """By Burnside's lemma there are as many classes as occupations that an operation leaves, in the mean."""
    lattice = Lattice.of(specification(1, (3, 3)))
    occupations = every(9)
    cycles = [len(np.unique(_smallest_of_orbit(operation))) for operation in lattice.operations]
    classes = np.unique(lattice.canonical(occupations), axis=0)
    assert len(classes) == np.mean([2.0**c for c in cycles])
    operation = lattice.operations[-1]
    np.testing.assert_array_equal(lattice.canonical(occupations[:, operation]), lattice.canonical(occupations))


def _smallest_of_orbit(operation: np.ndarray) -> np.ndarray:
    smallest = np.arange(len(operation))
    for _ in range(len(operation)):
        smallest = np.minimum(smallest, smallest[operation])
    return smallest


def test_a_wrong_basis_is_refused() -> None:
    with pytest.raises(msvae.DataError, match="3 sites in a unit cell, basis names 0"):
        Lattice.of(specification(3, (2, 2, 2)))


@pytest.mark.parametrize("species", [2, 3, 4])
def test_site_functions_are_orthonormal(species: int) -> None:
    functions = np.column_stack([np.ones(species), site_functions(species)])
    np.testing.assert_allclose(functions.T @ functions / species, np.eye(species), atol=1e-9)


@pytest.mark.parametrize("species", [2, 3])
def test_an_expansion_finds_interactions_that_it_can_express(species: int) -> None:
    """Random tables of pairs of first and second neighbours, and of triplets: foreseen to rounding."""
    lattice = Lattice.of(specification(1, (4, 4), tuple("abc"[:species])))
    rng, apart = np.random.default_rng(0), Lattice.distances(lattice)
    tables = rng.standard_normal((2, species, species))
    tables = tables + tables.transpose(0, 2, 1)
    shells = np.unique(np.round(apart / 3e-10, 6))[1:3]

    def energy(x: np.ndarray) -> np.ndarray:
        total = np.zeros(len(x))
        for table, shell in zip(tables, shells, strict=True):
            for i, j in np.argwhere(np.triu(np.isclose(apart / 3e-10, shell))):
                total += table[x[:, i], x[:, j]]
        return total

    occupations = rng.integers(0, species, (60, 16))
    expansion = Expansion.fitted(Clusters.of(lattice, 3, 1), occupations, energy(occupations))
    new = rng.integers(0, species, (20, 16))
    np.testing.assert_allclose(expansion(new), energy(new), atol=1e-6)
    assert expansion.error < 1e-6


def test_cross_validation_is_that_of_refitting_without_each() -> None:
    lattice = Lattice.of(specification(1, (4, 4)))
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 2, (12, 16)), rng.standard_normal(12)
    clusters = Clusters.of(lattice, 2, 0)
    scale = clusters.prior / np.sqrt(clusters.multiplicity)
    features = clusters.sums(x) * scale
    found = Expansion.fitted(clusters, x, y).error
    kernel = (features - features.mean(0)) @ (features - features.mean(0)).T
    errors = []
    for strength in np.logspace(-10, 2, 25) * np.linalg.eigvalsh(kernel).clip(0).mean():
        left = []
        for k in range(12):
            rest = np.arange(12) != k
            a, b, m = features[rest], y[rest], features[rest].mean(0)
            c = (a - m).T @ np.linalg.solve((a - m) @ (a - m).T + strength * np.eye(11), b - b.mean())
            left.append(y[k] - b.mean() - (features[k] - m) @ c)
        errors.append(np.sqrt(np.mean(np.square(left))) / 16)
    assert found == pytest.approx(min(errors), rel=0.05)  # centred without each, too: differs by O(1/n)


@pytest.mark.parametrize("shape", [(4, 4), (3, 4), (2, 5), (12,), (2, 2, 3)])
@pytest.mark.parametrize("field", [0.0, 0.3])
def test_the_ising_solver_gives_the_sum_over_states(shape: tuple[int, ...], field: float) -> None:
    """Two dimensions: the transfer matrix; one: 2 cosh and so on are the same with one row."""
    sites = int(np.prod(shape))
    structures = Structures(every(sites).reshape(-1, 1, *shape), specification(1, shape))
    found = msvae.load_solver("ising", field=field * BOLTZMANN).evaluate(structures)
    log_z = logsumexp(-0.4 * sites * found["energy"] / BOLTZMANN)
    if len(shape) == 2:
        assert log_z == pytest.approx(ising(shape, 0.4, field), rel=1e-12)  # type: ignore[arg-type]
    elif len(shape) == 1:
        own, flip = np.exp([0.4 * (1 + field), 0.4 * (1 - field)]), np.exp(-0.4)
        values = np.linalg.eigvals(np.array([[own[0], flip], [flip, own[1]]]))
        assert log_z == pytest.approx(np.log((values**12).sum()), rel=1e-12)
    else:
        values = every(sites).reshape(-1, *shape) * 2 - 1
        bonds = sum((values * np.roll(values, 1, axis)).sum(axis=(1, 2, 3)) for axis in (1, 2, 3))
        assert log_z == pytest.approx(logsumexp(0.4 * (bonds + field * values.sum(axis=(1, 2, 3)))), rel=1e-12)


@pytest.mark.parametrize("beta", [0.2, 0.4407, 0.6])
def test_kaufmans_formula_is_the_transfer_matrix(beta: float) -> None:
    published = {4: (11.771470, 15.522246, 20.056533), 6: (26.444949, 34.112262, 44.258107)}
    for n, values in published.items():
        assert kaufman((n, n), beta) == pytest.approx(values[(0.2, 0.4407, 0.6).index(beta)], abs=1e-6)
    assert kaufman((8, 6), beta) == pytest.approx(ising((8, 6), beta), rel=1e-12)


def test_a_lattice_gas_is_an_ising_model_with_another_origin() -> None:
    structures = Structures(every(9).reshape(-1, 1, 3, 3), specification(1, (3, 3)))
    gas = msvae.load_solver("lattice-gas", attraction=4.0).evaluate(structures)["energy"]
    spins = msvae.load_solver("ising", coupling=1.0).evaluate(structures)["energy"]
    filled = structures.values.reshape(-1, 9).mean(axis=1)
    np.testing.assert_allclose(gas, spins - 8 * filled + 2, atol=1e-12)  # 4 n n' = (s + 1)(s' + 1), two bonds a site


def test_random_occupations_keep_a_composition() -> None:
    fixed = RandomOccupation(species=("a", "b", "c"), shape=(4, 5), composition=(0.5, 0.3, 0.2), count=6).load(0)
    np.testing.assert_array_equal(fixed.fractions, np.tile([0.5, 0.3, 0.2], (6, 1)))
    free = RandomOccupation(species=("a", "b", "c"), shape=(4, 5), count=400).load(0)
    np.testing.assert_allclose(free.fractions.mean(axis=0), 1 / 3, atol=0.02)
    with pytest.raises(ValueError, match="composition has a fraction for each of the 2 species"):
        RandomOccupation(composition=(1.0,))
