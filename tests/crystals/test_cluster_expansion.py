"""Cluster expansions: the orbits of the crystals, energies that are sums over them, and what icet says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import msvae
from msvae import Crystal, DataError, Grid, Quantity, Run, Specification, Structures
from msvae.campaigns.launch import launch
from msvae.files.structures import structures_to_bytes
from msvae_crystals.clusters import correlations, orbits
from msvae_crystals.expansion import Terms, fitted
from msvae_crystals.short_range_order import shells_of
from msvae_crystals.solid_solution import SolidSolution
from msvae_crystals.symmetry import operations

EV, A = 1.602176634e-19, 3.56e-10
FCC = Crystal.cubic(4, A)


def random(n: int, species: int = 2, shape: tuple[int, ...] = (2, 2, 3), seed: int = 0) -> Structures:
    names = ("Fe", "Ni", "Cr")[:species]
    fractions = ((0.0, 1.0),) if species == 2 else ((0.1, 0.5), (0.1, 0.5))
    return SolidSolution(species=names, fractions=fractions, shape=shape, count=n, constant=A).load(seed)


def ising(structures: Structures, crystal: Crystal = FCC) -> np.ndarray:
    """Return energies per site in J of interactions in two shells, counted pair by pair, and of a field."""
    spins = 2.0 * structures.values.reshape(len(structures), -1) - 1
    energies = -4.0 + 0.1 * spins.mean(axis=1)
    for strength, (a, b) in zip((0.02, -0.01), shells_of(crystal, structures.specification.grid.shape, 2), strict=True):
        energies += strength * (spins[:, a] * spins[:, b]).sum(axis=1) / 2 / spins.shape[1]
    return energies * EV


@pytest.mark.parametrize(
    ("cutoffs", "species", "numbers"),
    [
        ((6e-10,), 2, {1: 1, 2: 5}),  # five shells within 1.69 lattice constants
        ((6e-10, 3.6e-10), 2, {1: 1, 2: 5, 3: 2}),  # three nearest neighbours; two, and a second neighbour
        ((2.6e-10, 2.6e-10, 2.6e-10), 2, {1: 1, 2: 1, 3: 1, 4: 1}),  # pair, triangle and tetrahedron
        ((2.6e-10, 2.6e-10), 3, {1: 2, 2: 3, 3: 4}),  # of functions 1 and 2 of each site, whatever their order
    ],
)
def test_orbits_of_a_face_centred_crystal(cutoffs: tuple[float, ...], species: int, numbers: dict[int, int]) -> None:
    found = orbits(FCC, cutoffs, species)
    assert {k: sum(orbit.points == k for orbit in found) for k in numbers} == numbers
    assert sum(numbers.values()) == len(found)
    if species == 2:
        members = [len(orbit.members) for orbit in found[:3]]
        assert members[:2] == [4, 24]  # of 4 sites; 12 neighbours of each, every pair once


def test_correlations_do_not_change_with_symmetry() -> None:
    structures = random(3, 3, (3, 3, 3))
    found = orbits(FCC, (4e-10, 3.6e-10), 3)
    expected = correlations(structures.values, found, 3)
    cells = np.indices((4, 3, 3, 3)).reshape(4, -1)
    for operation in operations(FCC)[::17]:
        to, moved = operation.apply(cells[0], cells[1:].T)
        turned = np.empty_like(structures.values)
        turned[(slice(None), to, *(moved % 3).T)] = structures.values.reshape(3, -1)
        np.testing.assert_allclose(correlations(turned, found, 3), expected, atol=1e-12)


def test_a_random_alloy_has_the_correlations_of_its_composition() -> None:
    """Products of independent means, over a large cell."""
    structures = SolidSolution(species=("Fe", "Ni"), fractions=((0.3, 0.3),), shape=(10, 10, 10), count=1).load(0)
    found = correlations(structures.values, orbits(Crystal.cubic(4, 3.56e-10), (3e-10, 3e-10), 2), 2)[0]
    np.testing.assert_allclose(found, [0.4, 0.4**2, 0.4**3], atol=0.02)


@pytest.mark.parametrize("method", ["ridge", "lasso"])
def test_interactions_of_an_ising_model_are_found(method: Any) -> None:
    structures, others = random(40), random(10, shape=(3, 3, 3), seed=1)
    found = fitted(
        Terms(FCC, (4e-10, 3.6e-10), 2), structures.values, ising(structures), method=method, folds=5, penalty=1e-9
    )
    np.testing.assert_allclose(found.energies(others.values) / EV, ising(others) / EV, atol=1e-5)
    np.testing.assert_allclose(found.coefficients[:4] / EV, [-4.0, 0.1, 0.02 * 6, -0.01 * 3], atol=1e-5)
    assert found.score < 1e-5 * EV


def test_the_score_is_the_error_on_structures_that_were_not_fitted_to() -> None:
    """Energies with noise: what cross-validation says, and what new structures show."""
    rng, noise = np.random.default_rng(0), 2e-3
    structures, others = random(120), random(200, seed=1)
    energies = ising(structures) + noise * EV * rng.standard_normal(120)
    found = fitted(Terms(FCC, (6e-10, 4.5e-10), 2), structures.values, energies, method="ridge", folds=10, penalty=None)
    error = np.sqrt(np.mean((found.energies(others.values) - ising(others)) ** 2) + (noise * EV) ** 2)
    assert found.score == pytest.approx(error, rel=0.2)
    assert found.score < 1.2 * noise * EV


@pytest.fixture
def known(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes structures with energies to a file."""

    def write(structures: Structures, energies: np.ndarray) -> Path:
        labelled = structures.with_properties({"energy": energies}, [Quantity("energy", "J")])
        (tmp_path / "known.h5").write_bytes(structures_to_bytes(labelled))
        return tmp_path / "known.h5"

    return write


