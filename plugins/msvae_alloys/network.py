"""A perceptron whose encoder sees descriptors of an alloy beside its fractions."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from msvae import Architecture, Fraction, Specification
from msvae_alloys.elements import element_table

if TYPE_CHECKING:
    from torch import nn

Members = Annotated[int, Field(ge=1, le=100)]
Width = Annotated[int, Field(ge=1, le=1 << 16)]


@dataclass(frozen=True)
class AlloyPerceptron(Architecture):
    """Fully connected layers; the encoder is given fractions, their logarithms and the eight features of elements.py.

    width: of each hidden layer. depth: how many. members: independent networks of the encoder, each of which gives a
    share of its output (an ensemble). dropout: probability that a hidden value of the encoder is left out in training.
    """

    name = "alloy-perceptron"
    kinds = ("composition",)
    dimensions = (0,)

    width: Width = 128
    depth: Width = 2
    members: Members = 4
    dropout: Fraction = 0.3

    def encoder(self, specification: Specification, channels: int, features: int) -> nn.Module:
        from torch import nn

        from msvae_alloys.modules import Descriptors, Members

        shares = [len(part) for part in np.array_split(np.arange(features), min(self.members, features))]
        first: nn.Module = nn.Flatten()
        width = channels
        if channels == len(specification.constituents):  # logarithms of the fractions
            first = Descriptors(element_table(specification.constituents))
            width = first.size
        return nn.Sequential(first, Members([self._layers(width, n, self.dropout) for n in shares]))

    def decoder(self, specification: Specification, channels: int, inputs: int) -> nn.Module:
        return self._layers(inputs, channels, 0.0)

    def _layers(self, inputs: int, outputs: int, dropout: float) -> nn.Sequential:
        from torch import nn

        sizes = [inputs] + [self.width] * self.depth
        hidden = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.SiLU(), nn.Dropout(dropout))]
        return nn.Sequential(*hidden, nn.Linear(sizes[-1], outputs))
