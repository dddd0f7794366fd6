"""Effective properties of arrays of cylinders and spheres against published and exact solutions."""

from __future__ import annotations

import numpy as np
import pytest

import msvae
from msvae import DataError, Structures


def ball(n: int, fraction: float, dimensions: int) -> np.ndarray:
    """Return labels of one disc or ball of the given fraction in the middle of a cell of n voxels a side."""
    centre = (np.arange(n) + 0.5) / n - 0.5
    square = sum(np.meshgrid(*(centre**2,) * dimensions, indexing="ij"))
    return (square <= np.sort(square, axis=None)[round(fraction * n**dimensions) - 1]).astype(int)


def conductivity(labels: np.ndarray, ratio: float) -> tuple[float, float]:
    """Return the conductivity along the first axis and the fraction of the inclusion."""
    solver = msvae.load_solver("conductivity", phases=[{"conductivity": 1.0}, {"conductivity": ratio}])
    structures = Structures.from_labels(labels[None], phases=2)
    return float(solver.evaluate(structures)["conductivity"][0, 0, 0]), float(structures.fractions[0, 1])


def square_array(f: float, ratio: float) -> float:
    """Return the conductivity of a square array of cylinders: Perrins et al. 1979, Proc. R. Soc. Lond. A 369, 207."""
    t = (1 + ratio) / (1 - ratio)
    return 1 - 2 * f / (t + f - 0.305827 * f**4 * t / (t**2 - 1.402958 * f**8) - 0.013362 * f**8 / t)


def test_the_formula_for_cylinders_gives_their_published_table() -> None:
    for f, value in ((0.1, 1.222), (0.3, 1.860), (0.5, 3.080)):
        assert square_array(f, 1e12) == pytest.approx(value, abs=1e-3)


@pytest.mark.parametrize(("fraction", "ratio"), [(0.2, 10.0), (0.4, 10.0), (0.4, 0.1), (0.5, 100.0)])
def test_a_square_array_of_cylinders_tends_to_the_published_conductivity(fraction: float, ratio: float) -> None:
    errors = []
    for n in (32, 128):
        found, f = conductivity(ball(n, fraction, 2), ratio)
        errors.append(abs(found / square_array(f, ratio) - 1))
    assert errors[1] < 0.02
    assert errors[1] < errors[0]


@pytest.mark.parametrize("ratio", [0.1, 10.0])
def test_dilute_spheres_tend_to_maxwells_conductivity(ratio: float) -> None:
    """Maxwell 1873; for a cubic array right to the order of f^(13/3)."""
    beta = (ratio - 1) / (ratio + 2)
    for fraction in (0.02, 0.06):
        found, f = conductivity(ball(32, fraction, 3), ratio)
        assert found == pytest.approx(1 + 3 * f * beta / (1 - f * beta), rel=0.01)


def test_dilute_spherical_pores_tend_to_eshelbys_bulk_modulus() -> None:
    """K = K0 - f (K0 + 4 G / 3) K0 / (4 G / 3 + f K0): Eshelby's slope, and the upper Hashin-Shtrikman bound."""
    phases = [{"youngs_modulus": 1.0, "poissons_ratio": 0.3}, {"youngs_modulus": 0.0}]
    solver = msvae.load_solver("elasticity", phases=phases)
    bulk, shear = 1 / (3 * 0.4), 1 / 2.6
    structures = Structures.from_labels(np.stack([ball(32, f, 3) for f in (0.01, 0.05)]), phases=2)
    stiffness = solver.evaluate(structures)["stiffness"]
    found = stiffness[:, :3, :3].sum(axis=(1, 2)) / 9
    f = structures.fractions[:, 1]
    exact = bulk - f * (bulk + 4 * shear / 3) * bulk / (4 * shear / 3 + f * bulk)
    np.testing.assert_allclose(found, exact, rtol=0.01)


def test_a_structure_that_does_not_fit_the_memory_is_refused_with_its_need(monkeypatch: pytest.MonkeyPatch) -> None:
    from msvae_voxelfe import homogenization

    monkeypatch.setattr(homogenization, "free_bytes", lambda: 10_000)
    with pytest.raises(DataError, match=r"needs about [\d,]+ bytes, 10,000 are free"):
        conductivity(ball(16, 0.1, 3), 2.0)
