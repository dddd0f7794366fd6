"""Convolutional residual networks in 2D and 3D, for grids of any size.

The encoder halves the grid until its longest side is at most seven; the decoder goes the same way back. Sizes that are
not even are rounded up on the way down and cut on the way up. Axes that the structure continues along are padded
periodically.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from msvae import Architecture, Specification
from torch import Tensor, nn
from torch.nn import functional

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
        levels: list[nn.Module] = [Conv(channels, widths[0], periodic)]
        for a, b in zip(widths, widths[1:], strict=False):
            levels += [Residual(a, b, periodic, stride=2), Residual(b, b, periodic)]
        return nn.Sequential(*levels, nn.SiLU(), nn.Flatten(), nn.Linear(widths[-1] * math.prod(grids[-1]), features))

    def decoder(self, specification: Specification, channels: int, inputs: int) -> nn.Module:
        grids, widths, periodic = self._levels(specification)
        start = (widths[-1], *grids[-1])
        levels: list[nn.Module] = [nn.Linear(inputs, math.prod(start)), nn.Unflatten(1, start)]
        for grid, a, b in zip(grids[-2::-1], widths[:0:-1], widths[-2::-1], strict=True):
            levels += [Residual(a, a, periodic), Upsample(grid), Residual(a, b, periodic)]
        return nn.Sequential(*levels, nn.SiLU(), Conv(widths[0], channels, periodic))

    def _levels(self, specification: Specification) -> tuple[list[tuple[int, ...]], list[int], tuple[bool, ...]]:
        """Return the grid and the width of every level, and which axes are periodic."""
        grids = list(_halvings(specification.grid.shape))
        first = WIDTHS[self.size]
        return grids, [first * min(2**k, 4) for k in range(len(grids))], specification.grid.periodic


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


class Conv(nn.Module):
    """A convolution of three points a side, padded periodically along periodic axes and by zeros along others."""

    def __init__(self, inputs: int, outputs: int, periodic: tuple[bool, ...], *, stride: int = 1) -> None:
        super().__init__()
        layer = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[len(periodic)]
        self.wrapped = tuple(k for p in reversed(periodic) for k in (int(p), int(p)))
        self.layer = layer(inputs, outputs, 3, stride=stride, padding=tuple(int(not p) for p in periodic))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(functional.pad(x, self.wrapped, mode="circular") if any(self.wrapped) else x)  # type: ignore[no-any-return]


class Residual(nn.Module):
    """A residual block: norm, activation, convolution, twice, beside a straight path."""

    def __init__(self, inputs: int, outputs: int, periodic: tuple[bool, ...], *, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.SiLU(), Conv(inputs, outputs, periodic, stride=stride))
        self.second = nn.Sequential(nn.GroupNorm(_groups(outputs), outputs), nn.SiLU(), Conv(outputs, outputs, periodic))
        self.norm = nn.GroupNorm(_groups(outputs), outputs)
        layer = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[len(periodic)]
        straight = inputs == outputs and stride == 1
        self.path = nn.Identity() if straight else layer(inputs, outputs, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.path(x) + self.norm(self.second(self.first(x)))  # type: ignore[no-any-return]


class Upsample(nn.Module):
    """Nearest-neighbour interpolation to a grid."""

    def __init__(self, grid: tuple[int, ...]) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, x: Tensor) -> Tensor:
        return functional.interpolate(x, size=self.grid, mode="nearest")


def _groups(channels: int) -> int:
    return 8 if channels % 8 == 0 else 1
