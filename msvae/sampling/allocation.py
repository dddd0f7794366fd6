"""Allocation: the number of samples of each fidelity that minimises the variance of a mean for a given cost."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from msvae.errors import DataError
from msvae.structures import Array

__all__ = ["allocate"]


def allocate(covariance: Array, costs: Array, budget: float, *, least: int = 8, most: int = 1_000_000) -> Array:
    """Return numbers of samples (1 + k,) of the expensive quantity and of k cheap ones; 0 for those not worthwhile.

    covariance: (1 + k, 1 + k), the expensive quantity first. costs: of one sample of each. budget: the total cost.
    Among all admissible subsets and orders, the plan has the lowest variance by the closed form of multifidelity Monte
    Carlo (Peherstorfer, Willcox and Gunzburger 2016, SIAM J. Sci. Comput. 38, A3163, theorem 3.4).
    """
    covariance, costs = np.asarray(covariance, dtype=np.float64), np.asarray(costs, dtype=np.float64)
    if covariance.shape != (len(costs),) * 2 or not (costs > 0).all():
        raise DataError(f"an allocation needs a positive cost for each fidelity, found {costs.tolist()}")
    deviation = np.sqrt(np.maximum(np.diag(covariance), 1e-300))
    correlation = np.clip(covariance[0] / deviation / deviation[0], -0.999999, 0.999999) ** 2
    ordered = sorted(range(1, len(costs)), key=lambda k: -correlation[k])
    found = [_plan(chosen, correlation, costs) for r in range(len(costs)) for chosen in combinations(ordered, r)]
    _, ratios = min((plan for plan in found if plan is not None), key=lambda plan: plan[0])
    first = max(least, int(budget / float(ratios @ costs)))
    return np.where(ratios > 0, np.minimum(np.maximum(np.rint(ratios * first), first), most), 0).astype(np.int64)


def _plan(chosen: tuple[int, ...], correlation: Array, costs: Array) -> tuple[float, Array] | None:
    """Return the variance per unit cost, and samples (1 + k,) per expensive sample; None if there is no plan."""
    steps = [1.0, *(float(correlation[k]) for k in chosen), 0.0]
    own = [0, *chosen]
    ratios = np.zeros(len(costs))
    ratios[0] = 1.0
    for place in range(1, len(own)):
        gain = (steps[place] - steps[place + 1]) / (1 - steps[1])
        ratios[own[place]] = np.sqrt(max(gain, 0.0) * costs[0] / costs[own[place]])
    used = ratios[own]
    if (np.diff(used) < 0).any() or (used <= 0).any():
        return None
    gains = -np.diff(steps)
    return float(np.sqrt(gains * costs[own]).sum() ** 2), ratios
