"""J2 plasticity against the one-element solution, its own tangent, elasticity, and bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.optimize import brentq

import msvae
from msvae import Structures
from msvae_voxelfe.materials.j2 import History, Material, radial_return

E, NU, Y0, H, Q, B = 70e9, 0.33, 200e6, 2e9, 100e6, 30.0
PHASE = {"youngs_modulus": E, "poissons_ratio": NU, "yield_stress": Y0, "hardening": H, "saturation": Q, "rate": B}
PORE = {"youngs_modulus": 0.0}


def curve(labels: np.ndarray, *phases: dict[str, float], **settings: Any) -> msvae.Properties:
    result = msvae.load_solver("plasticity", phases=list(phases), **settings).evaluate(Structures.from_labels(labels))
    assert isinstance(result, msvae.Properties)
    return result


def uniaxial_stress(strain: float) -> float:
    """Return the exact stress of a homogeneous bar: strain = stress / E + a with stress = y(a)."""
    if E * strain < Y0:
        return E * strain
    return E * (strain - brentq(lambda a: (Y0 + H * a + Q * (1 - np.exp(-B * a))) / E + a - strain, 0, strain))


def porous(fraction: float, n: int = 10) -> np.ndarray:
    field = ndimage.gaussian_filter(np.random.default_rng(0).random((n, n, n)), 1.2, mode="wrap")
    return (field > np.quantile(field, 1 - fraction)).astype(int)[None]


def test_a_homogeneous_bar_follows_the_one_element_solution() -> None:
    strains = [0.001, 0.004, 0.01, 0.03]
    found = curve(np.zeros((1, 3, 2, 2), dtype=int), PHASE, strains=strains, tolerance=1e-8)
    exact = [uniaxial_stress(e) for e in strains]
    np.testing.assert_allclose(found["stress"][0, :, 0], exact, rtol=1e-8)
    np.testing.assert_allclose(found["stress"][0, :, 1:], 0, atol=1e-6 * Y0)
    assert found["strain"][0, 0, 1] == pytest.approx(-NU * strains[0])


def test_unloading_is_elastic() -> None:
    found = curve(np.zeros((1, 2, 2, 2), dtype=int), PHASE, strains=[0.02, 0.0195], tolerance=1e-8)
    slope = (found["stress"][0, 0, 0] - found["stress"][0, 1, 0]) / 0.0005
    assert slope == pytest.approx(E, rel=1e-6)


def test_the_tangent_is_the_derivative_of_the_stress() -> None:
    torch.manual_seed(0)
    m = Material(*(torch.full((40,), v, dtype=torch.float64) for v in (2.0, 1.0, 0.01, 0.1, 0.02, 50.0)))
    history = History(0.01 * torch.randn(6, 40, dtype=torch.float64), 0.01 * torch.rand(40, dtype=torch.float64))
    history.plastic[:3] -= history.plastic[:3].mean(dim=0)
    strain = 0.03 * torch.randn(6, 40, dtype=torch.float64)
    _, tangent, new = radial_return(strain, history, m)
    assert (new.accumulated > history.accumulated).any()
    for k in range(6):
        step = torch.zeros_like(strain)
        step[k] = 1e-7
        plus, minus = (radial_return(strain + s, history, m)[0] for s in (step, -step))
        np.testing.assert_allclose(tangent[:, k], (plus - minus) / 2e-7, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 5), (4, 5, 4)])
def test_before_yield_the_curve_is_that_of_elasticity(shape: tuple[int, ...]) -> None:
    labels = np.random.default_rng(0).integers(0, 2, (1, *shape))
    phases = [{"youngs_modulus": 1e9, "poissons_ratio": 0.3}, {"youngs_modulus": 8e9, "poissons_ratio": 0.2}]
    found = curve(labels, *phases, strains=[0.001], tolerance=1e-8)
    stiffness = msvae.load_solver("elasticity", phases=phases, tolerance=1e-7).evaluate(Structures.from_labels(labels))
    compliance = np.linalg.inv(stiffness["stiffness"][0])
    assert found["stress"][0, 0, 0] == pytest.approx(0.001 / compliance[0, 0], rel=1e-6)
    clamped = curve(labels, *phases, strains=[0.001], free=False, tolerance=1e-8)
    np.testing.assert_allclose(clamped["stress"][0, 0], 0.001 * stiffness["stiffness"][0][0], rtol=1e-6, atol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("fraction", [0.05, 0.15])
def test_pores_weaken_below_the_matrix_and_gursons_bound(fraction: float) -> None:
    """Uniaxially, Gurson's yield criterion is at most (1 - f) times that of the matrix (Gurson 1977)."""
    strains = [0.004, 0.01, 0.02]
    nearly_perfect = {**PHASE, "hardening": 1e-4 * E, "saturation": 0.0}
    labels = porous(fraction)
    found = curve(labels, nearly_perfect, PORE, strains=strains)
    assert not found.failures
    assert (found["stress"][0, :, 0] < (1 - labels.mean()) * Y0).all()
    assert (found["stress"][0, -1, 0] > 0.5 * (1 - labels.mean()) * Y0).all()


def test_a_laminate_loaded_along_its_layers_follows_the_mean_of_its_phases() -> None:
    labels = np.zeros((1, 2, 4, 2), dtype=int)
    labels[:, :, 2:] = 1
    hard = {**PHASE, "yield_stress": 4 * Y0}
    strains = [0.01, 0.02]
    found = curve(labels, PHASE, hard, strains=strains, tolerance=1e-7)["stress"][0, :, 0]
    soft = curve(labels * 0, PHASE, strains=strains)["stress"][0, :, 0]
    strong = curve(labels * 0, hard, strains=strains)["stress"][0, :, 0]
    np.testing.assert_allclose(found, (soft + strong) / 2, rtol=0.02)


def test_what_cannot_be_solved_fails_alone_and_bad_settings_are_refused() -> None:
    labels = np.stack([np.zeros((3, 3), dtype=int), np.ones((3, 3), dtype=int)])
    found = curve(labels, PHASE, PORE, strains=[0.001])
    assert list(found.failures) == [1]
    assert np.isfinite(found["stress"][0]).all()
    with pytest.raises(msvae.StudyError, match="yield_stress is above 0"):
        curve(labels, {**PHASE, "yield_stress": 0.0})
    with pytest.raises(msvae.StudyError, match="1 entry or more"):
        curve(labels, PHASE, strains=[])