def test_a_solver_that_is_fitted_to_a_file_predicts_and_states_its_score(known: Callable[..., Path]) -> None:
    structures, others = random(60), random(5, seed=1)
    energies = ising(structures)
    energies[::7] = np.nan  # not computed
    solver = msvae.load_solver("cluster-expansion", data=str(known(structures, energies)), cutoffs=[4e-10])
    assert solver.misfit(others.specification) is None
    np.testing.assert_allclose(solver.evaluate(others)["energy"] / EV, ising(others) / EV, atol=1e-4)
    said = solver.conditions(others.specification)
    assert "root mean square of 10 folds of 51 structures" in said["cross-validation"]
    assert said["expansion"].startswith("3 of 3 orbits, ridge of ")


def test_vacancies_are_species_and_no_atoms(known: Callable[..., Path]) -> None:
    structures = SolidSolution(
        species=("Ni", "vacancy"), fractions=((0.8, 0.95),), shape=(2, 2, 3), count=60, constant=A
    )
    loaded = structures.load(0)
    per_atom = ising(loaded) / loaded.fractions[:, 0]
    solver = msvae.load_solver("cluster-expansion", data=str(known(loaded, per_atom)), cutoffs=[4e-10])
    other = structures.load(1)
    np.testing.assert_allclose(
        solver.evaluate(other)["energy"] / EV, ising(other) / other.fractions[:, 0] / EV, atol=1e-3
    )
    empty = Structures(np.ones((1, 4, 2, 2, 3), dtype=np.uint8), other.specification)
    assert solver.evaluate(empty).failures == {0: "there is no atom on any site"}


def test_an_expansion_of_a_run_stands_in_for_its_solver(tmp_path: Path, data: Path, lammps: None) -> None:
    study = tmp_path / "study.toml"
    study.write_text(
        'campaign = "label"\n[dataset]\nname = "solid-solution"\nspecies = ["Ni", "Al"]\nfractions = [[0.5, 1.0]]\n'
        'count = 80\nshape = [2, 2, 2]\n[solver]\nname = "lammps-energy"\nrelax = "positions"\n'
        f'potential = "{data}/eam/FeNiCrCoAl-heaweight.eam.alloy"\n'
    )
    launch(study, tmp_path / "run")
    launch(study, tmp_path / "other", overrides=["seed=1", "dataset.count=20"])
    launch(study, tmp_path / "expansion", overrides=[
        "seed=1", "dataset.count=20", f"solver={{name='cluster-expansion', data='{tmp_path}/run'}}"])  # fmt: skip
    true, found = (Run.open(tmp_path / name).evaluations.properties["energy"] / EV for name in ("other", "expansion"))
    assert np.sqrt(np.mean((true - found) ** 2)) < 0.1 * true.std()


def test_what_an_expansion_comes_from_is_one_thing_and_fits(known: Callable[..., Path]) -> None:
    for settings in ({}, {"coefficients": [1.0], "data": "x"}):
        with pytest.raises(msvae.MsvaeError, match="an expansion comes from data, coefficients or file"):
            msvae.load_solver("cluster-expansion", **settings)
    one = random(1)
    with pytest.raises(DataError, match="coefficients has 2 numbers; there are 6 orbits"):
        msvae.load_solver("cluster-expansion", coefficients=[1.0, 2.0], cutoffs=[6e-10]).evaluate(one)
    assert "'absent' does not exist" in str(
        msvae.load_solver("cluster-expansion", data="absent").misfit(one.specification)
    )
    path = str(known(random(20, 3), np.ones(20)))
    with pytest.raises(DataError, match="has Fe, Ni, Cr and the properties energy, expected Fe, Ni and energy"):
        msvae.load_solver("cluster-expansion", data=path).evaluate(one)
    open_ends = Specification("occupation", 4, Grid.of((2, 2, 2), A, periodic=False), ("Fe", "Ni"))
    assert "is for periodic crystals" in str(msvae.load_solver("cluster-expansion", data=path).misfit(open_ends))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")
def test_an_expansion_of_icet_is_read_and_is_one_of_ours(tmp_path: Path, known: Callable[..., Path]) -> None:
    icet, build = pytest.importorskip("icet"), pytest.importorskip("ase.build")
    space = icet.ClusterSpace(build.bulk("Ni", a=3.56), [6.0, 4.5], ["Fe", "Ni"])
    terms = Terms(FCC, (6e-10, 4.5e-10), 2)
    assert len(space) == 1 + len(terms.orbits)
    parameters = np.random.default_rng(0).normal(size=len(space)) * 0.02
    icet.ClusterExpansion(space, parameters).write(str(tmp_path / "fe-ni.ce"))
    structures = random(50)
    theirs = msvae.load_solver("cluster-expansion", file=str(tmp_path / "fe-ni.ce")).evaluate(structures)["energy"]
    assert theirs.std() > 0.01 * EV
    ours = fitted(terms, structures.values, theirs, method="ridge", folds=10, penalty=1e-12)
    others = random(5, shape=(3, 3, 3), seed=1)
    expected = msvae.load_solver("cluster-expansion", file=str(tmp_path / "fe-ni.ce")).evaluate(others)["energy"]
    np.testing.assert_allclose(ours.energies(others.values) / EV, expected / EV, atol=1e-6)
