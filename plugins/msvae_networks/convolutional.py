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
from typing import TYPE_CHECKING, Annotated, Literal

from msvae import Architecture, Specification, Unit

if TYPE_CHECKING:
    from torch import nn

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
        from msvae_networks.residual import Plan, encoder  # brings torch

        grids, widths, periodic = self._levels(specification)
        return encoder(Plan(_block(specification.grid.shape), widths, periodic), channels, grids[-1], features)

    def decoder(self, specification: Specification, channels: int, inputs: int) -> nn.Module:
        from msvae_networks.residual import Plan, decoder

        grids, widths, periodic = self._levels(specification)
        shape = specification.grid.shape
        return decoder(Plan(_block(shape), widths, periodic), channels, grids, inputs, shape)

    def _levels(self, specification: Specification) -> tuple[list[tuple[int, ...]], list[int], tuple[bool, ...]]:
        """Return the grid and the width of every level, and which axes are periodic."""
        shape, block = specification.grid.shape, _block(specification.grid.shape)
        grids = list(_halvings(tuple(-(-n // b) for n, b in zip(shape, block, strict=True))))
        first = WIDTHS[self.size]
        return grids, [first * min(2**k, 4) for k in range(len(grids))], specification.grid.periodic


@dataclass(frozen=True)
class FullyConvolutional(Convolutional):
    """Residual convolutional networks with latents on a grid: structures may be larger than those of training.

    stride: voxels along an axis that one site stands for; the grid is a multiple of it.
    block: voxels along an axis that are channels at the finest level; by default 1 in 2D, where 2 trains some three
        times as fast, and 2 in 3D.
    """

    name = "fully-convolutional"

    stride: Annotated[Literal[4, 8, 16], Unit("voxels")] = 8
    block: Annotated[Literal[1, 2], Unit("voxels")] | None = None

    def misfit(self, specification: Specification) -> str | None:
        shape = specification.grid.shape
        if any(n % self.stride for n in shape):
            sizes = " x ".join(map(str, shape))
            return f"'{self.name}' needs grids that are a multiple of its stride {self.stride}, found {sizes} voxels"
        return super().misfit(specification)

    def latent_grid(self, specification: Specification) -> tuple[int, ...]:
        return tuple(n // self.stride for n in specification.grid.shape)

    def encoder(self, specification: Specification, channels: int, features: int) -> nn.Module:
        from msvae_networks.residual import Plan, grid_encoder

        return grid_encoder(Plan(*self._plan(specification)), channels, features)

    def decoder(self, specification: Specification, channels: int, inputs: int) -> nn.Module:
        from msvae_networks.residual import Plan, grid_decoder

        return grid_decoder(Plan(*self._plan(specification)), channels, inputs)

    def _plan(self, specification: Specification) -> tuple[tuple[int, ...], list[int], tuple[bool, ...]]:
        """Return the block of the finest level, the width of every level, and which axes are periodic."""
        edge = self.block or (2 if specification.grid.dimensions == 3 else 1)
        block = tuple(edge for _ in specification.grid.shape)
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
