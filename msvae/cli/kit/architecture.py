"""Two hidden layers: replace them by your own networks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msvae

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Mine(msvae.Architecture):
    """Fully connected layers. width: of the hidden ones."""

    name = "mine"

    width: msvae.Count = 128

    def encoder(self, specification: msvae.Specification, channels: int, features: int) -> nn.Module:
        """Return a module from (n, channels, *grid) to (n, features)."""
        from torch import nn

        return nn.Sequential(nn.Flatten(), *self._layers(channels * math.prod(specification.grid.shape), features))

    def decoder(self, specification: msvae.Specification, channels: int, inputs: int) -> nn.Module:
        """Return a module from (n, inputs) to (n, channels, *grid)."""
        from torch import nn

        shape = (channels, *specification.grid.shape)
        return nn.Sequential(*self._layers(inputs, math.prod(shape)), nn.Unflatten(1, shape))

    def _layers(self, inputs: int, outputs: int) -> list[nn.Module]:
        from torch import nn

        return [nn.Linear(inputs, self.width), nn.SiLU(), nn.Linear(self.width, self.width), nn.SiLU(),
                nn.Linear(self.width, outputs)]  # fmt: skip


@msvae.hook
def msvae_architectures() -> list[type[msvae.Architecture]]:
    return [Mine]
