"""Random fields: covariances, marginals and conditions are those that were asked for, everywhere in the part."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from msvae import DataError, Grid
from msvae.errors import RunError
from msvae.sampling.fields.covariance import Coregionalization, Correlation, fit_covariance
from msvae.sampling.fields.gaussian_field import Embedding, KarhunenLoeve, field_at, field_on_grid
from msvae.sampling.fields.latent_field import LatentField, Observations
from msvae.sampling.fields.marginals import FlowMarginals, NormalScores
from msvae.vae.files import save_tensors

SAMPLES = 200
LONG = Correlation((8.0, 4.0), 1.5)
SHORT = Correlation((2.0, 2.0), 0.5)
B1 = np.array([[0.6, 0.3, 0.0], [0.3, 0.5, -0.2], [0.0, -0.2, 0.7]])
B2 = np.array([[0.3, 0.0, 0.1], [0.0, 0.4, 0.0], [0.1, 0.0, 0.2]])
MODEL = Coregionalization((LONG, SHORT), np.stack([B1, B2]), 0.1 * np.eye(3))


def misfits(samples: Any, covariance: Any) -> Any:
    """Return how far the covariances (m, m) of samples (n, m) of mean 0 are from the model's, in their own scatter."""
    n = len(samples)
    found = samples.T @ samples / n
    spread = np.diag(covariance)
    error = np.sqrt((np.outer(spread, spread) + covariance**2) / n)
    return (found - covariance) / error


def at_pairs(model: Coregionalization, points: Any) -> Any:
    """Return the covariance matrix (m c, m c) of all channels at points (m, d)."""
    size = len(points) * model.channels
    return model(points[:, None] - points[None]).transpose(0, 2, 1, 3).reshape(size, size)


def test_a_field_on_a_grid_has_its_covariances_and_cross_covariances_at_all_lags() -> None:
    grid = Grid.of((24, 20), 1.0, periodic=False)
    samples = np.stack([field_on_grid(MODEL, grid, seed) for seed in range(SAMPLES)])
    rows, columns = np.meshgrid([0, 1, 5, 23], [0, 1, 7, 19], indexing="ij")
    points = np.stack([rows.ravel(), columns.ravel()], axis=1).astype(float)
    at = samples[:, :, rows.ravel(), columns.ravel()]
    z = misfits(at.transpose(0, 2, 1).reshape(SAMPLES, -1), at_pairs(MODEL, points))
    assert np.abs(z).max() < 4.5
    assert 0.8 < z.std() < 1.2


def test_a_field_at_points_has_its_covariances_and_cross_covariances_at_all_lags() -> None:
    rng = np.random.default_rng(0)
    smooth = Coregionalization((LONG, Correlation((2.0, 2.0), 1.5)), MODEL.matrices, MODEL.nugget)
    points = np.concatenate([rng.uniform(0, 20, (14, 2)), [[0.0, 0.0], [20.0, 20.0]]])
    samples = np.stack([field_at(smooth, points, seed) for seed in range(SAMPLES)])
    z = misfits(samples.transpose(0, 2, 1).reshape(SAMPLES, -1), at_pairs(smooth, points))
    assert np.abs(z).max() < 4.5
    assert 0.8 < z.std() < 1.2


@pytest.mark.parametrize("smoothness", [0.5, 1.5, 2.5, math.inf])
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_the_variance_is_one_everywhere_corners_included(smoothness: float, dimensions: int) -> None:
    """Solving the stochastic differential equation on the part alone gives 3.87 at a corner of a square."""
    corners = np.array(list(itertools.product((0.0, 3.0), repeat=dimensions)))
    inside = np.random.default_rng(1).uniform(0, 3, (40, dimensions))
    model = Coregionalization.of(Correlation((1.0,) * dimensions, smoothness), np.eye(100))
    points = np.concatenate([corners, inside])
    samples = np.concatenate([field_at(model, points, seed) for seed in range({1: 40, 2: 30, 3: 10}[dimensions])])
    variance = samples.var(axis=0)
    assert np.abs(variance - 1).max() < 5 * math.sqrt(2 / len(samples))
    assert abs(variance[: len(corners)].mean() - 1) < 4 * math.sqrt(2 / len(samples) / len(corners))
    embedding = Embedding(model.correlations[0], (12,) * dimensions, (0.3,) * dimensions)
    assert embedding.clipped < 1e-3
    assert abs(np.square(embedding.sample(500, 0)).mean() - 1) < 4 * math.sqrt(2 / 500)


def test_a_spread_of_covariances_is_fitted_and_found_again() -> None:
    truth = Coregionalization((Correlation((5.0, 2.5), 1.5),), B1[None] / 0.6, 0.2 * np.eye(3))
    points = np.stack(np.meshgrid(np.arange(60.0), np.arange(60.0), indexing="ij"), -1).reshape(-1, 2)
    values = field_on_grid(truth, Grid.of((60, 60), 1.0), 3).reshape(3, -1).T
    fitted = fit_covariance(points, values)
    lags = np.array([[k, 0.0] for k in range(1, 8)] + [[0.0, k] for k in range(1, 8)])
    assert np.abs(fitted(lags) - truth(lags)).max() < 0.25
    np.testing.assert_allclose(fitted.at_zero, values.T @ values / len(values), atol=1e-9)
    assert fitted(np.array([[4.0, 0.0]]))[0, 0, 0] > 1.5 * fitted(np.array([[0.0, 4.0]]))[0, 0, 0]


