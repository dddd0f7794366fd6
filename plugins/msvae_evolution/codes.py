"""What dynamics act on: the latents of a model, or, as a control, the frame itself as blocks of pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from msvae import VAE, Array, Specification, Structures

__all__ = ["Blocks", "Code", "Latents"]


class Code(Protocol):
    """A pair of maps between frames and rows (n, d): channels after channels on a grid of sites."""

    @property
    def sites(self) -> tuple[int, ...]:
        """The grid; () for a vector."""

    @property
    def channels(self) -> int:
        """Numbers of a site."""

    @property
    def specification(self) -> Specification:
        """Of the frames."""

    def encode(self, structures: Structures) -> Array:
        """Return the rows (n, d) of frames."""

    def values(self, rows: Tensor) -> Tensor:
        """Return the frames (n, *grid) of rows (n, d), with gradients."""


@dataclass(frozen=True, eq=False)
class Latents:
    """The latents of a model."""

    vae: VAE

    @property
    def sites(self) -> tuple[int, ...]:
        return self.vae.sites

    @property
    def channels(self) -> int:
        return self.vae.blueprint.settings.latents

    @property
    def specification(self) -> Specification:
        return self.vae.blueprint.specification

    def encode(self, structures: Structures) -> Array:
        return self.vae.encode(structures)

    def values(self, rows: Tensor) -> Tensor:
        found = self.vae.reconstruct(rows, rows.new_zeros((len(rows), 0)), self.vae.sites)
        return self.vae.likelihood.mode(found)[:, 0]


@dataclass(frozen=True, eq=False)
class Blocks:
    """The frame itself: pixels of a block, of so many along each axis, are the numbers of a site."""

    specification: Specification
    edge: int = 4

    @property
    def sites(self) -> tuple[int, ...]:
        return tuple(n // self.edge for n in self.specification.grid.shape)

    @property
    def channels(self) -> int:
        return int(self.edge ** len(self.sites))

    def encode(self, structures: Structures) -> Array:
        x = torch.as_tensor(structures.values[:, 0].astype(np.float32))
        for axis in range(len(self.sites)):
            x = x.unflatten(1 + axis, (self.sites[axis], self.edge)).movedim(2 + axis, -1)
        return x.flatten(1 + len(self.sites)).movedim(-1, 1).flatten(1).double().numpy()

    def values(self, rows: Tensor) -> Tensor:
        d = len(self.sites)
        x = rows.reshape(-1, *(self.edge,) * d, *self.sites)
        order = [0, *(k for axis in range(d) for k in (1 + d + axis, 1 + axis))]
        return x.permute(order).reshape(-1, *self.specification.grid.shape)
