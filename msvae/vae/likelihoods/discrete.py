"""Likelihoods of phases and of species on sites."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Independent,
)

from msvae.structures import Specification, Structures
from msvae.vae.likelihoods.likelihood import Likelihood

__all__ = ["BernoulliLikelihood", "CategoricalLikelihood"]


class BernoulliLikelihood(Likelihood):
    """Two constituents, independent sites: log p = sum_s x_s log p_s + (1 - x_s) log(1 - p_s)."""

    levelled = True

    def __init__(self, specification: Specification) -> None:
        super().__init__(specification)
        self.inputs = self.outputs = self.channels
        self.bias = nn.Parameter(torch.zeros(self.outputs, *(1,) * specification.grid.dimensions))

    def fit(self, structures: Structures) -> None:
        mean = torch.as_tensor(structures.fractions[:, 1].mean()).clamp(1e-3, 1 - 1e-3)
        nn.init.constant_(self.bias, float(torch.logit(mean)))

    def features(self, values: Tensor) -> Tensor:
        return values.float() * 2 - 1

    def forward(self, output: Tensor) -> Distribution:
        return Independent(Bernoulli(logits=output + self.bias), self.event_dimensions)

    def mode(self, distribution: Distribution) -> Tensor:
        """Assign the second constituent to its most likely sites, as many as their expected number.

        Taking the most likely value site by site would underestimate the rarer constituent where the decoder is
        uncertain.
        """
        chances = distribution.mean.flatten(1)
        order = torch.argsort(chances, dim=1, descending=True, stable=True)
        wanted = chances.double().sum(dim=1, keepdim=True).round()
        taken = (torch.arange(chances.shape[1], device=chances.device) < wanted).to(torch.uint8)
        return torch.zeros_like(taken).scatter_(1, order, taken).reshape(distribution.mean.shape)


class CategoricalLikelihood(Likelihood):
    """Any number of constituents, independent sites: log p = sum_s log p_s[x_s]."""

    levelled = True

    def __init__(self, specification: Specification) -> None:
        super().__init__(specification)
        self.inputs = self.outputs = self.channels * self.count
        self.bias = nn.Parameter(torch.zeros(self.outputs, *(1,) * specification.grid.dimensions))

    def fit(self, structures: Structures) -> None:
        logarithm = torch.as_tensor(structures.fractions.mean(axis=0)).clamp_min(1e-3).log().repeat(self.channels)
        with torch.no_grad():
            self.bias.copy_(logarithm.reshape(self.bias.shape))

    def features(self, values: Tensor) -> Tensor:
        encoded = nn.functional.one_hot(values.long(), self.count).movedim(-1, 2)
        return encoded.flatten(1, 2).float()

    def forward(self, output: Tensor) -> Distribution:
        logits = (output + self.bias).unflatten(1, (self.channels, self.count)).movedim(2, -1)
        return Independent(Categorical(logits=logits), self.event_dimensions)

    def mode(self, distribution: Distribution) -> Tensor:
        return distribution.mode.to(torch.uint8)
