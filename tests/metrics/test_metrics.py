"""Descriptors against closed forms and a library, distances and calibration against what they must be."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.measure import euler_number, label

from msvae import DataError, Structures
from msvae.metrics.calibration import Conformal, cross_coverage, interval_coverage, widening
from msvae.metrics.descriptors import describe, feature_vectors
from msvae.metrics.distances import (
    coverage,
    curve_distance,
    density,
    frechet,
    kolmogorov_smirnov,
    novelty,
    wasserstein,
)
from msvae.metrics.latents import active_units, disentanglement, divergence_by_latent


def random_labels(n: int, shape: tuple[int, ...], seed: int = 0, p: float = 0.4) -> np.ndarray:
    return (np.random.default_rng(seed).random((n, *shape)) < p).astype(int)


def test_a_laminate_has_its_closed_forms() -> None:
    labels = np.zeros((1, 8, 6), dtype=int)
    labels[0, :2] = labels[0, 4:6] = 1
    found = describe(Structures.from_labels(labels, [2.0, 1.0]))
    assert found["fraction"][0] == 0.5
    np.testing.assert_allclose(found["two_point"][0, 0], [0.5, 0.25, 0.0, 0.25], atol=1e-7)
    np.testing.assert_allclose(found["two_point"][0, 1], 0.5, atol=1e-7)
    np.testing.assert_allclose(found["lineal_path"][0, 0], [0.5, 0.25, 0.0, 0.0])
    np.testing.assert_allclose(found["chord_length"][0], [4.0, 6.0])
    assert found["surface"][0] == pytest.approx(4 / 16)  # four walls in a length of 16
    assert found["clusters"][0] == 2
    assert found["largest_cluster"][0] == 0.5
    assert found["euler"][0] == 0  # two bands around a torus


@pytest.mark.parametrize("shape", [(9, 7), (6, 5, 7)])
def test_euler_number_and_clusters_are_those_of_scikit_image(shape: tuple[int, ...]) -> None:
    labels = random_labels(5, shape)
    found = describe(Structures.from_labels(labels, periodic=False, phases=2))
    for k, image in enumerate(labels):
        assert found["euler"][k] == euler_number(image, connectivity=len(shape))
        assert found["clusters"][k] == label(image, connectivity=1).max()


@pytest.mark.parametrize("periodic", [True, False])
def test_correlations_are_their_definitions(periodic: bool) -> None:
    labels = random_labels(2, (6, 7))
    found = describe(Structures.from_labels(labels, periodic=periodic))
    for lag in range(4):
        for axis in (1, 2):
            x = labels.astype(bool)
            keep = [slice(None)] * 3
            if not periodic:
                keep[axis] = slice(None, x.shape[axis] - lag)
            shifted = [np.roll(x, -k, axis)[tuple(keep)] for k in range(lag + 1)]
            both = (shifted[0] & shifted[-1]).mean(axis=(1, 2))
            whole = np.logical_and.reduce(shifted).mean(axis=(1, 2))
            np.testing.assert_allclose(found["two_point"][:, axis - 1, lag], both, atol=1e-6)
            np.testing.assert_allclose(found["lineal_path"][:, axis - 1, lag], whole)


def test_a_solid_sphere_a_torus_and_nothing_have_their_topology() -> None:
    axes = np.meshgrid(*(np.arange(24) - 11.5,) * 3, indexing="ij")
    ball = sum(a**2 for a in axes) < 64
    ring = (np.hypot(axes[0], axes[1]) - 7) ** 2 + axes[2] ** 2 < 9
    shell = ball & (sum(a**2 for a in axes) > 16)
    labels = np.stack([ball, ring, shell, np.zeros_like(ball)]).astype(int)
    found = describe(Structures.from_labels(labels, phases=2))
    assert found["euler"].tolist() == [1, 0, 2, 0]
    assert found["clusters"].tolist() == [1, 1, 1, 0]
    assert np.isnan(found["largest_cluster"][3])
    assert feature_vectors(Structures.from_labels(labels, phases=2)).shape[0] == 4


def test_the_descriptors_of_an_empty_batch_and_of_other_kinds() -> None:
    structures = Structures.from_labels(random_labels(2, (4, 4)))
    assert describe(structures[:0])["two_point"].shape == (0, 2, 3)
    with pytest.raises(DataError, match="descriptors are of phases"):
        describe(Structures.from_values(np.zeros((1, 3, 3))))


def test_distances_vanish_between_equals_and_see_a_shift() -> None:
    rng = np.random.default_rng(0)
    a, b, far = rng.standard_normal((400, 3)), rng.standard_normal((400, 3)), rng.standard_normal((400, 3)) + 3
    assert wasserstein(a[:, 0] + 2 * b[:, 0].std(), a[:, 0]) == pytest.approx(2 * b[:, 0].std() / a[:, 0].std())
    assert kolmogorov_smirnov(a[:, 0], b[:, 0]) > 0.01
    assert kolmogorov_smirnov(a[:, 0], far[:, 0]) < 1e-6
    assert curve_distance(a + 1, a + 1) == 0
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet(far, a) == pytest.approx(27, rel=0.15)
    assert coverage(b, a) > 0.9
    assert coverage(far, a) < 0.2
    assert 0.85 < density(b, a) < 1.15
    ratio, p = novelty(b, rng.standard_normal((400, 3)), a)
    assert 0.8 < ratio < 1.25
    assert p > 0.001
    assert novelty(a + 1e-9, b, a)[0] < 1e-6


def test_conformal_intervals_hold_what_they_promise_where_the_claimed_ones_do_not() -> None:
    rng = np.random.default_rng(0)
    spread = rng.uniform(0.5, 2, 4500)
    residual = 2.0 * spread * rng.standard_normal(4500)  # twice as wide as claimed
    assert interval_coverage(np.zeros(4500), spread, residual) < 0.7
    conformal = Conformal.fit(residual[:500], spread[:500])
    inside = np.abs(residual[500:]) <= conformal.half_width(spread[500:])
    assert inside.mean() == pytest.approx(0.9, abs=0.02)
    assert Conformal.fit(residual[:5], spread[:5]).factor == np.inf
    with pytest.raises(DataError, match="conformal"):
        Conformal.fit(residual[:0], spread[:0])


def test_conformal_intervals_by_group_and_under_shift() -> None:
    rng = np.random.default_rng(1)
    x = rng.uniform(0, 1, 4000)
    groups = (x > 0.5).astype(int)
    residual = (0.2 + 2 * groups) * rng.standard_normal(4000)
    ones = np.ones(4000)
    by_group = Conformal.fit(residual[:2000], ones[:2000], groups=groups[:2000])
    inside = np.abs(residual[2000:]) <= by_group.half_width(ones[2000:], groups[2000:])
    for group in (0, 1):
        assert inside[groups[2000:] == group].mean() == pytest.approx(0.9, abs=0.03)
    shifted = rng.choice(np.arange(2000, 4000), 2000, p=(x[2000:] ** 3) / (x[2000:] ** 3).sum())
    plain = Conformal.fit(residual[:2000], ones[:2000])
    weighted = Conformal.fit(residual[:2000], ones[:2000], weights=x[:2000] ** 3)
    assert (np.abs(residual[shifted]) <= plain.half_width(ones[shifted])).mean() < 0.85
    assert (np.abs(residual[shifted]) <= weighted.half_width(ones[shifted])).mean() == pytest.approx(0.9, abs=0.02)


def test_disentanglement_tells_aligned_from_turned_latents() -> None:
    rng = np.random.default_rng(0)
    factors = rng.standard_normal((600, 2))
    noise = rng.standard_normal((600, 1))
    aligned = np.concatenate([factors, noise], axis=1)
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    good, bad = disentanglement(aligned, factors), disentanglement(aligned @ turn, factors)
    for name in ("mig", "sap", "disentanglement", "completeness"):
        assert good[name] > 0.8
        assert bad[name] < good[name] - 0.15
    assert good["informativeness"] > 0.9


def test_active_units_and_divergences() -> None:
    rng = np.random.default_rng(0)
    means = np.stack([rng.standard_normal(2000), 0.01 * rng.standard_normal(2000)], axis=1)
    assert active_units(means).tolist() == [True, False]
    deviations = np.array([[0.5, 1.0]])
    expected = [0.5 * (means[:, 0].var() + means[:, 0].mean() ** 2 + 0.25 - 1) - np.log(0.5), 0.0]
    np.testing.assert_allclose(divergence_by_latent(means, deviations), expected, atol=1e-4)


def test_each_half_is_judged_by_the_other() -> None:
    rng = np.random.default_rng(0)
    spread = rng.uniform(0.5, 2.0, 2000)
    held = cross_coverage(3 * spread * rng.standard_normal(2000), spread)
    assert held == pytest.approx(0.9, abs=0.02)


def test_spreads_are_widened_where_enough_is_known() -> None:
    rng = np.random.default_rng(0)
    residuals = np.stack([2 * rng.standard_normal(3000), np.full(3000, np.nan)], axis=1)
    np.testing.assert_allclose(widening(residuals, np.ones((3000, 2))), [2, 1], rtol=0.05)
