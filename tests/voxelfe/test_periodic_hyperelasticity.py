"""Finite strain of periodic structures: exact solutions, the work of the mean stress, small strains, frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import msvae
from msvae import Structures
from msvae_voxelfe.materials import neo_hookean

SOFT, HARD = {"youngs_modulus": 2e6, "poissons_ratio": 0.3}, {"youngs_modulus": 9e6, "poissons_ratio": 0.25}
PORE = {"youngs_modulus": 0.0}


def solve(labels: np.ndarray, deformation: Any, *phases: dict[str, float], **settings: Any) -> Any:
    solver = msvae.load_solver(
        "periodic-hyperelasticity", phases=list(phases), deformation=np.asarray(deformation).tolist(), **settings
    )
    return solver.evaluate(Structures.from_labels(labels, 2e-6, phases=2))


def lame(phase: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
    e, nu = phase["youngs_modulus"], phase["poissons_ratio"]
    return np.array(e * nu / ((1 + nu) * (1 - 2 * nu))), np.array(e / (2 * (1 + nu)))


def test_in_3d_stress_and_tangent_are_derivatives_of_the_energy() -> None:
    rng = np.random.default_rng(0)
    f = np.eye(3) + 0.2 * rng.standard_normal((3, 3))
    moduli = lame(SOFT)
    stress, tangent = neo_hookean.stress_and_tangent(f, *moduli)
    step = 1e-6
    for i in range(3):
        for j in range(3):
            change = np.zeros((3, 3))
            change[i, j] = step
            ahead, behind = f + change, f - change
            slope = (neo_hookean.energy(ahead, *moduli) - neo_hookean.energy(behind, *moduli)) / (2 * step)
            assert stress[i, j] == pytest.approx(slope, rel=1e-6)
            bend = [neo_hookean.stress_and_tangent(g, *moduli)[0] for g in (ahead, behind)]
            np.testing.assert_allclose(tangent[:, :, i, j], (bend[0] - bend[1]) / (2 * step), rtol=1e-5, atol=1)


@pytest.mark.parametrize("shape", [(3, 2), (2, 3, 2)])
def test_a_homogeneous_structure_deforms_as_its_mean(shape: tuple[int, ...]) -> None:
    d = len(shape)
    f = np.array([[1.3, 0.2, 0.0], [0.1, 0.9, -0.1], [0.0, 0.3, 1.1]])[:d, :d]
    found = solve(np.zeros((1, *shape), dtype=int), f, SOFT, SOFT, steps=[1.0])
    stress, _ = neo_hookean.stress_and_tangent(f, *lame(SOFT))
    np.testing.assert_allclose(found["stress"][0, 0], stress, rtol=1e-9)
    assert found["energy"][0, 0] == pytest.approx(float(neo_hookean.energy(f, *lame(SOFT))))
    corner = np.full(d, 0.5) * 2e-6
    at_first = (0, 0, slice(None), *(0,) * d)
    np.testing.assert_allclose(found["displacement"][at_first], (f - np.eye(d)) @ corner, atol=1e-18)


@pytest.mark.parametrize("shape", [(5, 6), (4, 3, 4)])
def test_the_work_of_the_mean_stress_is_the_stored_energy(shape: tuple[int, ...]) -> None:
    """Hill's lemma: dW = P : dF, integrated along the path by Simpson's rule."""
    d = len(shape)
    labels = np.random.default_rng(1).integers(0, 2, (1, *shape))
    f = np.eye(d) + 0.3 * np.array([[0.5, 0.6, 0.0], [-0.2, -0.3, 0.1], [0.1, 0.2, 0.3]])[:d, :d]
    found = solve(labels, f, SOFT, HARD, steps=np.linspace(0, 1, 9)[1:].tolist(), tolerance=1e-7)
    power = np.concatenate([[0.0], np.einsum("sij,ij->s", found["stress"][0], f - np.eye(d))])
    weights = np.array([1, 4, 2, 4, 2, 4, 2, 4, 1]) / 24
    assert weights @ power == pytest.approx(found["energy"][0, -1], rel=2e-4)
    assert (found.iteration_errors["energy"] < 1e-6 * found["energy"]).all()


def test_small_strains_have_the_linear_stiffness() -> None:
    labels = np.random.default_rng(2).integers(0, 2, (1, 6, 6))
    stiffness = msvae.load_solver("elasticity", phases=[SOFT, HARD], tolerance=1e-7)
    c = stiffness.evaluate(Structures.from_labels(labels))["stiffness"][0]
    small = 1e-6
    found = solve(labels, [[1 + small, 0.0], [0.0, 1.0]], SOFT, HARD, steps=[1.0], tolerance=1e-7)
    stress = found["stress"][0, 0]
    np.testing.assert_allclose([stress[0, 0], stress[1, 1], stress[0, 1]], small * c[0], rtol=1e-4, atol=1e-3)


def test_a_rotation_stores_nothing_and_turns_the_stress() -> None:
    labels = np.random.default_rng(3).integers(0, 2, (1, 5, 5))
    angle = 0.4
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    stretch = np.array([[1.2, 0.0], [0.0, 0.9]])
    plain = solve(labels, stretch, SOFT, HARD, steps=[1.0], tolerance=1e-7)
    turned = solve(labels, turn @ stretch, SOFT, HARD, steps=[1.0], tolerance=1e-7)
    assert turned["energy"][0, 0] == pytest.approx(plain["energy"][0, 0], rel=1e-6)
    np.testing.assert_allclose(turned["stress"][0, 0], turn @ plain["stress"][0, 0], rtol=1e-5, atol=10)


def test_pores_weaken_and_a_large_load_is_reached_in_smaller_steps() -> None:
    labels = np.zeros((2, 8, 8), dtype=int)
    labels[1, 2:5, 2:5] = 1
    found = solve(labels, [[1.8, 0.0], [0.0, 1.0]], SOFT, PORE, steps=[1.0])
    assert not found.failures
    assert 0.3 < found["energy"][1, 0] / found["energy"][0, 0] < 0.86


def test_what_has_no_equilibrium_is_a_failure_and_bad_settings_are_refused() -> None:
    labels = np.random.default_rng(0).integers(0, 2, (1, 4, 4))
    found = solve(labels, [[0.02, 0.0], [0.0, 1.0]], SOFT, HARD, steps=[1.0])
    assert "no equilibrium" in found.failures[0]
    assert np.isnan(found["energy"]).all()
    for deformation, says in (([[1.0, 0.0]], "2 x 2 or 3 x 3"), ([[-1.0, 0.0], [0.0, 1.0]], "determinant above 0")):
        with pytest.raises(msvae.MsvaeError, match=says):
            solve(labels, deformation, SOFT, HARD)
    with pytest.raises(msvae.MsvaeError, match="ascending order"):
        solve(labels, np.eye(2), SOFT, HARD, steps=[1.0, 0.5])
