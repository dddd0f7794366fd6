"""Calibration: whether prediction intervals cover as often as they claim, and their conformal correction."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import special

from msvae.errors import DataError
from msvae.structures import Array

__all__ = ["Conformal", "cross_coverage", "interval_coverage", "widening"]

FEWEST = 20  # values that a factor is told from


def interval_coverage(mean: Array, spread: Array, true: Array, level: float = 0.9) -> float:
    """Return the part of true values in the central intervals of normal predictions that claim to hold `level`."""
    half = special.ndtri(0.5 + level / 2)
    return float((np.abs(true - mean) <= half * spread).mean())


def cross_coverage(
    residuals: Array, spread: Array, level: float = 0.9, halves: tuple[Array, Array] | None = None
) -> float:
    """Return the part of residuals (n,) in conformal intervals, those of each half fitted to the other half.

    halves: the indices of both, by default the first and the last half; they have to be new to each other.
    """
    first, second = halves or np.array_split(np.arange(len(residuals)), [len(residuals) // 2])
    sides = (first, second), (second, first)
    inside = [
        np.abs(residuals[judged])
        <= Conformal.fit(residuals[fitted], spread[fitted], level=level).half_width(spread[judged])
        for fitted, judged in sides
    ]
    return float(np.concatenate(inside).mean())


def widening(residuals: Array, spread: Array, level: float = 0.9) -> Array:
    """Return factors (k,) for predicted spreads (n, k) with which normal intervals hold `level` of residuals (n, k).

    One where a component is known of too few structures to tell.
    """
    factors = np.ones(residuals.shape[1])
    for j, (r, s) in enumerate(zip(residuals.T, spread.T, strict=True)):
        known = np.isfinite(r)
        if known.sum() >= FEWEST and np.isfinite(factor := Conformal.fit(r[known], s[known], level=level).factor):
            factors[j] = factor / special.ndtri(0.5 + level / 2)
    return factors


@dataclass(frozen=True)
class Conformal:
    """Intervals mean +- factor x spread that hold a part `level` of values like those that it was fitted to.

    Split conformal prediction with normalised residuals (Lei et al. 2018, J. Am. Stat. Assoc. 113, 1094); by group
    (Mondrian), if groups are given, each with its own factor. With weights - the ratio of the density where it is used
    over that where it was fitted - it stays valid under that shift (Tibshirani et al. 2019, arXiv:1904.06019).
    """

    level: float
    factor: float
    of_group: dict[int, float] = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        residuals: Array,
        spread: Array,
        *,
        level: float = 0.9,
        groups: Array | None = None,
        weights: Array | None = None,
    ) -> Conformal:
        """Return it for residuals (n,) of held-out values and the spread (n,) that was predicted for them."""
        if len(residuals) == 0 or not 0 < level < 1:
            raise DataError(
                f"conformal intervals need residuals and a level between 0 and 1, found {len(residuals)}, {level:g}"
            )
        scores = np.abs(residuals) / np.maximum(spread, 1e-300)
        weights = np.ones(len(scores)) if weights is None else np.asarray(weights, dtype=np.float64)
        each = {
            int(g): _quantile(scores[groups == g], weights[groups == g], level)
            for g in (np.unique(groups) if groups is not None else ())
        }
        return cls(level, _quantile(scores, weights, level), each)

    def half_width(self, spread: Array, groups: Array | None = None) -> Array:
        """Return the half widths (n,) of the intervals of predictions with this spread (n,); infinite where nothing
        can be promised from as few values."""
        factors = np.full(len(spread), self.factor)
        if groups is not None:
            factors = np.array([self.of_group.get(int(g), self.factor) for g in groups])
        return np.asarray(factors * spread)


def _quantile(scores: Array, weights: Array, level: float) -> float:
    """Return the weighted quantile that leaves room for one more score, of the mean weight, at infinity."""
    order = np.argsort(scores)
    total = weights.sum() + weights.mean()
    reached = np.cumsum(weights[order]) / total
    place = int(np.searchsorted(reached, level - 1e-12))
    return float(scores[order][place]) if place < len(scores) else float("inf")
