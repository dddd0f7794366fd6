"""Effective properties of arrays of cylinders and spheres against published and exact solutions."""

from __future__ import annotations

import numpy as np
import pytest

import msvae
from msvae import DataError, Structures
from msvae_voxelfe.elements.trilinear import VOIGT


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


def cubic_array(f: float, ratio: float) -> float:
    """Return the conductivity of a simple cubic array of spheres: Sangani and Acrivos 1983, Proc. R. Soc. Lond. A 386,
    263, which goes on with what Rayleigh 1892 and McPhedran and McKenzie 1978 began, up to f^(25/3)."""
    low, second, third, fourth, fifth = ((ratio - 1) / (ratio + 2 * n / (2 * n - 1)) for n in range(1, 6))
    pair = 1.305 * second * f ** (10 / 3) * (1 + 0.231 * third * f ** (11 / 3)) / (1 - 0.405 * second * f ** (7 / 3))
    rest = 0.0723 * third * f ** (14 / 3) + 0.153 * fourth * f**6 + 0.0105 * fifth * f ** (22 / 3)
    return 1 - 3 * f / (-1 / low + f + pair + rest)


def test_the_formula_for_spheres_gives_maxwells_where_they_are_few_and_the_published_value_where_they_are_not() -> None:
    assert cubic_array(0.01, 10.0) == pytest.approx(1 + 0.03 * 0.75 / (1 - 0.0075), rel=1e-6)
    assert cubic_array(0.3, 1e12) == pytest.approx(2.333, abs=1e-3)  # McPhedran and McKenzie's table


@pytest.mark.parametrize(("fraction", "ratio"), [(0.2, 10.0), (0.4, 10.0), (0.4, 0.1), (0.3, 0.01)])
def test_a_simple_cubic_array_of_spheres_tends_to_the_published_conductivity(fraction: float, ratio: float) -> None:
    errors = []
    for n in (24, 72):
        found, f = conductivity(ball(n, fraction, 3), ratio)
        errors.append(abs(found / cubic_array(f, ratio) - 1))
    assert errors[1] < 0.015
    assert errors[1] < errors[0]


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


def tensor4(bulk: float, shear: float, d: int) -> np.ndarray:
    """Return the isotropic stiffness (d, d, d, d) with the three-dimensional bulk modulus; in 2D plane strain."""
    eye = np.eye(d)
    unit = np.einsum("ik,jl->ijkl", eye, eye) + np.einsum("il,jk->ijkl", eye, eye)
    return (bulk - 2 * shear / 3) * np.einsum("ij,kl->ijkl", eye, eye) + shear * unit


def rank_one_laminate(c: list[np.ndarray], f: float, normal: np.ndarray) -> np.ndarray:
    """Return the stiffness of a laminate with a part f of the second phase (Milton 2002, Theory of Composites, 9.2).

    C = <C> - f (1 - f) dC : [n (n . C' . n)^-1 n] : dC, with dC the difference and C' the phases with parts exchanged.
    """
    change = c[1] - c[0]
    acoustic = np.einsum("j,ijkl,l->ik", normal, f * c[0] + (1 - f) * c[1], normal)
    jump = np.einsum("ijkl,l->ijk", change, normal)  # dC . n, its last index contracted with the jump of displacement
    return (1 - f) * c[0] + f * c[1] - f * (1 - f) * np.einsum("ijk,km,pqm->ijpq", jump, np.linalg.inv(acoustic), jump)


