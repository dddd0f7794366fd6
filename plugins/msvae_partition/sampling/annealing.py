"""Sequential Monte Carlo from a start whose density is known to the Boltzmann distribution of a cluster expansion.

Neal 2001, Stat. Comput. 11, 125; Del Moral, Doucet, Jasra 2006, J. R. Stat. Soc. B 68, 411. The estimate of the
partition function has no bias for any number of occupations and of steps, resampling included. Batches are
independent of each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.special import logsumexp

from msvae import Array
from msvae_partition.sampling.chains import Moves, Population

__all__ = ["Cooled", "Path", "anneal", "normalised", "resampled"]

KEPT = 0.95  # of the effective sample size, by a step
HALF = 0.5  # of the occupations in a batch: below this effective size they are resampled
SETTLE = 4  # times the sweeps of a step, at each temperature that was asked for
TINY = 1e-6  # of the way: the shortest step


@dataclass
class Path:
    """The steps (start, beta) of an annealing: the powers of the start's weights and the inverse temperature.

    stops: numbers of the steps at which the inverse temperatures that were asked for are reached. Found once, and then
    kept, so that the estimates of later batches have no bias.
    """

    steps: list[tuple[float, float]] = field(default_factory=list)
    stops: list[int] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Cooled:
    """Batches (B) of occupations at one inverse temperature.

    population: all n = B m. weights (B, m): logarithms; their mean's exponential estimates the partition function,
    without bias in every batch.
    """

    population: Population
    weights: Array


def anneal(
    moves: Moves, start: tuple[Population, Array], betas: Sequence[float], path: Path, *, sweeps: int,
    rng: np.random.Generator,
) -> Iterator[Cooled]:  # fmt: skip
    """Yield the population at each inverse temperature, in ascending order.

    start: occupations and the logarithms of the weights (B, m): of 1 / their density. path: is found if it is empty.
    """
    population, weights = start
    now = (0.0 if population.fields is None else 1.0, 0.0)
    found, count = not path.steps, 0
    if found:
        path.steps.append(now)
    # the weights of the start's density become those of its unnormalised product, which the path goes on from
    weights = weights + now[0] * population.starts.reshape(weights.shape)
    for number, beta in enumerate(betas):
        goal = (0.0, beta)
        while now != goal:
            if found:
                step = _next(population, weights, now, goal)
                path.steps.append(step)
            else:
                count += 1
                step = path.steps[count]
            weights = weights + _increment(population, now, step).reshape(weights.shape)
            population, weights = resampled(population, weights, rng)
            for _ in range(sweeps):
                population = moves.sweep(population, *step, rng)
            now = step
        if found:
            path.stops.append(len(path.steps) - 1)
        elif path.stops[number] != count:
            raise AssertionError("a path leads to the temperatures that it was found for")
        for _ in range(SETTLE * sweeps):
            population = moves.sweep(population, *now, rng)
        yield Cooled(population, weights)


def _increment(population: Population, now: tuple[float, float], step: tuple[float, float]) -> Array:
    return (step[0] - now[0]) * population.starts - (step[1] - now[1]) * population.energies


def _next(
    population: Population, weights: Array, now: tuple[float, float], goal: tuple[float, float]
) -> tuple[float, float]:
    """Return the longest step on the way to a goal that keeps the effective sample size."""
    own = weights - logsumexp(weights, axis=1, keepdims=True)

    def at(share: float) -> tuple[float, float]:
        a, b = (p + share * (q - p) for p, q in zip(now, goal, strict=True))
        return a, b

    def kept(share: float) -> float:
        change = _increment(population, now, at(share)).reshape(weights.shape)
        both = own + change
        return float(np.exp(np.mean(2 * logsumexp(both, axis=1) - logsumexp(both + change, axis=1))))

    if kept(1.0) >= KEPT:
        return goal
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if kept(middle) >= KEPT else (low, middle)
    return at(max(low, TINY))


def resampled(population: Population, weights: Array, rng: np.random.Generator) -> tuple[Population, Array]:
    """Return batches with equal weights where their effective sample size is below half; systematic resampling."""
    batches, size = weights.shape
    share = normalised(weights)
    poor = np.flatnonzero(1 / (share**2).sum(axis=1) < HALF * size)
    if not len(poor):
        return population, weights
    rows = np.arange(batches * size).reshape(batches, size)
    weights = weights.copy()
    for b in poor:
        rows[b] = b * size + chosen(share[b], size, rng)
        weights[b] = logsumexp(weights[b]) - np.log(size)
    return population.taken(rows.ravel()), weights


def normalised(weights: Array) -> Array:
    """Return the shares (B, m) of logarithms of weights in their batch."""
    return np.asarray(np.exp(weights - logsumexp(weights, axis=1, keepdims=True)))


def chosen(shares: Array, count: int, rng: np.random.Generator) -> Array:
    """Return the numbers (count,) that systematic resampling takes from shares (m,)."""
    points = (rng.random() + np.arange(count)) / count
    return np.minimum(np.searchsorted(np.cumsum(shares), points), len(shares) - 1)
