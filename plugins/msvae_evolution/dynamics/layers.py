"""Translation-equivariant layers: convolutions over a grid of latents, modulated by what holds for the whole frame."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Convolution", "Modulated", "Trunk", "extended"]

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def extended(x: Tensor, periodic: tuple[bool, ...], reach: int) -> Tensor:
    """Return fields (n, d, *sites) with so many sites more at both ends of each axis: wrapped, or the border's."""
    for axis, wraps in enumerate(periodic, start=2) if reach else ():
        places = torch.arange(-reach, x.shape[axis] + reach)
        places = places % x.shape[axis] if wraps else places.clamp(0, x.shape[axis] - 1)
        x = x.index_select(axis, places)
    return x


class Convolution(nn.Module):
    """A convolution that keeps the grid; periodic axes wrap, others repeat their border."""

    def __init__(self, inputs: int, outputs: int, periodic: tuple[bool, ...], *, width: int = 3) -> None:
        super().__init__()
        self.periodic, self.reach = periodic, width // 2
        self.own = CONVOLUTIONS[len(periodic)](inputs, outputs, width)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.own(extended(x, self.periodic, self.reach)))


class Modulated(nn.Module):
    """A residual block whose hidden channels are scaled and shifted by conditions (n, k)."""

    def __init__(self, width: int, conditions: int, periodic: tuple[bool, ...], kernel: int) -> None:
        super().__init__()
        self.first = Convolution(width, width, periodic, width=kernel)
        self.last = Convolution(width, width, periodic, width=kernel)
        self.modulation = nn.Linear(conditions, 2 * width)
        nn.init.zeros_(self.last.own.weight)
        nn.init.zeros_(cast(Tensor, self.last.own.bias))

    def forward(self, x: Tensor, conditions: Tensor) -> Tensor:
        scale, shift = self.modulation(conditions).chunk(2, dim=1)
        shape = (*scale.shape, *(1,) * (x.ndim - 2))
        hidden = self.first(functional.silu(x)) * (1 + scale.reshape(shape)) + shift.reshape(shape)
        return x + cast(Tensor, self.last(functional.silu(hidden)))


class Trunk(nn.Module):
    """The network from latents (n, d, *sites) and conditions (n, k) to features (n, width, *sites)."""

    def __init__(self, latents: int, conditions: int, periodic: tuple[bool, ...], *, width: int, blocks: int) -> None:
        super().__init__()
        kernel = 3 if periodic != (False,) else 1  # a vector of latents is a grid of one site
        self.enter = Convolution(latents, width, periodic, width=kernel)
        self.embed = nn.Sequential(nn.Linear(conditions, width), nn.SiLU())
        self.blocks = nn.ModuleList(Modulated(width, width, periodic, kernel) for _ in range(blocks))

    def forward(self, x: Tensor, conditions: Tensor) -> Tensor:
        known, hidden = self.embed(conditions), self.enter(x)
        for block in self.blocks:
            hidden = block(hidden, known)
        return functional.silu(hidden)
