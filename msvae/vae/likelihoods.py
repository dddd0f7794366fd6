"""Likelihoods: what the decoder's output tensor means, by the kind of structure.

A likelihood turns the decoder's output (n, channels, *grid) into p(x|z) over values (n, channels, *grid) of the
structures, prepares values as the encoder's input, and reads values back from a distribution.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, Normal

from msvae.errors import StudyError
from msvae.structures import Specification, Structures

__all__ = ["BernoulliLikelihood", "CategoricalLikelihood", "GaussianLikelihood", "Likelihood", "likelihood_for"]


class Likelihood(nn.Module, ABC):
    """p(x|z) for structures of one specification.

    inputs: channels of the encoder's input. outputs: channels of the decoder's output.
    """

    inputs: int
    outputs: int

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
        return (distribution.mean > 0.5).to(torch.uint8)


class CategoricalLikelihood(Likelihood):
    """Any number of constituents, independent sites: log p = sum_s log p_s[x_s]."""

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


class GaussianLikelihood(Likelihood):
    """Real values with one learnt standard deviation per channel (sigma-VAE, Rybkin et al. 2021, arXiv:2006.13202).

    The network works on values scaled to mean 0 and standard deviation 1 of the training structures; what it decodes is
    kept within their range, for a grey value beyond it may stand for a material that does not exist.
    """

    centre: Tensor
    width: Tensor
    span: Tensor

    def __init__(self, specification: Specification) -> None:
        super().__init__(specification)
        self.inputs = self.outputs = self.channels
        shape = (self.channels, *(1,) * specification.grid.dimensions)
        self.register_buffer("centre", torch.zeros(shape))
        self.register_buffer("width", torch.ones(shape))
        self.register_buffer("span", torch.tensor([-torch.inf, torch.inf]))
        self.log_scale = nn.Parameter(torch.full(shape, -1.0))

    def fit(self, structures: Structures) -> None:
        flat = structures.values.swapaxes(0, 1).reshape(self.channels, -1).astype(np.float64)
        deviation = flat.std(axis=1)
        self.span.copy_(torch.tensor([float(flat.min()), float(flat.max())]))
        self.centre.copy_(torch.as_tensor(flat.mean(axis=1)).reshape(self.centre.shape))
        self.width.copy_(torch.as_tensor(np.where(deviation > 0, deviation, 1.0)).reshape(self.width.shape))

    def features(self, values: Tensor) -> Tensor:
        return (values.float() - self.centre) / self.width

    def forward(self, output: Tensor) -> Distribution:
        scale = self.width * self.log_scale.clamp(-6, 3).exp()
        return Independent(Normal(self.centre + self.width * output, scale), self.event_dimensions)

    def mode(self, distribution: Distribution) -> Tensor:
        return distribution.mean.clamp(self.span[0], self.span[1])


def likelihood_for(specification: Specification, choice: str = "auto") -> Likelihood:
    """Return the likelihood of a specification: by its kind, or the chosen one if it fits; else StudyError."""
    two = len(specification.constituents) == 2
    natural = ("bernoulli" if two else "categorical") if specification.is_discrete else "gaussian"
    fitting = {
        "bernoulli": specification.is_discrete and two,
        "categorical": specification.is_discrete,
        "gaussian": not specification.is_discrete,
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
    }
    return known[name](specification)
