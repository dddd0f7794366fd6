"""Multi-fidelity estimators: mean, variance and quantiles from few expensive values and many cheap ones.

Cheap values (of a surrogate, or of a solver on a coarser grid) are control variates whose means are also estimated
(approximate control variates: Gorodetsky et al. 2020, J. Comput. Phys. 408, 109257). Coefficients are fitted to other
samples than those to which they are applied (cross-fitting), so that the mean is unbiased for any surrogate error. They
are shrunk, so that useless surrogates do no harm. Quantiles and tail probabilities follow prediction-powered inference
(Angelopoulos et al. 2023, Science 382, 669).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import special

from msvae.errors import DataError
from msvae.structures import Array

__all__ = ["Estimate", "Estimator"]

FOLDS = 10
GRID = 300  # values among which a quantile's interval is looked for
LEAST = 0.2  # of the mean size of what surrogates miss, below which it is never taken to be


@dataclass(frozen=True)
class Estimate:
    """An estimate with its confidence interval."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2


class Estimator:
    """Statistics of a quantity y from n values, k cheap values per sample, and cheap values of further samples.

    values: (n,), at least 8. cheap: (n, k). further: for each of the k, values of independent samples; the samples of a
    shorter array are the first ones of a longer array. confidence: of the intervals.
    """

    def __init__(
        self, values: Array, cheap: Array | None = None, further: tuple[Array, ...] = (), *, confidence: float = 0.95
    ) -> None:
        self.y = np.asarray(values, dtype=np.float64)
        n = len(self.y)
        self.g = np.zeros((n, 0)) if cheap is None else np.asarray(cheap, dtype=np.float64)
        self.further = tuple(np.asarray(f, dtype=np.float64) for f in further)
        if n < 8 or self.g.shape != (n, len(self.further)) or any(len(f) < 2 for f in self.further):
            raise DataError(
                f"an estimate needs at least 8 values, cheap ones (n, k) and k arrays of further ones, found {n}, "
                f"{self.g.shape} and {len(self.further)}"
            )
        if not all(np.isfinite(a).all() for a in (self.y, self.g, *self.further)):
            raise DataError("an estimate needs numbers: leave out the samples that failed")
        if not 0 < confidence < 1:
            raise DataError(f"confidence is between 0 and 1, found {confidence:g}")
        self.confidence = confidence

    @cached_property
    def mean(self) -> Estimate:
        """The mean."""
        return self._mean_of(self.y, self.g, self.further)

    @cached_property
    def variance(self) -> Estimate:
        """The variance; its interval is that of a chi-squared variable with the same mean and error."""
        centre = self.mean.value
        centres = [f.mean() for f in self.further]
        found = self._mean_of(
            (self.y - centre) ** 2,
            (self.g - centres) ** 2 if self.further else self.g,
            tuple((f - c) ** 2 for f, c in zip(self.further, centres, strict=True)),
        )
        plain = float(self.y.var(ddof=1))
        value = found.value if found.value > 0.05 * plain else plain
        error = found.half_width / self._t * self._tails(centres)
        if not error > 0:
            return Estimate(value, value, value)
        freedom = max(2 * (value / error) ** 2, 1.0)  # of the chi-squared distribution with this mean and error
        tail = (1 - self.confidence) / 2
        return Estimate(value, *(value * freedom / special.chdtri(freedom, 1 - p) for p in (1 - tail, tail)))

    def _tails(self, centres: list[float]) -> float:
        """Return the factor by which the n samples, which lack rare large values, understate the scatter of squares.

        It is the ratio of the surrogates' fourth moments over many samples to those over the n.
        """
        ratios = [np.mean((f - c) ** 4) / max(float(np.mean((g - c) ** 4)), 1e-300)
                  for f, g, c in zip(self.further, self.g.T, centres, strict=True)]  # fmt: skip
        return float(np.sqrt(np.clip(max(ratios, default=1.0), 1.0, 16.0)))

    def quantile(self, probability: float) -> Estimate:
        """Return the quantile of y at a probability; its interval has infinite ends if there are too few values."""
        if not 0 < probability < 1:
            raise DataError(f"a quantile's probability is between 0 and 1, found {probability:g}")
        at = self._candidates
        chance, error = self._distribution(at, probability, trust=2)
        middle = at[min(int((chance < probability).sum()), len(at) - 1)]
        possible = at[np.abs(chance - probability) <= self._score * error]
        low, high = (float(possible[0]), float(possible[-1])) if len(possible) else (float(middle), float(middle))
        value = min(max(float(middle), low), high)
        return Estimate(value, -math.inf if low == at[0] else low, math.inf if high == at[-1] else high)

    def exceedance(self, threshold: float) -> Estimate:
        """Return the probability that y is above a threshold; its interval is Wilson's, effective n."""
        at = np.array([threshold])
        chance = float(np.clip(self._distribution(at, 0.5)[0][0], 0.0, 1.0))
        _, error = self._distribution(at, min(max(chance, 0.5 / len(self.y)), 1 - 0.5 / len(self.y)))
        spread = max(chance * (1 - chance), 0.25 / len(self.y))
        n, z = max(spread / max(float(error[0]) ** 2, 1e-300), 1.0), self._score
        centre = (1 - chance + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(chance * (1 - chance) / n + z * z / (4 * n * n))
        return Estimate(1 - chance, max(centre - half, 0.0), min(centre + half, 1.0))

    @property
    def reduction(self) -> float:
        """The variance reduction: variance of the mean of the n values alone, divided by that of the estimate."""
        plain = self.y.var(ddof=1) / len(self.y)
        return float(plain / max((self.mean.half_width / self._t) ** 2, 1e-300))

    @property
    def _score(self) -> float:
        return float(special.ndtri(0.5 + self.confidence / 2))

    @property
    def _t(self) -> float:
        return float(special.stdtrit(max(len(self.y) - 1, 1), 0.5 + self.confidence / 2))

    def _folds(self) -> Iterator[tuple[Array, Array]]:
        """Yield the rows of every fold, and the rows of the other folds."""
        number = np.arange(len(self.y)) % min(FOLDS, len(self.y))
        for k in range(int(number.max()) + 1):
            yield np.flatnonzero(number == k), np.flatnonzero(number != k)

    def _mean_of(self, y: Array, g: Array, further: tuple[Array, ...]) -> Estimate:
        """Return the mean of values (n,) with control variates (n, k), given further samples of these."""
        n, k = g.shape
        if k == 0:
            return _interval(float(y.mean()), float(y.var(ddof=1)) / n, self._t)
        means, sizes = np.array([f.mean() for f in further]), np.array([len(f) for f in further])
        shared = 1 / np.maximum.outer(sizes, sizes)  # of two means, the samples that both have
        rest, weights = np.empty(n), np.empty((n, k))
        for own, others in self._folds():
            weights[own] = _coefficients(y[others], g[others], shared * n)
            rest[own] = y[own] - ((g[own] - means) * weights[own]).sum(axis=1)
        alpha = weights.mean(axis=0)
        spread = np.cov(g.T).reshape(k, k)
        variance = float(rest.var(ddof=1)) / n + float(alpha @ (spread * shared) @ alpha)
        return _interval(float(rest.mean()), variance, self._t)

    @cached_property
    def _candidates(self) -> Array:
        """Increasing values among which quantiles are searched."""
        known = np.concatenate([self.y, self._expected[1]])
        margin = float(np.ptp(self.y - self._expected[0])) + 1e-9 * float(np.ptp(known)) + 1e-300
        inner = np.quantile(known, np.linspace(0, 1, GRID))
        ends = np.linspace(0, 1, 40)[1:] * margin
        return np.unique(np.concatenate([known.min() - ends, inner, self.y, known.max() + ends]))

    @cached_property
    def _expected(self) -> tuple[Array, Array]:
        """Surrogate predictions of the n values (cross-fitted) and of the further samples."""
        k = self.g.shape[1]
        many = min((len(f) for f in self.further), default=0)
        further = np.stack([f[:many] for f in self.further], axis=1) if k else np.zeros((0, 0))
        inside = np.empty(len(self.y))
        for own, others in self._folds():
            line = _regression(self.y[others], self.g[others])
            inside[own] = line[0] + self.g[own] @ line[1:]
        line = _regression(self.y, self.g)
        return inside, line[0] + further @ line[1:]

    @cached_property
    def _missed(self) -> tuple[Array, Array, Array]:
        """Sorted surrogate errors (n,) in units of their expected size; that size for both sets of samples.

        Errors often grow with the value: their size is modelled as linear in it, but at least a fifth of its mean.
        """
        inside, outside = self._expected
        missed = self.y - inside
        size = np.abs(missed)
        line = _regression(size, inside[:, None]) if np.ptp(inside) > 0 else np.array([size.mean(), 0.0])
        least = LEAST * float(size.mean()) + 1e-300
        units = [np.maximum(line[0] + line[1] * e, least) for e in (inside, outside)]
        return np.sort(missed / units[0]), units[0], units[1]

    def _distribution(self, at: Array, probability: float, *, trust: int = 1) -> tuple[Array, Array]:
        """Return the distribution function at values (t,) and its standard error where it is this probability.

        The unexplained part is estimated from the n values. The less the surrogates explain, the more it is bounded
        from below by what they cannot have explained, because few values show little of a tail. trust: how readily
        surrogates that explain a part are relied on.
        """
        (inside, outside), (missed, near, far) = self._expected, self._missed
        n = len(self.y)
        indicator = (self.y <= at[:, None]).astype(float)
        if not len(outside):
            return indicator.mean(axis=1), np.full(len(at), math.sqrt(probability * (1 - probability) / n))
        own, many = (_smoothed(missed, (at[:, None] - e) / unit) for e, unit in ((inside, near), (outside, far)))
        rest = indicator - own
        explained, whole = many.var(axis=1), probability * (1 - probability)
        seen, share = rest.var(axis=1, ddof=1), np.clip(explained / whole, 0.0, 1.0)
        unexplained = seen + (1 - share) ** trust * np.maximum(whole - explained - seen, 0.0)
        return rest.mean(axis=1) + many.mean(axis=1), np.sqrt(unexplained / n + explained / many.shape[1])


def _smoothed(observed: Array, at: Array) -> Array:
    """Return the distribution function of sorted observations (n,): linear between them and one deviation beyond."""
    n, reach = len(observed), max(float(observed.std()), 1e-300)
    knots = np.concatenate([[observed[0] - reach], observed, [observed[-1] + reach]])
    levels = np.concatenate([[0.0], (np.arange(n) + 0.5) / n, [1.0]])
    return np.asarray(np.interp(at, knots, levels))


def _coefficients(y: Array, g: Array, shared: Array) -> Array:
    """Return the optimal weights (k,) of the control variates, shrunk by the size that chance alone would give them.

    shared: (k, k), n divided by the number of further samples that each pair shares.
    """
    n, k = g.shape
    centred = g - g.mean(axis=0)
    deviation = np.where(centred.std(axis=0) > 0, centred.std(axis=0), 1.0)
    unit = centred / deviation
    covariance, with_y = unit.T @ unit / n, unit.T @ (y - y.mean()) / n
    explained = covariance * (1 + shared) + 1e-9 * np.eye(k)
    alpha = np.linalg.solve(explained, with_y)
    total = float(y.var())
    share = float(alpha @ with_y) / total if total > 0 else 0.0
    chance = k / max(n - k - 2, 1) * max(1 - share, 0.0)
    return np.asarray(alpha / deviation * max(0.0, 1 - 2 * chance / max(share, 1e-12)))


def _regression(y: Array, g: Array) -> Array:
    """Return intercept and slopes (1 + k,) of the least-squares line; without surrogates, the mean."""
    design = np.concatenate([np.ones((len(y), 1)), g], axis=1)
    return np.asarray(np.linalg.lstsq(design, y, rcond=None)[0])


def _interval(value: float, variance: float, score: float) -> Estimate:
    half = score * math.sqrt(max(variance, 0.0))
    return Estimate(value, value - half, value + half)
