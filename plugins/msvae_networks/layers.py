"""Layers of convolutional networks: blocks of voxels as channels, periodic convolutions, residual blocks.

On a processor (not on an accelerator) images lie channels last in memory: oneDNN's convolutions then take their
operands as they are. Torch's group normalisation is many times slower in that order, so there is one here, in C
(normalise.c); where there is no compiler, images stay in torch's own order.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from msvae import native_library

LAST = {4: torch.channels_last, 5: torch.channels_last_3d}  # by the number of axes of a batch
HALF = {torch.float32: 0, torch.bfloat16: 1}  # of what there are kernels for
LARGE = 1 << 16  # numbers, from which on threads share a batch


@lru_cache(maxsize=2)
def kernel(half: int) -> Any:
    """Return normalise.c's function for single precision or for bfloat16; None without a compiler."""
    library = native_library(Path(__file__).with_name("normalise.c"), definitions=[f"HALF={half}"])
    return None if library is None else library.normalise


def kernel_for(x: Tensor) -> Any:
    """Return the function for images (n, channels, *grid), which then lie channels last; None where there is none."""
    known = x.device.type == "cpu" and x.ndim in LAST and x.dtype in HALF
    return kernel(HALF[x.dtype]) if known else None


def channels_last(x: Tensor) -> Tensor:
    """Return images (n, channels, *grid) with the order in memory that convolutions are fastest in."""
    return x if kernel_for(x) is None else x.contiguous(memory_format=LAST[x.ndim])


