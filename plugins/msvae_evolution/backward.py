"""Earlier frames of a given one: there are many, so samples are given, and what each of them evolves into."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from msvae import Array, Structures
from msvae_evolution.forecast import Forecaster
from msvae_evolution.measures import two_point
from msvae_evolution.series import TIME, Series

__all__ = ["Ancestors", "ancestors", "generator_spread"]

NEIGHBOURS = 40  # simulations, the nearest in mean concentration, whose scatter is the generator's spread
LARGEST, SMALLEST = 1.05, -0.05  # concentrations of a sample


@dataclass(frozen=True, eq=False)
class Ancestors:
    """Samples (n) of an earlier frame, and the frames (n) that the simulator makes of them; None without one."""

    samples: Structures
    evolved: Structures | None


def ancestors(forecaster: Forecaster, given: Structures, time: float, *, count: int, seed: int) -> Ancestors:
    """Return samples of the frame that a given one comes from.

    Proposals of the dynamics are corrected by what the simulator makes of them: what lacks in the given frame is added
    to the sample (Van Cittert 1931, Z. Phys. 69, 298, for a process in place of a blur). Those corrections are kept
    that bring the evolved frame nearer to the given one.
    """
    many = given[np.zeros(count, dtype=np.int64)]
    samples, simulator = forecaster.earlier(many, time, seed=seed), forecaster.simulator
    if simulator is None:
        return Ancestors(samples, None)
    end = float(given.properties[TIME][0])
    evolved = simulator.advance(samples, time, end)
    rate = np.ones(count)
    for _ in range(forecaster.settings.corrections):
        lacking = many.values - evolved.values
        trial = _moved(samples, rate[:, None, None] * lacking.reshape(count, lacking.shape[2], -1))
        with np.errstate(over="ignore", invalid="ignore"):  # of a trial that goes too far, which is not kept
            after = simulator.advance(trial, time, end)
            better = _distance(after, many) < np.nan_to_num(_distance(evolved, many), nan=np.inf)
        samples, evolved = _chosen(better, trial, samples), _chosen(better, after, evolved)
        rate = np.where(better, rate, rate / 2)
    return Ancestors(samples, evolved)


def generator_spread(structures: Structures, series: Series, train: Array, given: Structures) -> Array:
    """Return the standard deviation (lags,) of the two-point function of training frames of a given frame's time.

    Of those, the simulations that are nearest in mean concentration are taken.
    """
    time, mean = float(given.properties[TIME][0]), float(given.fractions[0, 0])
    rows = np.concatenate([series.rows[k] for k in train])
    apart = np.abs(np.log(series.times[rows] / time))
    rows = rows[apart <= apart.min() + 1e-6]
    near = rows[np.argsort(np.abs(structures.fractions[rows, 0] - mean), kind="stable")[:NEIGHBOURS]]
    return np.asarray(two_point(structures.values[near, 0].astype(np.float64)).std(axis=0))


def _moved(samples: Structures, change: Array) -> Structures:
    """Return samples with a change added, inside the range of concentrations, and with the mass that they had."""
    old = samples.values.astype(np.float64)
    values = np.clip(old + change.reshape(old.shape), SMALLEST, LARGEST)
    axes = tuple(range(2, old.ndim))
    values += old.mean(axis=axes, keepdims=True) - values.mean(axis=axes, keepdims=True)
    return replace(samples, values=values)


def _distance(structures: Structures, others: Structures) -> Array:
    difference = structures.values.astype(np.float64) - others.values
    return np.asarray((difference**2).reshape(len(difference), -1).mean(axis=1))


def _chosen(mask: Array, first: Structures, second: Structures) -> Structures:
    """Return rows of the first where the mask (n,) is true, else of the second."""
    shape = (-1, *(1,) * (first.values.ndim - 1))
    return replace(second, values=np.where(mask.reshape(shape), first.values, second.values))
