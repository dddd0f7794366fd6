"""Charts of manifolds that one chart cannot cover: reconstruction, samples, and descent to analytic optima."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from msvae import DataError
from msvae.vae.charts import Charts, fit_charts

NOISE = 0.05


def ring(n: int, rng: np.random.Generator) -> np.ndarray:
    t = rng.uniform(0, 2 * np.pi, n)
    return np.stack([np.cos(t), np.sin(t)], axis=1)


def two_circles(n: int, rng: np.random.Generator) -> np.ndarray:
    return ring(n, rng) + np.where(rng.random(n) < 0.5, -1.5, 1.5)[:, None] * np.array([1.0, 0.0])


def sphere(n: int, rng: np.random.Generator) -> np.ndarray:
    x = rng.standard_normal((n, 3))
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))


def swiss_roll(n: int, rng: np.random.Generator) -> np.ndarray:
    t = rng.uniform(1.5 * np.pi, 4.5 * np.pi, n)
    return np.stack([t * np.cos(t) / 6, rng.uniform(-1, 1, n), t * np.sin(t) / 6], axis=1)


def torus(n: int, rng: np.random.Generator) -> np.ndarray:
    u, v = rng.uniform(0, 2 * np.pi, (2, n))
    r = 3 + np.cos(v)
    return np.stack([r * np.cos(u), r * np.sin(u), np.sin(v)], axis=1)


def fitted(shape: Callable[..., np.ndarray], count: int, dimensions: int, n: int = 2000) -> tuple[Charts, float]:
    """Return charts of a noisy shape, and the part of held-out points that they reconstruct within 3 deviations."""
    rng = np.random.default_rng(0)
    points = shape(n, rng)
    charts = fit_charts(points + NOISE * rng.standard_normal(points.shape), count, dimensions, seed=0)
    held_out = shape(1000, rng)
    held_out = held_out + NOISE * rng.standard_normal(held_out.shape)
    distance = np.linalg.norm(charts.project(held_out) - held_out, axis=1)
    return charts, float((distance <= 3 * NOISE).mean())


@pytest.mark.slow
def test_a_ring_needs_two_charts_and_descent_finds_its_optimum_from_everywhere() -> None:
    charts, good = fitted(ring, 2, 1)
    assert good >= 0.95
    radius = np.linalg.norm(charts.sample(1000, 0), axis=1)
    assert (np.abs(radius - 1) < 4 * NOISE).mean() > 0.98
    goal = torch.tensor([-1.0, 0.0], dtype=torch.float64)
    for angle in np.linspace(0.2, 2 * np.pi - 0.2, 5):
        start = np.array([np.cos(angle), np.sin(angle)])
        found = charts.descend(lambda x: ((x - goal) ** 2).sum(), start)
        np.testing.assert_allclose(found, goal, atol=0.15)


def test_latents_are_recovered_exactly_and_bad_input_is_refused() -> None:
    charts = Charts(2, 1, 3)
    z = torch.linspace(-2, 2, 7, dtype=torch.float64)[:, None]
    for k in range(2):
        torch.testing.assert_close(charts.encode(k, charts.decode(k, z)), z, atol=1e-7, rtol=0)
    with pytest.raises(DataError, match="at least 40 finite points"):
        fit_charts(np.zeros((5, 2)), 2, 1, seed=0)
    with pytest.raises(DataError, match="none can be made"):
        Charts(1, 3, 2)


@pytest.mark.slow
def test_two_circles_leave_their_gap_empty_and_one_chart_does_not() -> None:
    charts, good = fitted(two_circles, 4, 1)
    assert good >= 0.95
    assert (np.abs(charts.sample(2000, 0)[:, 0]) < 0.5 - 4 * NOISE).sum() == 0
    single, worse = fitted(two_circles, 1, 1)
    assert (np.abs(single.sample(2000, 0)[:, 0]) < 0.5 - 4 * NOISE).sum() > 0 or worse < 0.95


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "count"), [(sphere, 2), (swiss_roll, 4), (torus, 6)])
def test_surfaces_are_covered(shape: Callable[..., np.ndarray], count: int) -> None:
    assert fitted(shape, count, 2, n=4000)[1] >= 0.95
