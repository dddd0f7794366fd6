"""Multilayer perceptron: for compositions, and for structures that are small enough to be a vector."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from msvae import Architecture, Specification

if TYPE_CHECKING:
    from torch import nn

WIDEST, DEEPEST = 1 << 20, 1000


@dataclass(frozen=True)
class Perceptron(Architecture):
    """Fully connected layers. width: of each hidden layer. depth: how many."""

    name = "perceptron"
    dimensions = (0, 1, 2, 3)

    width: Annotated[int, Field(ge=1, le=WIDEST)] = 128
    depth: Annotated[int, Field(ge=1, le=DEEPEST)] = 2

    def encoder(self, specification: Specification, channels: int, features: int) -> nn.Module:
        from torch import nn

        return nn.Sequential(nn.Flatten(), *self._layers(channels * math.prod(specification.grid.shape), features))

    def decoder(self, specification: Specification, channels: int, inputs: int) -> nn.Module:
        from torch import nn

        shape = (channels, *specification.grid.shape)
        return nn.Sequential(*self._layers(inputs, math.prod(shape)), nn.Unflatten(1, shape))

    def _layers(self, inputs: int, outputs: int) -> list[nn.Module]:
        from torch import nn

        sizes = [inputs] + [self.width] * self.depth
        hidden = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.SiLU())]
        return [*hidden, nn.Linear(self.width, outputs)]
