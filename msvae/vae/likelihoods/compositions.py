"""Likelihoods of compositions: fractions that sum to one."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import (
    Dirichlet,
    Distribution,
    constraints,
)

from msvae.errors import StudyError
from msvae.structures import Specification, Structures
from msvae.vae.likelihoods.likelihood import EMPTY, Likelihood

__all__ = ["COUNTS", "DirichletLikelihood", "MultinomialLikelihood"]

LEAST_FRACTION = 1e-4  # of an element in a composition: smaller ones are not told from it
COUNTS = 100  # atoms that a composition stands for in the multinomial likelihood


class CompositionLikelihood(Likelihood):
    """Fractions that sum to one; features and the decoder's output are centred logarithms of fractions."""

    def __init__(self, specification: Specification) -> None:
        super().__init__(specification)
        self.inputs = self.outputs = self.channels
        if self.channels < 2:
            raise StudyError("model.likelihood: a composition of one element is always the same: give at least two")

    def features(self, values: Tensor) -> Tensor:
        logarithm = values.float().clamp_min(LEAST_FRACTION).log()
        return logarithm - logarithm.mean(dim=1, keepdim=True)

    def fit(self, structures: Structures) -> None:
        """Fit nothing: the decoder's output already has the scale of its features."""

    def mode(self, distribution: Distribution) -> Tensor:
        return distribution.mean


class DirichletLikelihood(CompositionLikelihood):
    """Fractions around a mean, with a learnt concentration: p(x|z) = Dir(concentration softmax(output))."""

    def __init__(self, specification: Specification) -> None:
        super().__init__(specification)
        self.log_concentration = nn.Parameter(torch.tensor(3.0))

    def forward(self, output: Tensor) -> Distribution:
        return Fractions(self.log_concentration.clamp(-2, 12).exp() * torch.softmax(output, dim=1) + 1e-4)


class Fractions(Dirichlet):
    """A Dirichlet distribution whose log_prob replaces fractions of zero by the smallest one allowed."""

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log p(value)."""
        inside = value.clamp_min(LEAST_FRACTION)
        found: Tensor = super().log_prob(inside / inside.sum(dim=-1, keepdim=True))  # type: ignore[no-untyped-call]
        return found


class MultinomialLikelihood(CompositionLikelihood):
    """Fractions as counts of COUNTS atoms: log p = sum_e COUNTS x_e log softmax(output)_e + log of the coefficient."""

    def forward(self, output: Tensor) -> Distribution:
        return Counted(output)


class Counted(Distribution):
    """A multinomial distribution of COUNTS atoms over fractions x (n, elements)."""

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, logits: Tensor) -> None:
        self.logarithm = torch.log_softmax(logits, dim=-1)
        super().__init__(logits.shape[:-1], logits.shape[-1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """The expected fractions."""
        return self.logarithm.exp()

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log p(value)."""
        counts = COUNTS * value
        coefficient = math.lgamma(COUNTS + 1) - torch.lgamma(counts + 1).sum(dim=-1)
        return (counts * self.logarithm).sum(dim=-1) + coefficient

    def sample(self, sample_shape: Any = EMPTY) -> Tensor:
        """Return samples."""
        drawn: Tensor = torch.distributions.Multinomial(COUNTS, logits=self.logarithm).sample(sample_shape)
        return drawn / COUNTS