def skewed(n: int, seed: int) -> tuple[Any, Any]:
    """Return points on a square grid and latents (n^2, 2) that are not normal, and depend on each other."""
    grid = Grid.of((n, n), 1.0, periodic=False)
    u = field_on_grid(Coregionalization.of(Correlation((2.0, 2.0)), np.eye(2)), grid, seed).reshape(2, -1).T
    latents = np.stack([np.exp(0.7 * u[:, 0]), u[:, 1] + 0.8 * u[:, 0] ** 2], axis=1)
    points = np.stack(np.meshgrid(np.arange(n) + 0.5, np.arange(n) + 0.5, indexing="ij"), -1).reshape(-1, 2)
    return points, latents


@pytest.mark.parametrize("marginals", ["normal-score", "flow"])
def test_marginals_are_those_of_the_observed_latents(marginals: Any) -> None:
    points, latents = skewed(40, 0)
    field = LatentField.fit(points, latents, marginals=marginals)
    far = 30.0 * np.stack(np.meshgrid(np.arange(12), np.arange(12), indexing="ij"), -1).reshape(-1, 2)
    drawn = field.sample(far, 4, seed=1).reshape(-1, 2)
    for j in range(2):
        assert stats.ks_2samp(drawn[:, j], latents[:, j]).pvalue > 0.005
    if marginals == "flow":  # the joint distribution too: the second latent's mean rises with the square of the first's
        high = drawn[:, 0] > np.quantile(latents[:, 0], 0.9)
        assert drawn[high, 1].mean() > latents[:, 1].mean() + 0.5
    scores = field.marginals.scores(latents)
    np.testing.assert_allclose(field.marginals.latents(scores), latents, atol=1e-3 * latents.std())


@pytest.mark.parametrize("marginals", ["normal-score", "flow"])
@pytest.mark.parametrize("trend", ["constant", "linear"])
def test_observations_are_reproduced(marginals: Any, trend: Any) -> None:
    points, latents = skewed(24, 1)
    latents = latents + (0.1 * points if trend == "linear" else 0.0)
    field = LatentField.fit(points, latents, marginals=marginals, trend=trend)
    given = Observations(points[::37], latents[::37])
    where = np.concatenate([given.points, given.points[:4] + 0.15])
    known_there = replace(field, given=given)
    for sample in known_there.sample(where, 3, seed=0):
        known = sample[: len(given.points)]
        if marginals == "flow":  # a spline flow is inverted to single precision
            scores = [field.marginals.scores(z - field._trend_at(given.points)) for z in (known, given.latents)]
            np.testing.assert_allclose(*scores, atol=1e-4)
        else:
            np.testing.assert_allclose(known, given.latents, atol=1e-6)
    free = field.sample(where, 60, seed=0)
    bound = known_there.sample(where, 60, seed=0)
    assert bound[:, -4:].std(axis=0).mean() < free[:, -4:].std(axis=0).mean()
    if trend == "linear":
        far = field.sample(np.array([[1.0, 1.0], [200.0, 1.0]]), 200, seed=0).mean(axis=0)
        assert far[1, 0] - far[0, 0] == pytest.approx(19.9, rel=0.3)


def test_a_sample_does_not_depend_on_how_many_there_are() -> None:
    points, latents = skewed(16, 2)
    field = LatentField.fit(points, latents)
    np.testing.assert_array_equal(field.sample(points[:9], 5, seed=4)[:2], field.sample(points[:9], 2, seed=4))
    on_grid = field.sample_on(Grid.of((6, 5), 1.0), 3, seed=4)
    assert on_grid.shape == (3, 6, 5, 2)
    np.testing.assert_array_equal(on_grid[:2], field.sample_on(Grid.of((6, 5), 1.0), 2, seed=4))
    assert np.abs(on_grid[0] - on_grid[1]).max() > 0.1


@pytest.mark.mpi
def test_one_rank_and_four_give_identical_samples(tmp_path: Path, mpiexec: Callable[..., Any]) -> None:
    (tmp_path / "draw.py").write_text(
        "import numpy as np\nfrom mpi4py import MPI\nfrom msvae.sampling.fields.covariance import *\n"
        "from msvae.sampling.fields.gaussian_field import field_at\n"
        "model = Coregionalization.of(Correlation((1.0, 2.0, 1.5), 1.5), np.eye(4))\n"
        "points = np.random.default_rng(0).random((500, 3)) * 5\ncomm = MPI.COMM_WORLD\n"
        "mine = {k: field_at(model, points, k) for k in range(comm.rank, 8, comm.size)}\n"
        "parts = comm.gather(mine)\n"
        "if comm.rank == 0:\n    whole = {k: v for part in parts for k, v in part.items()}\n"
        "    np.save(f'{comm.size}.npy', np.stack([whole[k] for k in range(8)]))\n"
    )
    for ranks in (1, 4):
        result = mpiexec(ranks, "draw.py")
        assert result.returncode == 0, result.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "1.npy"), np.load(tmp_path / "4.npy"))


