"""From annealed batches and evaluated draws to the partition function, its bounds and averages, with intervals.

The partition function of a guess of the energy (what was paid for, an expansion elsewhere), estimated in B independent
batches, is corrected by the energies that the solver finds of D draws among the share u of their weight whose energies
are not known: Z = mean over batches times (1 - u + u times mean over draws of exp(-beta (E - guess))), without bias for
any guess (importance sampling after free-energy perturbation; Zwanzig 1954, J. Chem. Phys. 22, 1420).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from scipy.special import logsumexp
from scipy.stats import t as student

from msvae import Array

__all__ = ["Draws", "Estimate", "correction_error", "estimated", "merged"]

REPEATS = 1000  # of the bootstrap
LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class Draws:
    """At one inverse temperature: what batches and draws say.

    weights (B,): logarithms of the guess's partition function by each batch. means (B, f): averages of the
    observables over its occupations; of these the first two are the guessed energy and its square.
    unknown (B,): share of a batch's weight whose energies are guessed; draws are among these. batch (D,): of each draw.
    energies, guesses (D,): the solver's and the guessed ones; NaN if the solver failed.
    values (D, f - 2): the other observables.
    """

    weights: Array
    means: Array
    unknown: Array
    batch: Array
    energies: Array
    guesses: Array
    values: Array


@dataclass(frozen=True)
class Estimate:
    """log Z at an inverse temperature with the half-width of its 95 % interval, and what else follows.

    bound, upper: between which log Z lies, but for their own standard errors. effective: effective sample size after
    the correction, as a share of that before. means (f,) and errors (f,): energy per structure, its variance, other
    observables; the errors are half-widths. failed: draws without an energy, counted as weight 0.
    """

    beta: float
    log_z: float
    half_width: float
    bound: float
    bound_error: float
    upper: float
    effective: float
    means: Array
    errors: Array
    draws: int
    batches: int
    failed: int


def merged(parts: list[Draws]) -> Draws:
    """Return the batches and draws of several rounds as one."""
    first = np.cumsum([0, *(len(p.weights) for p in parts[:-1])])
    columns = {field.name: np.concatenate([getattr(p, field.name) for p in parts]) for field in fields(Draws)}
    columns["batch"] = np.concatenate([p.batch + f for p, f in zip(parts, first, strict=True)])
    return Draws(**columns)


def estimated(draws: Draws, beta: float, seed: int) -> Estimate:
    """Return the estimate, its interval by a bootstrap over batches, each with its own draws."""
    batches, rng = len(draws.weights), np.random.default_rng(seed)
    sums = _Sums.of(draws, beta)
    (log_z,), (means,) = sums.result(np.ones((1, batches)))
    logs, repeated = sums.result(rng.multinomial(batches, np.full(batches, 1 / batches), size=REPEATS).astype(float))
    usable = np.isfinite(logs)
    spread = student.ppf((1 + LEVEL) / 2, max(batches - 1, 1)) * np.sqrt(batches / max(batches - 1, 1))
    log_spread = float(logs[usable].std()) if usable.sum() > REPEATS // 2 else float("nan")
    errors = repeated[usable].std(axis=0) if usable.any() else np.full_like(means, np.nan)
    known, share = np.isfinite(draws.energies), share_unknown(draws)
    change = beta * (draws.energies - draws.guesses)[known]
    c = np.exp(-change)
    lower, raised, square = (share * float(v.sum()) / max(len(known), 1) for v in (change, c * change, c**2))
    factor = 1 - share + share * float(c.sum()) / max(len(known), 1) if len(known) else 1.0
    bound = float(draws.weights.mean()) - lower if known.all() else float("-inf")
    log_s = float(logsumexp(draws.weights) - np.log(batches))
    return Estimate(
        beta, float(log_z), float(spread * log_spread), bound,
        float(np.hypot(_error(draws.weights), share * _error(change) if len(change) else 0.0)),
        log_s - raised / factor if known.all() else float("inf"),
        factor**2 / (1 - share + square) if len(known) else 1.0,
        means, spread * errors, len(draws.energies), batches, int((~known).sum()),
    )  # fmt: skip


def share_unknown(draws: Draws) -> float:
    """Return the share of all batches' weight whose energies are guessed."""
    shares = np.exp(draws.weights - logsumexp(draws.weights))
    return float(shares @ draws.unknown)


def correction_error(draws: Draws, beta: float) -> float:
    """Return the standard error that the draws alone bring to log Z."""
    share = share_unknown(draws)
    if not len(draws.energies):
        return 0.0 if share == 0 else float("inf")
    factors = np.nan_to_num(np.exp(-beta * (draws.energies - draws.guesses)))
    return float(share * factors.std() / (1 - share + share * factors.mean()) / np.sqrt(len(factors)))


def _error(values: Array) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


@dataclass(frozen=True, eq=False)
class _Sums:
    """What the estimate sums over batches (B), with and without draws.

    shares (B,): partition functions of the batches over exp(shift). unknown (B,): share of their weight. counts (B,):
    draws of each. factors (D,): the draws' exp(-beta (E - guess)) over exp(level). corrected, plain (B, f): sums of
    factor times observable, and of the guess's observable.
    """

    shares: Array
    unknown: Array
    shift: float
    level: float
    means: Array
    counts: Array
    factors: Array
    weights: Array
    corrected: Array
    plain: Array
    middle: float

    @classmethod
    def of(cls, draws: Draws, beta: float) -> _Sums:
        shift, batches = float(draws.weights.max()), len(draws.weights)
        change = np.where(np.isfinite(draws.energies), -beta * (draws.energies - draws.guesses), -np.inf)
        level = float(change.max(initial=-np.inf))
        level = level if np.isfinite(level) else 0.0
        factors = np.exp(change - level)
        middle = float(np.average(draws.means[:, 0], weights=np.exp(draws.weights - shift)))
        true, own = (np.nan_to_num(e - middle) for e in (draws.energies, draws.guesses))
        exact = np.column_stack([true, true**2, draws.values]) * factors[:, None]
        expanded = np.column_stack([own, own**2, draws.values]) * np.exp(-level)
        means = draws.means.copy()
        means[:, 1] += middle**2 - 2 * middle * means[:, 0]
        means[:, 0] -= middle

        def summed(values: Array) -> Array:
            total = np.zeros((batches, *values.shape[1:]))
            np.add.at(total, draws.batch, values)
            return total

        ones = np.ones(len(factors))
        return cls(np.exp(draws.weights - shift), draws.unknown, shift, level, means, summed(ones), factors,
                   summed(factors), summed(exact), summed(expanded), middle)  # fmt: skip

    def result(self, times: Array) -> tuple[Array, Array]:
        """Return log Z (r,) and the means (r, f) for batches that count so many times (r, B)."""
        count, total = times @ self.counts, times @ self.shares
        with np.errstate(divide="ignore", invalid="ignore"):
            share, some = times @ (self.shares * self.unknown) / total, count > 0
            drawn = np.where(some, times @ self.weights / count, np.exp(-self.level))
            factor = (1 - share) * np.exp(-self.level) + share * drawn  # over exp(level)
            own = times @ (self.shares[:, None] * self.means) / total[:, None]
            change = share[:, None] * (times @ (self.corrected - self.plain)) / np.maximum(count, 1)[:, None]
            means = (own * np.exp(-self.level) + change) / factor[:, None]
            log_z = np.log(total / times.sum(axis=1)) + self.shift + np.log(factor) + self.level
        means[:, 1] -= means[:, 0] ** 2
        means[:, 0] += self.middle
        return log_z, means
