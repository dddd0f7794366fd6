"""Likelihoods: what the decoder's output tensor means, by the kind of structure.

A likelihood turns the decoder's output (n, channels, *grid) into p(x|z) over values (n, channels, *grid) of the
structures, prepares values as the encoder's input, and reads values back from a distribution.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import (
    Bernoulli,
    Categorical,
    ContinuousBernoulli,
    Dirichlet,
    Distribution,
    Independent,
    Normal,
    constraints,
)

from msvae.errors import DataError, StudyError
from msvae.structures import Specification, Structures

__all__ = ["Likelihood", "likelihood_for"]

PILED = 0.02  # part of all values that lie exactly at an end of their range, from which on it censors them
LEAST_FRACTION = 1e-4  # of an element in a composition: smaller ones are not told from it
COUNTS = 100  # atoms that a composition stands for in the multinomial likelihood
EMPTY = torch.Size()


class Likelihood(nn.Module, ABC):
    """p(x|z) for structures of one specification.

    inputs: channels of the encoder's input. outputs: channels of the decoder's output.
    levelled: adds to the decoder's output what makes it the training structures' mean.
    """

    inputs: int
    outputs: int
    levelled: ClassVar[bool] = False

    def __init__(self, specification: Specification) -> None:
        super().__init__()
        self.channels = specification.channels
        self.count = len(specification.constituents)
        self.event_dimensions = 1 + specification.grid.dimensions

    @abstractmethod
    def features(self, values: Tensor) -> Tensor:
        """Return the encoder's input (n, inputs, *grid) for values (n, channels, *grid)."""

    @abstractmethod
    def forward(self, output: Tensor) -> Distribution:
        """Return p(x|z), with one event per structure, for the decoder's output (n, outputs, *grid)."""

    @abstractmethod
    def fit(self, structures: Structures) -> None:
        """Take from training structures what the distribution starts from: their mean, and the scale of values."""

    def mode(self, distribution: Distribution) -> Tensor:
        """Return the most likely values (n, channels, *grid)."""
        return distribution.mode


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
        """Return the sites that are most likely of the second constituent, as many as there are expected to be.

        The site by site most likely values have too little of the rarer constituent, wherever the decoder is in doubt.
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


class CensoredNormal(Distribution):
    """A normal variable that is only seen inside [low, high]: what lies beyond an end is that end (Tobin 1958).

    log_prob is a density inside and the logarithm of a probability at an end; an end at infinity censors nothing.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, normal: Normal, low: float, high: float) -> None:
        self.normal, self.low, self.high = normal, low, high
        super().__init__(normal.batch_shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """Where most of it lies: the normal variable's mean, kept inside."""
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
        """Return it with another batch shape."""
        return CensoredNormal(self.normal.expand(batch_shape), self.low, self.high)


class GaussianLikelihood(Likelihood):
    """Real values with one learnt standard deviation per channel (sigma-VAE, Rybkin et al. 2021, arXiv:2006.13202).

    The network works on values scaled to mean 0 and standard deviation 1 of the training structures; what it decodes is
    kept within their range, for a grey value beyond it may stand for a material that does not exist. An end of the
    range at which values pile up (a background that is exactly black) censors the distribution.
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
        """Start from nothing: the decoder's output is on the scale of its features."""

    def mode(self, distribution: Distribution) -> Tensor:
        return distribution.mean


class DirichletLikelihood(CompositionLikelihood):
    """Fractions around a mean with a learnt concentration: p(x|z) = Dir(concentration softmax(output))."""

    def __init__(self, specification: Specification) -> None:
        super().__init__(specification)
        self.log_concentration = nn.Parameter(torch.tensor(3.0))

    def forward(self, output: Tensor) -> Distribution:
        return Fractions(self.log_concentration.clamp(-2, 12).exp() * torch.softmax(output, dim=1) + 1e-4)


class Fractions(Dirichlet):
    """A Dirichlet distribution whose log_prob takes fractions of zero as the least fraction."""

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


def likelihood_for(specification: Specification, choice: str = "auto") -> Likelihood:
    """Return the likelihood of a specification: by its kind, or the chosen one if it fits; else StudyError."""
    two, composition = len(specification.constituents) == 2, specification.kind == "composition"
    natural = ("bernoulli" if two else "categorical") if specification.is_discrete else "gaussian"
    natural = "dirichlet" if composition else natural
    fitting = {
        "bernoulli": specification.is_discrete and two,
        "categorical": specification.is_discrete,
        "gaussian": not specification.is_discrete,
        "continuous-bernoulli": specification.kind == "field",
        "dirichlet": composition,
        "multinomial": composition,
    }
    name = natural if choice == "auto" else choice
    if not fitting[name]:
        raise StudyError(
            f"model.likelihood: '{name}' does not fit structures of kind '{specification.kind}' with "
            f"{len(specification.constituents)} constituents: use '{natural}'"
        )
    known: dict[str, Callable[[Specification], Likelihood]] = {
        "bernoulli": BernoulliLikelihood,
        "categorical": CategoricalLikelihood,
        "gaussian": GaussianLikelihood,
        "continuous-bernoulli": ContinuousBernoulliLikelihood,
        "dirichlet": DirichletLikelihood,
        "multinomial": MultinomialLikelihood,
    }
    return known[name](specification)
