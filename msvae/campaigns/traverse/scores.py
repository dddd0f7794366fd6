"""Scores of traversals: does a property follow its axis, and do the others stay where they are?"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from scipy import stats

from msvae.structures import Array

__all__ = ["Scale", "Score", "score"]

LOW, SHARE = 5, 0.3  # percentile of the positive values, and the share of it that stands for zero in a logarithm


@dataclass(frozen=True)
class Scale:
    """Properties as their axes have them: the logarithms of those that span decades, the others as they are.

    log: (k,) of which the logarithm is taken. least: (k,) the smallest value of which it is taken.
    """

    log: Array
    least: Array

    @classmethod
    def of(cls, values: Array, wide: Array) -> Scale:
        """Return the scale of known values (n, k), with logarithms where they are wide (k,)."""
        lows = [np.percentile(v[v > 0], LOW) if log else 1.0 for v, log in zip(values.T, wide, strict=True)]
        return cls(wide, np.where(wide, SHARE * np.array(lows), 1.0))

    def __call__(self, values: Array) -> Array:
        """Return scaled values (n, k)."""
        return np.where(self.log, np.log(np.maximum(values, self.least)), values)

    def follows(self, values: Array) -> Array:
        """Return which values (n, k) are known and large enough to be told from zero."""
        return np.asarray((np.isfinite(values) & (~self.log | (values > self.least))).all(axis=1))

    def inverse(self, scaled: Array) -> Array:
        """Return the values (n, k) in their units."""
        return np.where(self.log, np.exp(np.where(self.log, scaled, 0.0)), scaled)


@dataclass(frozen=True)
class Score:
    """own: Spearman's correlation of the axis with the property that it carries.

    held: the largest absolute correlation of the offset along a traversal with another property. drift: how far
    another property moves from one end to the other, at most, over its standard deviation among the samples.
    """

    own: float
    held: float
    drift: float


def score(positions: Array, values: Array, width: Array, moved: int) -> Score:
    """Return the score of traversals from the solver's values (traversals, steps, k), NaN where it failed.

    positions: (traversals, steps) of the moved property on its axis. width: (k,) standard deviations.
    """
    own = _correlation(positions, values[..., moved])
    offsets = np.broadcast_to(np.linspace(-1, 1, positions.shape[1]), positions.shape)
    others = [j for j in range(values.shape[-1]) if j != moved]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a step of which nothing is known
        ends = np.nanmean(values[:, -1] - values[:, 0], axis=0) / width
    held = max((abs(_correlation(offsets, values[..., j])) for j in others), default=0.0)
    return Score(own, held, max((abs(float(ends[j])) for j in others), default=0.0))


def _correlation(a: Array, b: Array) -> float:
    """Return Spearman's rank correlation over what is known; NaN where one of them is constant."""
    known = np.isfinite(a) & np.isfinite(b)
    if known.sum() < 3 or np.ptp(a[known]) == 0 or np.ptp(b[known]) == 0:
        return float("nan")
    return float(stats.spearmanr(a[known], b[known]).statistic)
