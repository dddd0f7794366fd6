"""Descent to analytic optima on manifolds that one chart cannot cover, with several charts and with one.

python benchmarks/manifolds.py [ring circles sphere roll torus] [--starts 20]

Shapes, numbers of charts and optima: Alberti, Hertrich, Santacesaria and Sciutto 2024, J. Mach. Learn. Res. 25, 202;
the source has no optimum on the roll. Charts are fitted to points with noise; starts are points without.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from msvae.vae.charts import fit_charts

NOISE, POINTS, NEAR = 0.02, {1: 2000, 2: 4000}, 0.05
LENGTH = 0.3  # of the first step of a descent


def ring(n, rng):
    """Return points (n, 2) of the unit circle."""
    t = rng.uniform(0, 2 * np.pi, n)
    return np.stack([np.cos(t), np.sin(t)], axis=1)


def circles(n, rng):
    """Return points (n, 2) of two unit circles around (-1.5, 0) and (1.5, 0)."""
    return ring(n, rng) + np.where(rng.random(n) < 0.5, -1.5, 1.5)[:, None] * np.array([1.0, 0.0])


def sphere(n, rng):
    """Return points (n, 3) of the unit sphere."""
    x = rng.standard_normal((n, 3))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def roll(n, rng):
    """Return points (n, 3) of a roll whose radius grows with the angle."""
    t = rng.uniform(1.5 * np.pi, 4.5 * np.pi, n)
    return np.stack([t * np.cos(t) / 6, rng.uniform(-1, 1, n), t * np.sin(t) / 6], axis=1)


def torus(n, rng):
    """Return points (n, 3) of a torus with the radii 3 and 1."""
    u, v = rng.uniform(0, 2 * np.pi, (2, n))
    r = 3 + np.cos(v)
    return np.stack([r * np.cos(u), r * np.sin(u), np.sin(v)], axis=1)


def distance_from(*optimum):
    """Return the objective |x - optimum|^2."""
    target = torch.tensor(optimum, dtype=torch.float64)
    return lambda x: ((x - target) ** 2).sum()


def radius_of_roll(x):
    """Return an objective whose only minimum on the roll is where its radius is pi / 2 and its height .3."""
    return (torch.hypot(x[0], x[2]) - np.pi / 2) ** 2 + (x[1] - 0.3) ** 2


# points, charts, their dimensions, the objective, and its optima on the manifold
CASES = {
    "ring": (ring, 2, 1, distance_from(-1.0, 0.0), [(-1, 0)]),
    "circles": (circles, 4, 1, lambda x: (x**2).sum(), [(-0.5, 0), (0.5, 0)]),
    "sphere": (sphere, 2, 2, distance_from(0.0, 0.0, -1.0), [(0, 0, -1)]),
    "roll": (roll, 4, 2, radius_of_roll, [(-np.pi / 2, 0.3, 0)]),
    "torus": (torus, 6, 2, distance_from(-4.0, 0.0, 0.0), [(-4, 0, 0)]),
}


def distances(name, count, starts):
    """Return how far from the nearest optimum descents end that begin at random points, with this many charts."""
    points, _, dimensions, objective, optima = CASES[name]
    rng = np.random.default_rng(0)
    x = points(POINTS[dimensions], rng)
    charts = fit_charts(x + NOISE * rng.standard_normal(x.shape), count, dimensions, seed=0)
    ends = np.stack(
        [charts.descend(objective, start, length=LENGTH) for start in points(starts, np.random.default_rng(3))]
    )
    return np.linalg.norm(ends[:, None] - np.array(optima, dtype=float), axis=2).min(axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(CASES)}; by default all")
    parser.add_argument("--starts", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| manifold | charts | within .05 | largest distance | seconds |\n| --- | --- | --- | --- | --- |")
    for name in arguments.names or CASES:
        for count in (CASES[name][1], 1):
            begin = time.perf_counter()
            far = distances(name, count, arguments.starts)
            took = time.perf_counter() - begin
            print(
                f"| {name} | {count} | {(far < NEAR).sum()} of {len(far)} | {far.max():.3f} | {took:.0f} |", flush=True
            )


if __name__ == "__main__":
    main()
