"""Residual convolutional networks, from the structure down to the coarsest level and back; see `convolutional.py`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from msvae_networks.layers import Conv, DepthToSpace, Residual, SpaceToDepth, Upsample

__all__ = ["Plan", "decoder", "encoder", "grid_decoder", "grid_encoder"]


@dataclass(frozen=True)
class Plan:
    """What a network is built by.

    block: voxels along each axis that are channels at the finest level. widths: channels of every level, from the
    finest. periodic: which axes the structure continues along.
    """

    block: tuple[int, ...]
    widths: Sequence[int]
    periodic: tuple[bool, ...]

    def conv(self, inputs: int, outputs: int) -> Conv:
        """Return a convolution."""
        return Conv(inputs, outputs, self.periodic)

    def descent(self, channels: int) -> list[nn.Module]:
        """Return an encoder's layers from the structure down to the coarsest level."""
        layers: list[nn.Module] = [
            SpaceToDepth(self.block), self.conv(channels * math.prod(self.block), self.widths[0])
        ]  # fmt: skip
        for a, b in pairwise(self.widths):
            layers += [Residual(a, b, self.periodic, stride=2), Residual(b, b, self.periodic)]
        return layers

    def last(self, channels: int) -> Conv:
        """Return a decoder's last convolution."""
        return self.conv(self.widths[0], channels * math.prod(self.block))


def encoder(plan: Plan, channels: int, coarsest: tuple[int, ...], features: int) -> nn.Module:
    """Return the network from structures to so many features; coarsest: grid of the last level."""
    inside = plan.widths[-1] * math.prod(coarsest)
    return nn.Sequential(*plan.descent(channels), nn.SiLU(), nn.Flatten(), nn.Linear(inside, features))


def decoder(
    plan: Plan, channels: int, grids: Sequence[tuple[int, ...]], inputs: int, shape: tuple[int, ...]
) -> nn.Module:
    """Return the network from a vector to structures of a shape; grids: of every level, from the finest."""
    start = (plan.widths[-1], *grids[-1])
    levels: list[nn.Module] = [nn.Linear(inputs, math.prod(start)), nn.Unflatten(1, start)]
    for grid, a, b in zip(grids[-2::-1], plan.widths[:0:-1], plan.widths[-2::-1], strict=True):
        levels += [Residual(a, a, plan.periodic), Residual(a, b, plan.periodic, upsample=Upsample(grid))]
    return nn.Sequential(*levels, nn.SiLU(), plan.last(channels), DepthToSpace(plan.block, shape))


def grid_encoder(plan: Plan, channels: int, features: int) -> nn.Module:
    """Return the network from structures to so many features at every site of the coarsest level."""
    return nn.Sequential(*plan.descent(channels), nn.SiLU(), plan.conv(plan.widths[-1], features))


def grid_decoder(plan: Plan, channels: int, inputs: int) -> nn.Module:
    """Return the network from a vector at every site to structures of any size."""
    wide = plan.widths[-1]
    levels: list[nn.Module] = [plan.conv(inputs, wide), Residual(wide, wide, plan.periodic)]
    for a, b in zip(plan.widths[:0:-1], plan.widths[-2::-1], strict=True):
        levels += [Residual(a, a, plan.periodic), Residual(a, b, plan.periodic, upsample=Upsample())]
    return nn.Sequential(*levels, nn.SiLU(), plan.last(channels), DepthToSpace(plan.block, None))
