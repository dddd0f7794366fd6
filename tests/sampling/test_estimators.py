"""Estimators and allocation: unbiased, with intervals that cover, never worse for a useless surrogate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from msvae import DataError
from msvae.sampling.allocation import allocate
from msvae.sampling.estimators import Estimator

LABELS, MANY, REPLICATES = 50, 1000, 400


def expensive(x: Any) -> Any:
    return np.exp(0.5 * x[:, 0]) + 0.3 * x[:, 1] ** 2


def drawn(seed: int, noise: float) -> tuple[Any, Any, tuple[Any, ...]]:
    """Return values of a quantity, of a surrogate with this noise, and of the surrogate at many more samples."""
    rng = np.random.default_rng([seed, 11])
    few, many = rng.standard_normal((LABELS, 3)), rng.standard_normal((MANY, 3))

    def cheap(x: Any) -> Any:
        return 1.1 * np.exp(0.5 * x[:, 0]) + 0.2 * x[:, 1] ** 2 + noise * x[:, 2]

    return expensive(few), cheap(few)[:, None], (cheap(many),)


@pytest.fixture(scope="module")
def truth() -> dict[str, float]:
    y = expensive(np.random.default_rng(1).standard_normal((2_000_000, 3)))
    return {"mean": y.mean(), "low": np.quantile(y, 0.05), "high": np.quantile(y, 0.95), "tail": float((y > 3).mean())}


@pytest.mark.parametrize("noise", [0.3, pytest.param(3.0, marks=pytest.mark.slow)])
def test_intervals_of_mean_quantiles_and_tail_cover_as_often_as_they_say(noise: float, truth: dict[str, float]) -> None:
    hits = dict.fromkeys(truth, 0)
    means, plain = [], []
    for k in range(REPLICATES):
        y, g, more = drawn(k, noise)
        estimator = Estimator(y, g, more)
        found = {"mean": estimator.mean, "low": estimator.quantile(0.05), "high": estimator.quantile(0.95),
                 "tail": estimator.exceedance(3.0)}  # fmt: skip
        for name, estimate in found.items():
            hits[name] += estimate.low <= truth[name] <= estimate.high
        means.append(estimator.mean.value)
        plain.append(y.mean())
    assert all(0.92 <= count / REPLICATES <= 1 for count in hits.values()), hits
    assert 0.925 <= hits["mean"] / REPLICATES <= 0.975
    assert abs(np.mean(means) - truth["mean"]) < 3 * np.std(means) / np.sqrt(REPLICATES)
    assert np.var(means) <= (0.25 if noise < 1 else 1.05) * np.var(plain)


def test_a_surrogate_judged_by_what_it_was_fitted_to_claims_too_much(truth: dict[str, float]) -> None:
    """The control: the same samples train a flexible surrogate and correct it; its intervals do not cover."""
    hits = 0
    layer = np.random.default_rng(5).standard_normal((3, 35))
    for k in range(200):
        rng = np.random.default_rng([k, 12])
        few, many = rng.standard_normal((LABELS, 3)), rng.standard_normal((2000, 3))
        y = expensive(few) + 0.5 * rng.standard_normal(LABELS)  # what no surrogate can know
        weights = np.linalg.lstsq(np.tanh(few @ layer), y, rcond=None)[0]
        estimate = Estimator(y, (np.tanh(few @ layer) @ weights)[:, None], (np.tanh(many @ layer) @ weights,)).mean
        hits += estimate.low <= truth["mean"] <= estimate.high
    assert hits / 200 < 0.85


def test_several_surrogates_do_better_than_the_best_of_them() -> None:
    rng = np.random.default_rng(0)
    found: dict[str, list[float]] = {"both": [], "one": []}
    for _ in range(200):
        x, more = rng.standard_normal((60, 2)), rng.standard_normal((5000, 2))
        y = x.sum(axis=1)
        found["both"].append(Estimator(y, x, (more[:, 0], more[:, 1])).mean.value)
        found["one"].append(Estimator(y, x[:, :1], (more[:, 0],)).mean.value)
    assert np.var(found["both"]) < 0.2 * np.var(found["one"])


def test_what_cannot_be_estimated_is_said() -> None:
    with pytest.raises(DataError, match="at least 8 values"):
        Estimator(np.zeros(5))
    with pytest.raises(DataError, match="needs numbers"):
        Estimator(np.full(9, np.nan))
    with pytest.raises(DataError, match="between 0 and 1"):
        Estimator(np.arange(9.0)).quantile(1.5)
    assert np.isinf(Estimator(np.arange(9.0)).quantile(0.01).low)
    even = Estimator(np.full(9, 2.0))
    assert (even.mean.low, even.mean.high, even.variance.value) == (2.0, 2.0, 0.0)


def test_a_good_cheap_surrogate_gets_most_samples_and_a_useless_one_none() -> None:
    correlation = np.array([[1.0, 0.98, 0.05], [0.98, 1.0, 0.05], [0.05, 0.05, 1.0]])
    numbers = allocate(correlation, np.array([1.0, 1e-3, 0.5]), 100.0)
    assert numbers[2] == 0
    assert numbers[1] > 50 * numbers[0]
    assert numbers @ [1.0, 1e-3, 0.5] == pytest.approx(100, rel=0.05)
    ratio = np.sqrt(1.0 / 1e-3 * 0.98**2 / (1 - 0.98**2))  # Peherstorfer et al. 2016, theorem 3.4
    assert numbers[1] / numbers[0] == pytest.approx(ratio, rel=0.05)
    with pytest.raises(DataError, match="positive cost"):
        allocate(correlation, np.zeros(3), 1.0)
