"""Likelihoods are normalised, and the objective's terms are what their formulas say."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from msvae import Grid, MsvaeError, Specification
from msvae.testing import example_structures
from msvae.vae.likelihoods import likelihood_for


@pytest.mark.parametrize("count", [2, 3])
def test_discrete_likelihoods_sum_to_one_over_all_structures(count: int) -> None:
    specification = Specification("occupation", 2, Grid.of((2,)), tuple(map(str, range(count))))
    likelihood = likelihood_for(specification)
    torch.manual_seed(0)
    distribution = likelihood(torch.randn(1, likelihood.outputs, 2))
    every = torch.tensor(list(itertools.product(range(count), repeat=4)), dtype=torch.float32).reshape(-1, 2, 2)
    total = sum(distribution.log_prob(x[None]).exp().item() for x in every)
    assert total == pytest.approx(1, abs=1e-5)


def test_the_gaussian_likelihood_integrates_to_one() -> None:
    specification = Specification("field", 1, Grid.of((1,)), ("grey",))
    likelihood = likelihood_for(specification)
    x = torch.linspace(-6, 6, 4001)
    density = likelihood(torch.zeros(1, 1, 1)).log_prob(x.reshape(-1, 1, 1)).exp()
    assert torch.trapezoid(density, x).item() == pytest.approx(1, abs=1e-5)


def test_the_divergence_is_the_integral_that_defines_it() -> None:
    torch.manual_seed(0)
    q = Independent(Normal(torch.tensor([[0.7, -0.3]]), torch.tensor([[0.5, 1.2]])), 1)
    p = Independent(Normal(torch.zeros(2), torch.ones(2)), 1)
    z = q.sample((400_000,))
    sampled = (q.log_prob(z) - p.log_prob(z)).mean().item()
    assert kl_divergence(q, p).item() == pytest.approx(sampled, abs=0.01)
    closed = sum(0.5 * (m**2 + s**2 - 1 - 2 * math.log(s)) for m, s in ((0.7, 0.5), (-0.3, 1.2)))
    assert kl_divergence(q, p).item() == pytest.approx(closed, abs=1e-6)


@pytest.mark.parametrize(("kind", "choice"), [("field", "bernoulli"), ("phases", "gaussian")])
def test_a_likelihood_that_does_not_fit_the_kind_is_refused(kind: str, choice: str) -> None:
    specification = example_structures(kind, 2, 1).specification  # type: ignore[arg-type]
    with pytest.raises(MsvaeError, match=f"'{choice}' does not fit"):
        likelihood_for(specification, choice)
