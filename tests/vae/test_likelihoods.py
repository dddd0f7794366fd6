"""Likelihoods are normalised, and the objective's terms are what their formulas say."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from msvae import Grid, MsvaeError, Specification, Structures
from msvae.plugins.conformance import example_structures
from msvae.vae.likelihoods.choice import likelihood_for
from msvae.vae.likelihoods.compositions import COUNTS
from msvae.vae.likelihoods.grey import CensoredNormal


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


def test_a_censored_normal_has_its_mass_at_the_ends_and_its_density_between() -> None:
    distribution = CensoredNormal(Normal(torch.tensor(0.3), torch.tensor(0.4)), 0.0, 1.0)
    inside = torch.linspace(1e-6, 1 - 1e-6, 4001)
    mass = torch.trapezoid(distribution.log_prob(inside).exp(), inside)
    ends = distribution.log_prob(torch.tensor([0.0, 1.0])).exp().sum()
    assert float(mass + ends) == pytest.approx(1, abs=1e-4)
    torch.manual_seed(0)
    drawn = distribution.sample((20000,))
    assert float((drawn == 0).float().mean()) == pytest.approx(
        float(distribution.log_prob(torch.zeros(())).exp()), abs=0.01
    )
    assert drawn.min() == 0
    assert drawn.max() == 1


def test_values_that_pile_up_at_an_end_are_censored_there_and_decode_to_it() -> None:
    values = torch.rand(20, 4, 4).clamp_min(0.4).sub(0.4).numpy()
    likelihood = likelihood_for(Structures.from_values(values).specification)
    likelihood.fit(Structures.from_values(values))
    assert likelihood.piled.tolist() == [True, False]
    decoded = likelihood(torch.full((1, 1, 4, 4), -5.0))
    assert (likelihood.mode(decoded) == 0).all()
    assert torch.isfinite(decoded.log_prob(torch.zeros(1, 1, 4, 4))).all()


def test_the_continuous_bernoulli_integrates_to_one_and_refuses_other_values() -> None:
    specification = Specification("field", 1, Grid.of((1,)), ("grey",))
    likelihood = likelihood_for(specification, "continuous-bernoulli")
    x = torch.linspace(0, 1, 4001)
    density = likelihood(torch.full((1, 1, 1), 1.3)).log_prob(x.reshape(-1, 1, 1)).exp()
    assert torch.trapezoid(density, x).item() == pytest.approx(1, abs=1e-4)
    with pytest.raises(MsvaeError, match="from 0 to 1"):
        likelihood.fit(Structures.from_values([[[0.0, 2.0]]]))


def test_the_multinomial_sums_to_one_over_all_counts_and_the_dirichlet_integrates_to_one() -> None:
    specification = Specification("composition", 2, Grid(), ("Fe", "Ni"))
    counts = torch.arange(COUNTS + 1) / COUNTS
    every = torch.stack([counts, 1 - counts], dim=1)
    multinomial = likelihood_for(specification, "multinomial")
    total = multinomial(torch.tensor([[0.3, -0.4]])).log_prob(every).exp().sum()
    assert float(total) == pytest.approx(1, abs=1e-4)
    x = torch.linspace(2e-4, 1 - 2e-4, 8001)
    dirichlet = likelihood_for(specification)(torch.tensor([[0.3, -0.4]]))
    density = dirichlet.log_prob(torch.stack([x, 1 - x], dim=1)).exp()
    assert torch.trapezoid(density, x).item() == pytest.approx(1, abs=1e-3)
    with pytest.raises(MsvaeError, match="at least two"):
        likelihood_for(Specification("composition", 1, Grid(), ("Fe",)))