class SpaceToDepth(nn.Module):
    """Blocks of voxels as channels; a grid that is not a multiple of the block repeats its first planes at its end."""

    def __init__(self, block: tuple[int, ...]) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        for axis, b in enumerate(self.block, start=2):
            odd = -x.shape[axis] % b
            x = torch.cat([x, x.narrow(axis, 0, odd)], dim=axis) if odd else x
            x = x.unflatten(axis, (x.shape[axis] // b, b)).movedim(axis + 1, 1).flatten(1, 2)
        return x


class DepthToSpace(nn.Module):
    """The inverse of SpaceToDepth, cut to a grid if there is one."""

    def __init__(self, block: tuple[int, ...], grid: tuple[int, ...] | None) -> None:
        super().__init__()
        self.block, self.grid = block, grid

    def forward(self, x: Tensor) -> Tensor:
        for axis, b in reversed(list(enumerate(self.block, start=2))):
            x = x.unflatten(1, (b, x.shape[1] // b)).movedim(1, axis + 1).flatten(axis, axis + 1)
            x = x if self.grid is None else x.narrow(axis, 0, self.grid[axis - 2])
        return x


class Wrapped(torch.autograd.Function):
    """Padding by one voxel on both sides of periodic axes: torch's own takes a quarter of a training step."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, axes: tuple[int, ...]) -> Tensor:
        ctx.axes = axes
        shape = [n + 2 * (axis in axes) for axis, n in enumerate(x.shape)]
        padded = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=_order(x))
        inside = padded
        for axis in axes:
            inside = inside.narrow(axis, 1, x.shape[axis])
        inside.copy_(x)
        for axis in axes:
            n = x.shape[axis]
            padded.narrow(axis, 0, 1).copy_(padded.narrow(axis, n, 1))
            padded.narrow(axis, n + 1, 1).copy_(padded.narrow(axis, 1, 1))
        return padded

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _unwrapped(gradients[0], ctx.axes), None


def _unwrapped(gradient: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Return the gradient of what was padded: edges are added to where they were copied from."""
    if not axes:
        return gradient
    axis, rest = axes[-1], axes[:-1]
    n = gradient.shape[axis] - 2
    inside = _unwrapped(gradient.narrow(axis, 1, n), rest) if rest else gradient.narrow(axis, 1, n).clone()
    inside.narrow(axis, n - 1, 1).add_(_unwrapped(gradient.narrow(axis, 0, 1), rest))
    inside.narrow(axis, 0, 1).add_(_unwrapped(gradient.narrow(axis, n + 1, 1), rest))
    return inside


def _order(x: Tensor) -> torch.memory_format:
    """Return the order that images have in memory."""
    last = LAST.get(x.ndim, torch.contiguous_format)
    return last if x.is_contiguous(memory_format=last) else torch.contiguous_format


class Conv(nn.Module):
    """A convolution of three points a side, padded periodically along periodic axes and by zeros along others."""

    def __init__(self, inputs: int, outputs: int, periodic: tuple[bool, ...], *, stride: int = 1) -> None:
        super().__init__()
        layer = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[len(periodic)]
        self.wrapped = tuple(axis for axis, p in enumerate(periodic, start=2) if p)
        self.layer = layer(inputs, outputs, 3, stride=stride, padding=tuple(int(not p) for p in periodic))  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        x = channels_last(x)
        return self.layer(Wrapped.apply(x, self.wrapped) if self.wrapped else x)  # type: ignore[no-any-return,no-untyped-call]


class Normalised(torch.autograd.Function):
    """Group normalisation of images whose channels are last in memory (Wu and He 2018, eq. 1)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, epsilon: float) -> Tensor:
        result = torch.empty_like(x)
        mean, inverse = torch.empty(2, len(x), groups)
        _normalise((x, None, result, weight, bias, mean, inverse, None, None), epsilon, groups)
        ctx.save_for_backward(x, weight, mean, inverse)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        x, weight, mean, inverse = ctx.saved_tensors
        gradient = gradients[0].to(x.dtype).contiguous(memory_format=LAST[x.ndim])
        result = torch.empty_like(x)
        total, along = torch.empty(2, len(x), len(weight))
        _normalise((x, gradient, result, weight, None, mean, inverse, total, along), 0.0, mean.shape[1])
        return result, along.sum(dim=0), total.sum(dim=0), None, None


def _normalise(arrays: tuple[Tensor | None, ...], epsilon: float, groups: int) -> None:
    """Call the kernel with its arrays, in its order, the images first."""
    x = arrays[0]
    assert x is not None
    n, channels = x.shape[:2]
    threads = min(torch.get_num_threads(), n) if x.numel() >= LARGE else 1
    shape = np.array([n, x.numel() // max(n * channels, 1), channels, groups, threads], dtype=np.int64)
    places = [None if array is None else ctypes.c_void_p(array.data_ptr()) for array in arrays]
    kernel_for(x)(*places, ctypes.c_float(epsilon), ctypes.c_void_p(shape.ctypes.data))


class GroupNorm(nn.GroupNorm):
    """Torch's group normalisation, in the order that images have in memory here."""

    def __init__(self, channels: int) -> None:
        super().__init__(8 if channels % 8 == 0 else 1, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = channels_last(x)
        if kernel_for(x) is None or self.weight.dtype != torch.float32:
            return super().forward(x)
        return Normalised.apply(x, self.weight, self.bias, self.num_groups, self.eps)  # type: ignore[no-any-return,no-untyped-call]


class Upsample(nn.Module):
    """Nearest-neighbour interpolation to a grid or, without one, to twice the size."""

    def __init__(self, grid: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, x: Tensor) -> Tensor:
        grid = tuple(2 * n for n in x.shape[2:]) if self.grid is None else self.grid
        return functional.interpolate(x, size=grid, mode="nearest")


class Residual(nn.Module):
    """A residual block: norm, activation, convolution, twice, beside a straight path.

    upsample: of what comes in; left until convolutions need it, for values and their weighed sums are the same before.
    """

    def __init__(
        self, inputs: int, outputs: int, periodic: tuple[bool, ...], *, stride: int = 1,
        upsample: Upsample | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        up = [] if upsample is None else [upsample]
        self.first = nn.Sequential(nn.SiLU(), *up, Conv(inputs, outputs, periodic, stride=stride))
        self.second = nn.Sequential(GroupNorm(outputs), nn.SiLU(), Conv(outputs, outputs, periodic))
        self.norm = GroupNorm(outputs)
        layer = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[len(periodic)]
        straight = inputs == outputs and stride == 1
        self.path = nn.Sequential(*([] if straight else [layer(inputs, outputs, 1, stride=stride)]), *up)

    def forward(self, x: Tensor) -> Tensor:
        x = channels_last(x)
        return self.path(x) + self.norm(self.second(self.first(x)))  # type: ignore[no-any-return]
