"""Charts of manifolds that one chart cannot cover: reconstruction, samples, and descent to analytic optima."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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


def off_ring(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.abs(np.linalg.norm(x, axis=1) - 1))


def off_two_circles(x: np.ndarray) -> np.ndarray:
    return np.minimum(off_ring(x - [1.5, 0]), off_ring(x - [-1.5, 0]))


def off_torus(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.abs(np.hypot(np.hypot(x[:, 0], x[:, 1]) - 3, x[:, 2]) - 1))


def off_swiss_roll(x: np.ndarray) -> np.ndarray:
    t = np.linspace(1.5 * np.pi, 4.5 * np.pi, 3000)
    spiral = np.stack([t * np.cos(t), t * np.sin(t)], axis=1) / 6
    along = np.linalg.norm(x[:, None, ::2] - spiral, axis=2).min(axis=1)
    return np.hypot(along, np.maximum(np.abs(x[:, 1]) - 1, 0))


# a shape, its charts and their dimensions, the distance from it, and the optimum that descent of |x - optimum|^2 finds
CASES: dict[str, tuple[Any, ...]] = {
    "ring": (ring, 2, 1, off_ring, (-1, 0)),
    "two circles": (two_circles, 4, 1, off_two_circles, None),
    "sphere": (sphere, 2, 2, off_ring, (0, 0, -1)),
    "swiss roll": (swiss_roll, 4, 2, off_swiss_roll, None),
    "torus": (torus, 6, 2, off_torus, (-4, 0, 0)),
}


def faults(name: str, count: int | None = None) -> list[str]:
    """Return what is wrong with charts of a shape: points missed, samples off it, descents that end elsewhere."""
    shape, charts_of, dimensions, off, optimum = CASES[name]
    charts, good = fitted(shape, count or charts_of, dimensions, n=2000 if dimensions == 1 else 4000)
    found = [] if good >= 0.95 else [f"{good:.3f} of the points are reconstructed"]
    astray = float((off(charts.sample(2000, 0)) > 5 * NOISE).mean())
    found += [] if astray <= 0.01 else [f"{astray:.3f} of the samples are astray"]
    if optimum is not None:
        target = torch.tensor(optimum, dtype=torch.float64)
        for start in shape(5, np.random.default_rng(3)):
            end = charts.descend(lambda x: ((x - target) ** 2).sum(), start)
            if np.linalg.norm(end - optimum) > max(0.2, 0.1 * np.linalg.norm(optimum)):
                found.append(f"from {start} descent ends at {end}")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_charts_cover_what_one_chart_does_not(name: str) -> None:
    assert faults(name) == []
    assert faults(name, count=1) != []


@pytest.mark.slow
def test_two_circles_leave_their_gap_empty() -> None:
    charts, _ = fitted(two_circles, 4, 1)
    assert (np.abs(charts.sample(2000, 0)[:, 0]) < 0.5 - 4 * NOISE).sum() == 0


def test_latents_are_recovered_exactly_and_bad_input_is_refused() -> None:
    charts = Charts(2, 1, 3)
    z = torch.linspace(-2, 2, 7, dtype=torch.float64)[:, None]
    for k in range(2):
        torch.testing.assert_close(charts.encode(k, charts.decode(k, z)), z, atol=1e-7, rtol=0)
    with pytest.raises(DataError, match="at least 40 finite points"):
        fit_charts(np.zeros((5, 2)), 2, 1, seed=0)
    with pytest.raises(DataError, match="none can be made"):
        Charts(1, 3, 2)
