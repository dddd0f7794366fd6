"""A likelihood: the meaning of the decoder's output tensor for a kind of structure.

A likelihood turns the decoder's output (n, channels, *grid) into p(x|z) over values (n, channels, *grid) of the
structures, prepares values as the encoder's input, and reads values back from a distribution.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import (
    Distribution,
)

from msvae.structures import Specification, Structures

__all__ = ["Likelihood"]

EMPTY = torch.Size()


class Likelihood(nn.Module, ABC):
    """p(x|z) for structures of one specification.

    inputs: channels of the encoder's input. outputs: channels of the decoder's output.
    levelled: whether it shifts the decoder's output to the mean of the training structures.
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
        """Initialise the distribution from training structures: their mean and the scale of their values."""

    def mode(self, distribution: Distribution) -> Tensor:
        """Return the most likely values (n, channels, *grid)."""
        return distribution.mode
