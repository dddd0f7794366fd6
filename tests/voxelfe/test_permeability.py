"""Stokes flow against exact solutions, published drags, and the published permeability of a real sandstone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

import msvae
from msvae import Structures
from msvae_microstructures.tiff import Tiff
from msvae_voxelfe.flow.stokes import flow_along
from msvae_voxelfe.voxels.percolation import percolating


def permeability(labels: np.ndarray, spacing: float = 1.0, **settings: Any) -> msvae.Properties:
    solver = msvae.load_solver("permeability", **{"tolerance": 1e-4, **settings})
    result = solver.evaluate(Structures.from_labels(labels, spacing, phases=2))
    assert isinstance(result, msvae.Properties)
    return result


@pytest.mark.parametrize("boundary", ["periodic", "pressure"])
def test_flow_in_a_slit_tends_to_poiseuille_at_second_order(boundary: str) -> None:
    """K = w^3 / (12 H) for a slit of width w in a cell of height H; the other direction does not percolate."""
    errors = []
    for width in (4, 8, 16):
        pores = np.zeros((3, width + 2), dtype=bool)
        pores[:, 1 : 1 + width] = True
        found = flow_along(
            0, pores, (1.0,) * pores.ndim, periodic=boundary == "periodic", tolerance=1e-6, limit=200
        ).mean[0]
        errors.append(abs(found / (width**3 / (12 * (width + 2))) - 1))
    assert errors[2] < 0.01
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.1)


def test_flow_in_a_pipe_tends_to_poiseuille() -> None:
    """K = pi R^4 / (8 A) for a pipe of radius R in a cell of cross-section A."""
    errors = []
    for n in (16, 48):
        centre = (np.arange(n) + 0.5) / n - 0.5
        disc = np.add.outer(centre**2, centre**2) < 0.4**2
        found = flow_along(
            0, np.repeat(disc[None], 2, axis=0), (1.0,) * 3, periodic=True, tolerance=1e-6, limit=200
        ).mean[0]
        errors.append(abs(found / n**2 / (np.pi * 0.4**4 / 8) - 1))
    assert errors[1] < 0.05
    assert errors[1] < errors[0]


@pytest.mark.parametrize(("fraction", "drag"), [(0.064, 2.810), (0.125, 4.292), (0.343, 15.4)])
def test_drag_of_a_cubic_array_of_spheres_is_the_published_one(fraction: float, drag: float) -> None:
    """Zick and Homsy 1982, J. Fluid Mech. 115, 13, table 2: K = L^3 / (6 pi a k)."""
    n = 28
    centre = (np.arange(n) + 0.5) / n - 0.5
    square = centre[:, None, None] ** 2 + centre[:, None] ** 2 + centre**2
    radius = (fraction * 3 / (4 * np.pi)) ** (1 / 3)
    labels = (square < radius**2).astype(int)
    found = permeability(labels[None], spacing=1.0 / n, walls="smooth")["permeability"][0]
    effective = (labels.mean() * 3 / (4 * np.pi)) ** (1 / 3)
    assert 1 / (6 * np.pi * effective * found[0, 0]) == pytest.approx(drag, rel=0.05)
    np.testing.assert_allclose(found, found[0, 0] * np.eye(3), atol=1e-3 * found[0, 0])


def test_flow_across_a_square_array_of_cylinders_is_the_published_one() -> None:
    """Sangani and Acrivos 1982, Int. J. Multiphase Flow 8, 193: F / (mu U) = 15.56 at 5 % and 51.53 at 20 %."""
    n = 96
    centre = (np.arange(n) + 0.5) / n - 0.5
    square = np.add.outer(centre**2, centre**2)
    for fraction, drag in ((0.05, 15.56), (0.20, 51.53)):
        labels = (square < fraction / np.pi).astype(int)
        found = permeability(labels[None], spacing=1.0 / n, walls="smooth")["permeability"][0, 0, 0]
        assert 1 / found == pytest.approx(drag, rel=0.05)


def test_a_turned_structure_has_the_turned_tensor() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((1, 12, 12)) < 0.15).astype(int)
    turned = np.rot90(labels, axes=(1, 2)).copy()
    before, after = (permeability(image, tolerance=1e-7)["permeability"][0] for image in (labels, turned))
    rotation = np.array([[0.0, -1.0], [1.0, 0.0]])
    np.testing.assert_allclose(after, rotation @ before @ rotation.T, rtol=1e-5, atol=1e-7)


def test_a_direction_without_a_path_has_permeability_zero_and_the_others_have_their_own() -> None:
    labels = np.ones((3, 6, 6), dtype=int)
    labels[0, :, 2:4] = 0
    labels[1] = 0
    labels[2] = 0
    labels[2, 1, 1] = 1
    result = permeability(labels)
    assert "no solid" in result.failures[1]
    assert list(result.failures) == [1]
    np.testing.assert_array_equal(result["permeability"][0] > 0, [[True, False], [False, False]])
    assert result["permeability"][0, 0, 0] == pytest.approx((2**2 / 12 + 1 / 6) * 2 / 6, rel=1e-4)  # the scheme's slit
    assert not result["permeability"][0][1].any()
    assert np.isnan(result["permeability"][1]).all()
    assert np.isfinite(result["permeability"][2]).all()


@pytest.mark.parametrize("periodic", [True, False])
def test_a_square_duct_has_the_permeability_of_the_series_and_none_across(periodic: bool) -> None:
    """White 2006, Viscous fluid flow, eq. 3-48: Q = a^4 G / (12 mu) (1 - .630249...) for a square of side a."""
    odd = np.arange(1, 200, 2)
    series = 1 - 192 / np.pi**5 * float((np.tanh(odd * np.pi / 2) / odd**5).sum())
    labels = np.ones((1, 3, 20, 20), dtype=int)
    labels[0, :, 2:18, 2:18] = 0
    solver = msvae.load_solver("permeability")
    found = solver.evaluate(Structures.from_labels(labels, 1e-6, periodic=periodic))["permeability"][0]
    assert found[0, 0] == pytest.approx((16e-6) ** 4 / 12 * series / (20e-6) ** 2, rel=0.02)
    assert np.count_nonzero(found) == 1


def test_images_that_are_not_periodic_are_measured_between_two_faces() -> None:
    labels = (np.random.default_rng(2).random((1, 10, 10)) < 0.2).astype(int)
    cut = Structures.from_labels(labels, periodic=False)
    default, core = msvae.load_solver("permeability"), msvae.load_solver("permeability", boundary="pressure")
    assert default.conditions(cut.specification) == {"boundary": "pressure"}
    assert default.conditions(Structures.from_labels(labels).specification) == {"boundary": "periodic"}
    np.testing.assert_array_equal(default.evaluate(cut)["permeability"], core.evaluate(cut)["permeability"])


def test_no_window_of_a_sandstone_is_without_a_result(data: Path) -> None:
    image = Tiff(path=data / "berea" / "berea.tif", dimensions_of=3, threshold=127, spacing=2e-6, patch=(16,) * 3)
    windows = image.load(0)
    chosen = windows[np.random.default_rng(0).choice(len(windows), 40, replace=False)]
    result = msvae.load_solver("permeability").evaluate(chosen)
    assert isinstance(result, msvae.Properties)
    assert not result.failures
    diagonals = np.diagonal(result["permeability"], axis1=1, axis2=2)
    assert (diagonals >= 0).all()
    assert 0.3 < (diagonals > 0).any(axis=1).mean() < 1


def test_a_path_that_closes_only_after_two_periods_percolates() -> None:
    n = 12
    pores = np.zeros((n, n), dtype=bool)
    for row in range(n):
        for start in (row // 2, row // 2 + n // 2):
            pores[row, [(start + k) % n for k in range(2)]] = True
    found = percolating(pores, [0, 1], periodic=True)
    assert (found[0] == pores).all()
    assert (found[1] == pores).all()
    dead_end = np.zeros((n, n), dtype=bool)
    dead_end[2:, 3] = True
    assert not percolating(dead_end, [0], periodic=True)[0].any()


@pytest.mark.parametrize("boundary", ["periodic", "pressure"])
@pytest.mark.parametrize("ratio", [0.5, 3.0])
def test_voxels_need_not_be_cubes(boundary: str, ratio: float) -> None:
    """A slit of 12 voxels has Poiseuille's flow however long they are; a bed of discs does not see how it is cut."""
    pores = np.ones((4, 14), dtype=bool)
    pores[:, [0, -1]] = False
    flow = flow_along(0, pores, (ratio, 1.0), periodic=boundary == "periodic", tolerance=1e-6, limit=200)
    assert ratio**2 * flow.mean[0] == pytest.approx(
        (12**2 / 12 + 1 / 6) * 12 / 14, rel=1e-5
    )  # the scheme's, at any ratio
    near, far = np.meshgrid(*[(np.arange(96) + 0.5) / 96 - 0.5] * 2, indexing="ij")
    disc = (near**2 + far**2 < 0.35**2).astype(int)
    tensors = [
        msvae.load_solver("permeability", boundary=boundary).evaluate(
            Structures.from_labels(cut[None], spacing, periodic=boundary == "periodic")
        )["permeability"][0]
        for cut, spacing in ((disc, (1e-6, 1e-6)), (disc[::2], (2e-6, 1e-6)), (disc[:, ::2], (1e-6, 2e-6)))
    ]
    np.testing.assert_allclose(np.diag(tensors[1]), np.diag(tensors[0]), rtol=0.1)  # a wrong scale: by factors of 2
    np.testing.assert_allclose(np.diag(tensors[1]), np.diag(tensors[2])[::-1], rtol=1e-3)  # turned by 90 degrees


def berea(data: Path, blocks: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return computed and published permeabilities (blocks, 3) along TIFF axes 0, 1, 2."""
    image = Tiff(path=data / "berea" / "berea.tif", dimensions_of=3, threshold=127, spacing=2e-6, patch=(128,) * 3)
    solver = msvae.load_solver("permeability")
    found = solver.evaluate(image.load(0)[blocks])["permeability"]
    table = np.genfromtxt(data / "berea" / "permeability_128.csv", delimiter=",", names=True)
    published = np.stack([table[name][blocks] for name in ("K_z_m2", "K_y_m2", "K_x_m2")], axis=1)
    return np.diagonal(found, axis1=1, axis2=2), published


@pytest.mark.slow
def test_berea_blocks_have_the_published_permeability(data: Path) -> None:
    found, published = berea(data, list(range(18)))
    ratio = found / published
    assert ((ratio > 0.8) & (ratio < 1.25)).all()
    assert 0.9 < np.median(ratio) < 1.1
    assert spearmanr(found.ravel(), published.ravel()).statistic >= 0.95