def test_few_modes_carry_most_of_a_smooth_field() -> None:
    rho = Correlation((3.0, 3.0), math.inf)
    points = np.random.default_rng(0).uniform(0, 5, (900, 2))
    few = KarhunenLoeve.of(rho, points, 25, landmarks=400)
    assert few.share > 0.99
    assert KarhunenLoeve.of(rho, points, 3, landmarks=400).share < few.share
    np.testing.assert_allclose(few.modes @ few.modes.T, rho(points[:, None] - points[None]), atol=0.05)


@pytest.mark.parametrize("count", [400, 2400])
def test_leading_modes_are_those_given_and_leave_the_covariance(count: int) -> None:
    """Of few points, whose correlations are factorised, and of more, interpolated from a grid around them."""
    model = Coregionalization((LONG, SHORT), np.stack([B1, B2]), np.zeros((3, 3)))
    points = np.random.default_rng(0).uniform(0, 12, (count, 2))
    leading = np.random.default_rng(1).standard_normal((SAMPLES, 6, 2, 3))
    samples = np.stack([field_at(model, points, k, leading=z) for k, z in enumerate(leading)])
    assert samples.var(axis=(0, 2)) == pytest.approx(np.diag(model.at_zero), abs=0.12)
    lags = points[:100] - points[100:200]
    found = np.einsum("sip,sjp->pij", samples[:, :, :100], samples[:, :, 100:200]) / SAMPLES
    assert np.abs(found - model(lags)).max() < 5 / math.sqrt(SAMPLES)
    alone = field_at(Coregionalization.of(LONG, np.eye(3)), points, 0, leading=leading[0])
    modes = KarhunenLoeve.of(LONG, points, 6)
    np.testing.assert_allclose(modes.readers.T @ alone.T[modes.chosen], leading[0, :, 0], atol=1e-6)


def test_what_cannot_be_is_said_in_a_sentence() -> None:
    rho = Correlation((1.0, 1.0))
    far = 1e5 * np.random.default_rng(0).random((3000, 2))
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: Correlation((1.0,), 0.7), "smoothness is one of"),
        (lambda: Correlation((0.0, 1.0)), "lengths are positive"),
        (lambda: Coregionalization.of(rho, np.array([[1.0, 2.0], [2.0, 1.0]])), "positive semi-definite"),
        (lambda: Embedding(rho, (4, 4, 4), (1.0,) * 3), "3 axes needs as many correlation lengths"),
        (lambda: field_at(Coregionalization.of(rho, np.eye(1)), np.array([[0.0, np.nan]]), 0), "without NaN"),
        (
            lambda: field_at(Coregionalization.of(rho, np.eye(1)), far, 0),
            "take a coarser grid",
        ),
        (lambda: fit_covariance(np.zeros((3, 2)), np.zeros((3, 1))), "at least 8 observations"),
        (lambda: NormalScores(np.zeros((3, 1))), "at least 8 latents"),
        (lambda: Observations(np.zeros((2, 2)), np.zeros((1, 1))), "one latent vector"),
        (lambda: LatentField.fit(np.zeros((9, 2)), np.zeros((8, 1))), "fitted to latents"),
        (lambda: KarhunenLoeve.of(rho, np.zeros((5, 2)), 9), "between 1 and 5 modes"),
    ]
    for call, says in cases:
        with pytest.raises(DataError, match=says):
            call()
    points, latents = skewed(16, 2)
    field = LatentField.fit(points, latents)
    twice = Observations(np.concatenate([points[:3], points[:1]]), np.concatenate([latents[:3], latents[:1]]))
    with pytest.raises(DataError, match="the same point"):
        replace(field, given=twice).sample(points, 1, seed=0)
    assert isinstance(FlowMarginals.fit(latents, 0), FlowMarginals)


def test_a_field_is_saved_and_loaded_and_what_is_none_is_refused(tmp_path: Path) -> None:
    points, latents = skewed(16, 2)
    field = LatentField.fit(points, latents)
    field.save(tmp_path / "field.safetensors")
    again = LatentField.load(tmp_path / "field.safetensors", None)  # type: ignore[arg-type]  # its marginals need no model
    np.testing.assert_array_equal(again.sample(points, 1, 3), field.sample(points, 1, 3))
    loose = field.independent(np.repeat(points, 8, axis=0), 1)
    assert abs(np.corrcoef(loose[:-1, 0], loose[1:, 0])[0, 1]) < 0.1
    np.testing.assert_allclose(loose.std(axis=0), latents.std(axis=0), rtol=0.1)
    save_tensors(tmp_path / "other.safetensors", {}, {})
    with pytest.raises(RunError, match="not a field of latents"):
        LatentField.load(tmp_path / "other.safetensors", None)  # type: ignore[arg-type]
