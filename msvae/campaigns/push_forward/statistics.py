"""The statistics of a push-forward: what is estimated of the quantity's distribution, and how it is written down."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from operator import methodcaller
from typing import Any

import numpy as np
from scipy import special

from msvae.campaigns.push_forward.campaign import PushForward
from msvae.sampling.estimators import Estimate, Estimator
from msvae.structures import Array

__all__ = [
    "FURTHER",
    "Statistic",
    "columns_of",
    "from_scatter",
    "plain_estimates",
    "row_of",
    "scrambled",
    "statistics_of",
]

FURTHER = 10**8  # number of the first sample of which only cheap values are computed


@dataclass(frozen=True)
class Statistic:
    """A statistic of the quantity's distribution.

    of: its estimate. each: the same number (r,) of every row of values (r, m), NaN left out.
    """

    name: str
    of: Callable[[Estimator], Estimate]
    each: Callable[[Array], Any]


def statistics_of(wanted: PushForward) -> list[Statistic]:
    """Return the mean, and the other statistics that the study asks for."""
    found = [
        Statistic("mean", lambda e: e.mean, partial(np.nanmean, axis=1)),
        Statistic("variance", lambda e: e.variance, partial(np.nanvar, axis=1, ddof=1)),
        *(
            Statistic(f"{100 * p:g} % quantile", methodcaller("quantile", p), partial(np.nanquantile, q=p, axis=1))
            for p in wanted.probabilities
        ),
    ]
    if wanted.threshold is not None:
        above, t = methodcaller("exceedance", wanted.threshold), wanted.threshold
        found.append(Statistic(f"chance of more than {t:g}", above, lambda values: np.nanmean(values > t, axis=1)))
    return found


def from_scatter(each: Array, confidence: float) -> Estimate:
    """Return the mean of independent estimates (r,), with the interval of Student's t of their scatter."""
    half = float(special.stdtrit(len(each) - 1, 0.5 + confidence / 2)) * float(each.std(ddof=1)) / math.sqrt(len(each))
    return Estimate(float(each.mean()), float(each.mean()) - half, float(each.mean()) + half)


def scrambled(values: Array, wanted: PushForward) -> dict[str, Estimate]:
    """Return the estimates from independent scramblings (replicates, batch); their scatter gives the error."""
    batch = values.shape[1]
    asked = statistics_of(wanted) if batch > 1 else statistics_of(wanted)[:1]
    return {s.name: from_scatter(s.each(values), wanted.confidence) for s in asked}


def plain_estimates(estimates: Mapping[str, Estimate]) -> dict[str, list[float | None]]:
    """Return value, low and high by name; None for what is not bounded."""
    ends = {name: (e.value, e.low, e.high) for name, e in estimates.items()}
    return {name: [v if math.isfinite(v) else None for v in three] for name, three in ends.items()}


def columns_of(wanted: PushForward) -> tuple[str, ...]:
    """Return the heads of the table whose rows `row_of` makes."""
    low, high = (f"{100 * p:g} %" for p in ((1 - wanted.confidence) / 2, (1 + wanted.confidence) / 2))
    return ("", "value", low, high, "samples", "discretisation error")


def row_of(name: str, estimate: Estimate, samples: int, shift: float | None = None) -> tuple[str, ...]:
    ends = (f"{v:.6g}" for v in (estimate.value, estimate.low, estimate.high))
    return (name, *ends, str(samples), "" if shift is None else f"{shift:.2g}")