def layers(n: int, normal: tuple[int, ...]) -> np.ndarray:
    """Return labels of a laminate of equal layers whose normal has these integers as components."""
    places = np.meshgrid(*(np.arange(n),) * len(normal), indexing="ij")
    phase = sum(k * x for k, x in zip(normal, places, strict=True)) % n
    return np.asarray(phase >= n // 2).astype(int)


@pytest.mark.parametrize("normal", [(1, 0), (1, 1), (1, 2), (3, 1), (0, 0, 1), (0, 1, 1), (1, 0, 2), (1, 1, 1)])
def test_a_laminate_at_any_angle_tends_to_the_exact_tensors(normal: tuple[int, ...]) -> None:
    d = len(normal)
    unit = np.array(normal) / np.linalg.norm(normal)
    exact_k = 2.5 * np.eye(d) - (2.5 - 1.6) * np.outer(unit, unit)  # conductivities 1 and 4
    moduli = [(2.0, 1.0), (6.0, 2.0)]
    pairs = VOIGT[d]
    whole = rank_one_laminate([tensor4(*m, d) for m in moduli], 0.5, unit)
    exact_c = np.array([[whole[i, j, k, m] for k, m in pairs] for i, j in pairs])
    phases = [{"youngs_modulus": 9 * k * g / (3 * k + g), "poissons_ratio": (3 * k - 2 * g) / (6 * k + 2 * g)}
              for k, g in moduli]  # fmt: skip
    errors = []
    for n in (16, 64) if d == 2 else (12, 36):
        structures = Structures.from_labels(layers(n, normal)[None])
        heat = msvae.load_solver("conductivity", phases=[{"conductivity": 1.0}, {"conductivity": 4.0}])
        elastic = msvae.load_solver("elasticity", phases=phases)
        k, c = heat.evaluate(structures)["conductivity"][0], elastic.evaluate(structures)["stiffness"][0]
        errors.append([np.abs(k - exact_k).max() / 2.5, np.abs(c - exact_c).max() / exact_c.max()])
    along_an_axis = np.count_nonzero(normal) == 1
    coarse, fine = np.array(errors)
    assert (fine < (1e-6 if along_an_axis else 0.02)).all()
    assert along_an_axis or (fine < 0.6 * coarse).all()


def slopes(d: int, inside: tuple[float, float]) -> tuple[float, float]:
    """Return d(bulk)/df and d(shear)/df at f = 0, extrapolated from two fractions, of an inclusion in (K, G) = (2, 1).

    The bulk modulus in 2D is that of plane strain; the shear modulus of the array is its mean over directions.
    """
    n = 192 if d == 2 else 80
    phases = [{"youngs_modulus": 9 * k * g / (3 * k + g), "poissons_ratio": (3 * k - 2 * g) / (6 * k + 2 * g)}
              for k, g in ((2.0, 1.0), inside)]  # fmt: skip
    structures = Structures.from_labels(np.stack([ball(n, f, d) for f in (0.02, 0.04)]), phases=2)
    c = msvae.load_solver("elasticity", phases=phases).evaluate(structures)["stiffness"]
    bulk = c[:, :d, :d].sum(axis=(1, 2)) / d**2
    across, along = (c[:, 0, 0] - c[:, 0, 1]) / 2, c[:, -1, -1]
    shear = (across + along) / 2 if d == 2 else (2 * across + 3 * along) / 5
    f = structures.fractions[:, 1]
    start = np.array([2 + 1 / 3 if d == 2 else 2.0, 1.0])
    found = (np.stack([bulk, shear]) - start[:, None]) / f
    return tuple(found[:, 0] - f[0] * (found[:, 1] - found[:, 0]) / (f[1] - f[0]))


@pytest.mark.parametrize("inside", [(6.0, 4.0), (0.5, 0.2)])
def test_dilute_spheres_and_cylinders_tend_to_eshelbys_moduli(inside: tuple[float, float]) -> None:
    """Eshelby 1957, Proc. R. Soc. Lond. A 241, 376; cylinders: Christensen 1979, Mechanics of Composite Materials."""
    (k0, g0), (k1, g1) = (2.0, 1.0), inside
    a, b = 3 * k0 / (3 * k0 + 4 * g0), 6 * (k0 + 2 * g0) / (5 * (3 * k0 + 4 * g0))
    bulk, shear = slopes(3, inside)
    assert bulk == pytest.approx((k1 - k0) / (1 + a * (k1 / k0 - 1)), rel=0.06)
    assert shear == pytest.approx((g1 - g0) / (1 + b * (g1 / g0 - 1)), rel=0.06)
    plane0, plane1 = k0 + g0 / 3, k1 + g1 / 3
    bulk, shear = slopes(2, inside)
    assert bulk == pytest.approx((plane1 - plane0) / (1 + (plane1 - plane0) / (plane0 + g0)), rel=0.04)
    factor = (plane0 + 2 * g0) / (2 * g0 * (plane0 + g0))
    assert shear == pytest.approx((g1 - g0) / (1 + (g1 - g0) * factor), rel=0.04)


def test_a_structure_that_does_not_fit_the_memory_is_refused_with_its_need(monkeypatch: pytest.MonkeyPatch) -> None:
    from msvae_voxelfe.linear import homogenization

    monkeypatch.setattr(homogenization, "free_bytes", lambda: 10_000)
    with pytest.raises(DataError, match=r"needs about [\d,]+ bytes, 10,000 are free"):
        conductivity(ball(16, 0.1, 3), 2.0)
