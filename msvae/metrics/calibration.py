"""Calibration: the actual coverage of prediction intervals, and their conformal correction."""

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
    """Return the fraction of residuals (n,) in conformal intervals; intervals of each half are fitted to the other.

    halves: the indices of both, by default the first and the last half; they have to be independent.
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
    """Return factors (k,) on predicted spreads (n, k) so that normal intervals cover `level` of residuals (n, k).

    The factor is one where a component is known for too few structures.
    """
    factors = np.ones(residuals.shape[1])
    for j, (r, s) in enumerate(zip(residuals.T, spread.T, strict=True)):
        known = np.isfinite(r)
        if known.sum() >= FEWEST and np.isfinite(factor := Conformal.fit(r[known], s[known], level=level).factor):
            factors[j] = factor / special.ndtri(0.5 + level / 2)
    return factors


@dataclass(frozen=True)
class Conformal:
    """Intervals mean +- factor x spread that cover a fraction `level` of values like those fitted to.

    Split conformal prediction with normalised residuals (Lei et al. 2018, J. Am. Stat. Assoc. 113, 1094); by group
    (Mondrian), if groups are given, each with its own factor. With weights (the ratio of the density at prediction to
    that at fitting) coverage holds under that covariate shift (Tibshirani et al. 2019, arXiv:1904.06019).
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
        """Fit to residuals (n,) of held-out values and their predicted spread (n,)."""
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
        """Return the half widths (n,) of intervals for predictions with this spread (n,).

        They are infinite where too few values guarantee nothing."""
        factors = np.full(len(spread), self.factor)
        if groups is not None:
            factors = np.array([self.of_group.get(int(g), self.factor) for g in groups])
        return np.asarray(factors * spread)


def _quantile(scores: Array, weights: Array, level: float) -> float:
    """Return the weighted quantile with one more score, of the mean weight, placed at infinity."""
    order = np.argsort(scores)
    total = weights.sum() + weights.mean()
    reached = np.cumsum(weights[order]) / total
    place = int(np.searchsorted(reached, level - 1e-12))
    return float(scores[order][place]) if place < len(scores) else float("inf")
