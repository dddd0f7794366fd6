"""Finite strain against exact solutions and the published Mechanical MNIST results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import msvae
from msvae import Structures
from msvae_microstructures.mechanical_mnist import MechanicalMnist
from msvae_voxelfe.materials import neo_hookean

E, NU = 3.0, 0.3
LAM, MU = E * NU / ((1 + NU) * (1 - 2 * NU)), E / (2 * (1 + NU))


def solver(*moduli: float, **settings: Any) -> msvae.Solver:
    phases = [{"youngs_modulus": e, "poissons_ratio": NU} for e in moduli]
    return msvae.load_solver("hyperelasticity", phases=phases, **settings)


def energy_density(stretch_x: float, stretch_y: float) -> float:
    """Return psi at diag(stretch_x, stretch_y, 1), less its value at the identity."""
    j = stretch_x * stretch_y
    square = stretch_x**2 + stretch_y**2 + 1
    return MU / 2 * (square - 3 - 2 * np.log(j)) + LAM / 2 * ((j**2 - 1) / 2 - np.log(j))


def test_stress_and_tangent_are_derivatives_of_the_energy() -> None:
    rng = np.random.default_rng(0)
    f = np.eye(2) + 0.3 * rng.standard_normal((5, 2, 2))
    lam, mu = rng.uniform(1, 2, (2, 5))
    stress, tangent = neo_hookean.stress_and_tangent(f, lam, mu)
    h = 1e-6
    for i in range(2):
        for axis in range(2):
            step = np.zeros((2, 2))
            step[i, axis] = h
            difference = (neo_hookean.energy(f + step, lam, mu) - neo_hookean.energy(f - step, lam, mu)) / (2 * h)
            np.testing.assert_allclose(stress[:, i, axis], difference, rtol=1e-6, atol=1e-8)
            plus, minus = (neo_hookean.stress_and_tangent(f + s, lam, mu)[0] for s in (step, -step))
            np.testing.assert_allclose(tangent[..., i, axis], (plus - minus) / (2 * h), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("case", "stretches"),
    [("confined-compression", lambda d: (1.0, 1 - d)), ("equibiaxial-extension", lambda d: (1 + d, 1 + d))],
)
def test_a_homogeneous_block_has_the_exact_energy_and_force(case: str, stretches: Any) -> None:
    n, h, loads = 6, 0.5, (0.1, 0.3)
    uniform = Structures.from_labels(np.zeros((1, n, n), dtype=int), h, periodic=False)
    found = solver(E, E, case=case, displacements=list(loads)).evaluate(uniform)
    area = (n * h) ** 2
    exact = [area * energy_density(*stretches(d)) for d in loads]
    np.testing.assert_allclose(found["energy"][0], exact, rtol=1e-9)
    x, y = stretches(loads[-1])
    pressure = LAM / 2 * ((x * y) ** 2 - 1)
    force = n * h * (MU * (y - 1 / y) + pressure / y)
    np.testing.assert_allclose(found["reaction"][0, -1], [0.0, force], rtol=1e-8, atol=1e-8)


def test_small_uniaxial_extension_is_linear_and_work_equals_energy() -> None:
    rng = np.random.default_rng(0)
    image = Structures.from_values(rng.random((1, 8, 8)), periodic=False)
    loads = np.linspace(1e-6, 1e-4, 5)
    found = solver(1.0, 10.0, displacements=loads.tolist()).evaluate(image)
    stiffness = found["reaction"][0, :, 1] / (8 * loads)
    np.testing.assert_allclose(stiffness, stiffness[0], rtol=1e-3)
    np.testing.assert_allclose(found["energy"][0], stiffness[0] * (8 * loads) ** 2 / 2, rtol=1e-3)


def test_large_strain_work_of_the_edge_equals_the_stored_energy() -> None:
    """d energy / d displacement = force (Castigliano)."""
    rng = np.random.default_rng(1)
    image = Structures.from_values(rng.random((1, 6, 6)), periodic=False)
    loads = np.array([0.299, 0.3, 0.301])
    for case, component in (("uniaxial-extension", 1), ("shear", 0)):
        found = solver(1.0, 10.0, displacements=loads.tolist(), case=case, tolerance=1e-10).evaluate(image)
        slope = (found["energy"][0, 2] - found["energy"][0, 0]) / (6 * 0.002)
        assert found["reaction"][0, 1, component] == pytest.approx(slope, rel=1e-5)


def test_a_mirror_image_deforms_as_the_mirror_image() -> None:
    rng = np.random.default_rng(2)
    image = rng.random((7, 5))
    both = Structures.from_values(np.stack([image, image[:, ::-1]]), periodic=False)
    found = solver(1.0, 10.0, displacements=[0.2]).evaluate(both)
    assert found["energy"][0, 0] == pytest.approx(found["energy"][1, 0], rel=1e-9)
    mirrored = found["displacement"][1, 0, :, :, ::-1] * np.array([-1.0, 1.0])[:, None, None]
    np.testing.assert_allclose(found["displacement"][0, 0], mirrored, atol=1e-8)


def test_a_load_beyond_reach_is_a_failure_of_that_structure_alone() -> None:
    image = Structures.from_values(np.stack([np.full((4, 4), 0.5), np.full((4, 4), -1.0)]), periodic=False)
    found = solver(1.0, 10.0, displacements=[0.1]).evaluate(image)
    assert list(found.failures) == [1]  # type: ignore[attr-defined]
    assert np.isnan(found["energy"][1]).all()
    assert np.isfinite(found["energy"][0]).all()


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"displacements": [0.2, 0.1]}, "ascend"), ({"displacements": [1.2], "case": "confined-compression"}, "below 1")],
)
def test_settings_without_an_equilibrium_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(msvae.StudyError, match=says):
        solver(1.0, 10.0, **settings)
    with pytest.raises(msvae.StudyError, match="no equilibrium"):
        solver(1.0, 0.0)


def published_errors(data: Path, rows: int) -> np.ndarray:
    """Return the relative errors (rows, 12) of the energies, beyond the rounding of the published ones."""
    structures = MechanicalMnist(path=data / "mechanical_mnist", limit=rows).load(0)
    found = solver(1.0, 100.0).evaluate(structures)
    published = structures.properties["energy"][:, 1:]
    rounding = 5e-6  # the files have five decimals
    excess = np.maximum(np.abs(found["energy"] - published) - rounding, 0)
    return np.asarray(excess / np.maximum(published, rounding))


def test_mechanical_mnist_energies_are_the_published_ones(data: Path) -> None:
    errors = published_errors(data, 4)
    assert errors[:, -1].mean() < 0.002
    assert errors.mean() < 0.005


@pytest.mark.slow
def test_a_hundred_mechanical_mnist_energies_are_the_published_ones(data: Path) -> None:
    errors = published_errors(data, 100)
    assert errors[:, -1].mean() < 0.002
    assert errors.mean() < 0.005


def check_fashion(data: Path, rows: int) -> None:
    folder = data / "mechanical_mnist_fashion"
    load = lambda name: np.loadtxt(folder / f"{name}_first100.txt", max_rows=rows)  # noqa: E731
    images = load("input_train_fashion_MNIST").reshape(rows, 28, 28) / 255
    found = solver(1.0, 25.0, displacements=[0.125, 0.25, 0.375, 0.5]).evaluate(
        Structures.from_values(images, periodic=False)
    )
    energy, force = load("UE_psi_train"), load("UE_rxnF_train")[:, 1]
    assert np.abs(found["energy"][:, -1] / energy - 1).mean() < 0.005
    assert np.abs(found["reaction"][:, -1, 1] / force - 1).mean() < 0.005
    published = np.stack([load(f"UE_disp_{c}_train").reshape(rows, 28, 28)[:, ::-1] for c in "xy"], axis=1)
    assert np.sqrt(((found["displacement"][:, -1] - published) ** 2).mean()) < 0.05


def test_fashion_energies_forces_and_fields_are_the_published_ones(data: Path) -> None:
    check_fashion(data, 4)


@pytest.mark.slow
def test_a_hundred_fashion_fields_are_the_published_ones(data: Path) -> None:
    check_fashion(data, 100)
