"""Convolutional residual networks in 2D and 3D, for grids of any size.

The encoder halves the grid until its longest side is at most seven; the decoder goes the same way back. Sizes that are
not even are rounded up on the way down and cut on the way up. Axes that the structure continues along are padded
periodically. In 3D the finest level works on blocks of 2^3 voxels as channels (space to depth): a convolution of one
channel at full resolution would cost more than all the others together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import nn

from msvae import Architecture, Specification
from msvae_networks.layers import Conv, DepthToSpace, Residual, SpaceToDepth, Upsample

WIDTHS = {"tiny": 8, "small": 16, "base": 32}
COARSEST = 7


@dataclass(frozen=True)
class Convolutional(Architecture):
    """Residual convolutional encoder and decoder.

    size: width of the first level: "tiny" 8, "small" 16, "base" 32 channels; it doubles at each level, up to fourfold.
    """

    name = "convolutional"
    kinds = ("phases", "field", "occupation")

    size: Literal["tiny", "small", "base"] = "small"

    def encoder(self, specification: Specification, channels: int, features: int) -> nn.Module:
        grids, widths, periodic = self._levels(specification)
        levels = _descent(_block(specification.grid.shape), channels, widths, periodic)
        return nn.Sequential(*levels, nn.SiLU(), nn.Flatten(), nn.Linear(widths[-1] * math.prod(grids[-1]), features))

    def decoder(self, specification: Specification, channels: int, inputs: int) -> nn.Module:
        grids, widths, periodic = self._levels(specification)
        start = (widths[-1], *grids[-1])
        levels: list[nn.Module] = [nn.Linear(inputs, math.prod(start)), nn.Unflatten(1, start)]
        for grid, a, b in zip(grids[-2::-1], widths[:0:-1], widths[-2::-1], strict=True):
            levels += [Residual(a, a, periodic), Residual(a, b, periodic, upsample=Upsample(grid))]
        block, shape = _block(specification.grid.shape), specification.grid.shape
        return nn.Sequential(
            *levels, nn.SiLU(), Conv(widths[0], channels * math.prod(block), periodic), DepthToSpace(block, shape)
        )

    def _levels(self, specification: Specification) -> tuple[list[tuple[int, ...]], list[int], tuple[bool, ...]]:
        """Return the grid and the width of every level, and which axes are periodic."""
        shape, block = specification.grid.shape, _block(specification.grid.shape)
        grids = list(_halvings(tuple(-(-n // b) for n, b in zip(shape, block, strict=True))))
        first = WIDTHS[self.size]
        return grids, [first * min(2**k, 4) for k in range(len(grids))], specification.grid.periodic


@dataclass(frozen=True)
class FullyConvolutional(Convolutional):
    """Residual convolutional networks with latents on a grid: structures may be larger than those of training.

    stride: voxels along an axis that one site stands for: 4, 8 or 16; the grid is a multiple of it.
    """

    name = "fully-convolutional"

    stride: int = 8

    def __post_init__(self) -> None:
        if self.stride not in (4, 8, 16):
            raise ValueError(f"stride is 4, 8 or 16, found {self.stride}")

    def misfit(self, specification: Specification) -> str | None:
        shape = specification.grid.shape
        if any(n % self.stride for n in shape):
            sizes = " x ".join(map(str, shape))
            return f"'{self.name}' needs grids that are a multiple of its stride {self.stride}, found {sizes} voxels"
        return super().misfit(specification)

    def latent_grid(self, specification: Specification) -> tuple[int, ...]:
        return tuple(n // self.stride for n in specification.grid.shape)

    def encoder(self, specification: Specification, channels: int, features: int) -> nn.Module:
        block, widths, periodic = self._plan(specification)
        levels = _descent(block, channels, widths, periodic)
        return nn.Sequential(*levels, nn.SiLU(), Conv(widths[-1], features, periodic))

    def decoder(self, specification: Specification, channels: int, inputs: int) -> nn.Module:
        block, widths, periodic = self._plan(specification)
        levels: list[nn.Module] = [Conv(inputs, widths[-1], periodic), Residual(widths[-1], widths[-1], periodic)]
        for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True):
            levels += [Residual(a, a, periodic), Residual(a, b, periodic, upsample=Upsample())]
        last = Conv(widths[0], channels * math.prod(block), periodic)
        return nn.Sequential(*levels, nn.SiLU(), last, DepthToSpace(block, None))

    def _plan(self, specification: Specification) -> tuple[tuple[int, ...], list[int], tuple[bool, ...]]:
        """Return the block of the finest level, the width of every level, and which axes are periodic."""
        block = tuple(2 if specification.grid.dimensions == 3 else 1 for _ in specification.grid.shape)
        first, levels = WIDTHS[self.size], round(math.log2(self.stride / block[0])) + 1
        return block, [first * min(2**k, 4) for k in range(levels)], specification.grid.periodic


def _halvings(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield the grid of every level: at least two of them, so that small grids are learnt from too.

    >>> list(_halvings((28, 28)))
    [(28, 28), (14, 14), (7, 7)]
    """
    yield shape
    first = True
    while max(shape) > COARSEST or (first and max(shape) > 1):
        shape = tuple(-(-n // 2) for n in shape)
        first = False
        yield shape


def _block(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the voxels along each axis that are channels at the finest level."""
    return tuple(2 if len(shape) == 3 and n > 1 else 1 for n in shape)


def _descent(block: tuple[int, ...], channels: int, widths: list[int], periodic: tuple[bool, ...]) -> list[nn.Module]:
    """Return an encoder's layers from the structure down to the coarsest level."""
    layers: list[nn.Module] = [SpaceToDepth(block), Conv(channels * math.prod(block), widths[0], periodic)]
    for a, b in pairwise(widths):
        layers += [Residual(a, b, periodic, stride=2), Residual(b, b, periodic)]
    return layers
