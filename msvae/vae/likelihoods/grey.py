"""Likelihoods of grey values, which may accumulate at the ends of their range."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import (
    ContinuousBernoulli,
    Distribution,
    Independent,
    Normal,
    constraints,
)

from msvae.errors import DataError
from msvae.structures import Specification, Structures
from msvae.vae.likelihoods.likelihood import EMPTY, Likelihood

__all__ = ["CensoredNormal", "ContinuousBernoulliLikelihood", "GaussianLikelihood"]

PILED = 0.02  # part of all values that lie exactly at an end of their range, from which on it censors them


class CensoredNormal(Distribution):
    """A normal variable observed only inside [low, high]; values beyond an end are recorded as that end (Tobin 1958).

    log_prob is a density inside and the logarithm of a probability at an end; an end at infinity censors nothing.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, normal: Normal, low: float, high: float) -> None:
        self.normal, self.low, self.high = normal, low, high
        super().__init__(normal.batch_shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """The normal variable's mean, clipped to the interval."""
        return self.normal.mean.clamp(self.low, self.high)

    @property
    def mode(self) -> Tensor:
        return self.mean

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log p(value)."""
        result: Tensor = self.normal.log_prob(value)
        for end, sign in ((self.low, 1.0), (self.high, -1.0)):
            if math.isfinite(end):
                beyond = torch.special.log_ndtr(sign * (end - self.normal.loc) / self.normal.scale)
                result = torch.where(sign * (value - end) <= 0, beyond, result)
        return result

    def sample(self, sample_shape: Any = EMPTY) -> Tensor:
        """Return samples."""
        drawn: Tensor = self.normal.sample(sample_shape)
        return torch.clamp(drawn, min=self.low, max=self.high)

    def expand(self, batch_shape: Any, _instance: Any = None) -> CensoredNormal:
        """Return the distribution with another batch shape."""
        return CensoredNormal(self.normal.expand(batch_shape), self.low, self.high)


class GaussianLikelihood(Likelihood):
    """Real values with one learnt standard deviation per channel (sigma-VAE, Rybkin et al. 2021, arXiv:2006.13202).

    The network works on values scaled to mean 0 and standard deviation 1 of the training structures; decoded values are
    clipped to the range of those, because a grey value beyond it may stand for a material that does not exist. The
    distribution is censored at an end of the range where values accumulate (an exactly black background).
    """

    centre: Tensor
    width: Tensor
    span: Tensor
    piled: Tensor

    def __init__(self, specification: Specification) -> None:
        super().__init__(specification)
        self.inputs = self.outputs = self.channels
        shape = (self.channels, *(1,) * specification.grid.dimensions)
        self.register_buffer("centre", torch.zeros(shape))
        self.register_buffer("width", torch.ones(shape))
        self.register_buffer("span", torch.tensor([-torch.inf, torch.inf]))
        self.register_buffer("piled", torch.zeros(2, dtype=torch.bool))
        self.log_scale = nn.Parameter(torch.full(shape, -1.0))

    def fit(self, structures: Structures) -> None:
        flat = structures.values.swapaxes(0, 1).reshape(self.channels, -1).astype(np.float64)
        deviation = flat.std(axis=1)
        ends = float(flat.min()), float(flat.max())
        self.span.copy_(torch.tensor(ends))
        self.piled.copy_(torch.tensor([bool((flat == end).mean() > PILED) and ends[0] < ends[1] for end in ends]))
        self.centre.copy_(torch.as_tensor(flat.mean(axis=1)).reshape(self.centre.shape))
        self.width.copy_(torch.as_tensor(np.where(deviation > 0, deviation, 1.0)).reshape(self.width.shape))

    def features(self, values: Tensor) -> Tensor:
        return (values.float() - self.centre) / self.width

    def forward(self, output: Tensor) -> Distribution:
        normal = Normal(self.centre + self.width * output, self.width * self.log_scale.clamp(-6, 3).exp())
        if self.piled.any():
            low, high = (
                end if piled else sign * math.inf
                for end, piled, sign in zip(self.span.tolist(), self.piled.tolist(), (-1, 1), strict=True)
            )
            return Independent(CensoredNormal(normal, low, high), self.event_dimensions)
        return Independent(normal, self.event_dimensions)

    def mode(self, distribution: Distribution) -> Tensor:
        return distribution.mean.clamp(self.span[0], self.span[1])


class ContinuousBernoulliLikelihood(Likelihood):
    """Grey values from 0 to 1, normalised (Loaiza-Ganem and Cunningham 2019, arXiv:1907.06845)."""

    def __init__(self, specification: Specification) -> None:
        super().__init__(specification)
        self.inputs = self.outputs = self.channels

    def fit(self, structures: Structures) -> None:
        low, high = structures.values.min(), structures.values.max()
        if low < 0 or high > 1:
            raise DataError(
                f"model.likelihood: 'continuous-bernoulli' is for grey values from 0 to 1, found {low:g} to {high:g}: "
                "use 'gaussian'"
            )

    def features(self, values: Tensor) -> Tensor:
        return values.float() * 2 - 1

    def forward(self, output: Tensor) -> Distribution:
        return Independent(ContinuousBernoulli(logits=output.clamp(-15, 15)), self.event_dimensions)

    def mode(self, distribution: Distribution) -> Tensor:
        return distribution.mean.clamp(0, 1)
