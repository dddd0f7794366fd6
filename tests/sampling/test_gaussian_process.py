"""Gaussian processes over structures: shared length scales, and what they are worth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.distance import cdist
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from msvae import load_solver
from msvae.sampling.search.searchers.coordinates import (
    Coordinates,
    GaussianProcesses,
    Kernel,
    features_of,
    unlikelihood,
)
from msvae.structures import Structures


def test_a_kernel_of_groups_is_a_matern_kernel_with_equal_lengths() -> None:
    x = np.random.default_rng(0).standard_normal((6, 5))
    kernel = Kernel(2.0, np.array([2.0, 0.5]), 0.1, (2, 3))
    np.testing.assert_allclose(kernel(x, x[:4]), 2 * Matern([2.0, 2.0, 0.5, 0.5, 0.5], nu=2.5)(x, x[:4]))


def test_the_likelihood_is_that_of_scikit_learn_and_its_gradient_is_right() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((8, 5)), rng.standard_normal(8)
    squared = np.stack([cdist(part, part, "sqeuclidean") for part in (x[:, :2], x[:, 2:])])
    where = np.log([1.5, 2.0, 0.5, 0.1])
    model = GaussianProcessRegressor(ConstantKernel() * Matern(np.ones(5), nu=2.5) + WhiteKernel()).fit(x, y)
    peer = model.log_marginal_likelihood(np.log([1.5, 2.0, 2.0, 0.5, 0.5, 0.5, 0.1]))
    value, gradient = unlikelihood(where, squared, y)
    assert value == pytest.approx(-peer, rel=1e-8)
    for k, step in enumerate(1e-6 * np.eye(4)):
        up, down = (unlikelihood(where + s * step, squared, y)[0] for s in (1, -1))
        assert gradient[k] == pytest.approx((up - down) / 2e-6, abs=1e-6)


def test_coordinates_have_unit_variance_and_leave_out_what_is_constant() -> None:
    rng = np.random.default_rng(0)
    features, latents = rng.standard_normal((50, 4)) * [1e5, 1.0, 1e-6, 1e-6], rng.standard_normal((50, 3))
    features[:, 1] = 7.0
    coordinates = Coordinates.of(features, latents, ((2, 1, 1),))
    assert coordinates.groupings == ((2, 1, 1, 3),)
    np.testing.assert_allclose(coordinates(features, latents).std(axis=0), [1, 0, 1, 1, 1, 1, 1])


def test_forty_structures_tell_the_conductivity_of_others() -> None:
    """R2 of .98 was seen with a VAE's latents, .92 to .94 with a length for every coordinate and no critical paths."""
    rng = np.random.default_rng(2)
    fields = [ndimage.gaussian_filter(rng.standard_normal((24, 24)), rng.uniform(1.5, 4, 2), mode="wrap")
              for _ in range(240)]  # fmt: skip
    labels = np.stack([f > np.quantile(f, rng.uniform(0.4, 0.7)) for f in fields]).astype(int)
    structures = Structures.from_labels(labels, 1e-6, phases=2)
    solver = load_solver("conductivity", phases=[{"conductivity": 1.0}, {"conductivity": 20.0}])
    k = solver.evaluate(structures)["conductivity"][:, range(2), range(2)]
    features, groupings = features_of(structures)
    assert [sizes[-2:] for sizes in groupings] == [(1, 1), (1, 1)]  # critical distances along either axis
    coordinates = Coordinates.of(features, rng.standard_normal((240, 4)), groupings)
    points = coordinates(features, rng.standard_normal((240, 4)))  # latents that say nothing
    models = GaussianProcesses.fit(points[:40], k[:40], coordinates.groupings)
    expected = models.draw(points[40:], rng).mean(axis=0)
    unexplained = np.square(expected - k[40:]).sum(axis=0) / np.square(k[40:] - k[40:].mean(axis=0)).sum(axis=0)
    assert (1 - unexplained > 0.9).all()


def test_features_of_what_has_no_phases_are_its_values() -> None:
    fields = np.random.default_rng(0).random((5, 1, 4, 4))
    features, groupings = features_of(Structures.from_values(fields[:, 0], 1e-6))
    np.testing.assert_allclose(features, fields.reshape(5, -1), rtol=1e-6)
    assert groupings == ((16,),)


@pytest.mark.parametrize("phases", [2, 3])
def test_every_phase_but_the_first_has_its_critical_distances(phases: int) -> None:
    labels = np.random.default_rng(0).integers(0, phases, size=(3, 6, 6, 6))
    features, groupings = features_of(Structures.from_labels(labels, 1e-6, phases=phases))
    assert len(groupings[0]) == 1 + 3 * (phases - 1)
    assert {sum(sizes) for sizes in groupings} == {features.shape[1]}
    assert np.isfinite(features).all()
