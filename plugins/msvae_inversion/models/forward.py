"""Forward models: what an instrument would measure of images, with gradients by torch."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from pkgutil import resolve_name
from typing import final

import numpy as np
import torch
from torch import Tensor

from msvae import Array, DataError, Grid, Solver, StudyError, differentiable, seed_of
from msvae_inversion.invert import Forward

__all__ = ["ForwardModel", "checked", "forward_model"]

DIFFERENCE = 1e-3  # of images, along directions of their derivatives


class ForwardModel(ABC):
    """A differentiable function of images (n, *grid) to data (n, m). noiseless: see `for_data`."""

    @abstractmethod
    def __call__(self, images: Tensor) -> Tensor:
        """Return data (n, m) of images (n, *grid)."""

    def for_data(self) -> ForwardModel:
        """Return the model that simulates data: the same, or one of another discretisation."""
        return self

    @torch.no_grad()
    def derivatives(self, image: Tensor, directions: Tensor) -> Tensor:
        """Return the derivatives (m, d) of the data of an image (*grid) along directions (d, *grid).

        By default central differences.
        """
        steps = DIFFERENCE * directions
        columns = [(self((image + step)[None]) - self((image - step)[None]))[0] / (2 * DIFFERENCE) for step in steps]
        return torch.stack(columns, dim=1)


@final
class Mask(ForwardModel):
    """The pixels that are seen. seen: (*grid) of bool."""

    def __init__(self, grid: Grid, share: float, seed: int) -> None:
        rng = np.random.default_rng(seed_of(seed, "mask"))
        count = max(1, round(share * math.prod(grid.shape)))
        self.seen = torch.as_tensor(np.sort(rng.permutation(math.prod(grid.shape))[:count]))

    def __call__(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, self.seen]


@final
class Convolution(ForwardModel):
    """A Gaussian blur of this width (pixels) along each axis; beyond the image is zero."""

    def __init__(self, grid: Grid, width: float) -> None:
        self.factors = [
            torch.exp(-0.5 * ((torch.arange(n)[:, None] - torch.arange(n)[None]) / width) ** 2).double()
            / (width * math.sqrt(2 * math.pi))
            for n in grid.shape
        ]

    def __call__(self, images: Tensor) -> Tensor:
        for axis, factor in enumerate(self.factors):
            images = (images.movedim(axis + 1, -1) @ factor.to(images.dtype)).movedim(-1, axis + 1)
        return images.flatten(1)


@final
class Radon(ForwardModel):
    """Line integrals (in pixels) along rows of the image turned by each of several angles, from 0 to below pi."""

    def __init__(self, grid: Grid, angles: int) -> None:
        if grid.dimensions != 2:
            raise StudyError("forward.name = 'radon' is of images, found structures of 3 dimensions")
        self.turned = []
        size = torch.tensor(grid.shape, dtype=torch.float64)
        for angle in math.pi * torch.arange(angles, dtype=torch.float64) / angles:
            c, s = float(torch.cos(angle)), float(torch.sin(angle))
            ratio = float(size[0] / size[1])
            turn = torch.tensor([[[c, -s * ratio, 0.0], [s / ratio, c, 0.0]]], dtype=torch.float64)
            self.turned.append(torch.nn.functional.affine_grid(turn, [1, 1, *grid.shape], align_corners=False))

    def __call__(self, images: Tensor) -> Tensor:
        sums = []
        for where in self.turned:
            place = where.to(images.dtype).expand(len(images), -1, -1, -1)
            turned = torch.nn.functional.grid_sample(images[:, None], place, align_corners=False)
            sums.append(turned[:, 0].sum(dim=1))
        return torch.cat(sums, dim=1)


@final
class Function(ForwardModel):
    """A function of one's own, of images (n, *grid) to data (n, ...)."""

    def __init__(self, where: str) -> None:
        try:
            self.call: Callable[[Tensor], Tensor] = resolve_name(where)
        except (ImportError, AttributeError, ValueError) as error:
            raise StudyError(
                f"forward.function: '{where}' cannot be imported ({error}): give module:function, of a module that is "
                "installed or on PYTHONPATH"
            ) from None

    def __call__(self, images: Tensor) -> Tensor:
        found = self.call(images)
        if not isinstance(found, Tensor) or found.shape[:1] != images.shape[:1]:
            shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise DataError(
                f"forward.function: of {len(images)} images it returned {shape}, expected a tensor with a row for each"
            )
        return found.flatten(1)


@final
class Properties(ForwardModel):
    """The properties that the study's solver computes, in the order of their names."""

    def __init__(self, solver: Solver, grid: Grid) -> None:
        self.solver, self.grid = solver, grid

    def __call__(self, images: Tensor) -> Tensor:
        found = differentiable(self.solver, images, self.grid.spacing, periodic=all(self.grid.periodic))
        return torch.cat([found[name].flatten(1) for name in sorted(found)], dim=1)


def forward_model(settings: Forward, grid: Grid, *, seed: int, solver: Solver | None) -> ForwardModel:
    """Return the forward model that a study names; StudyError if something is missing for it."""
    if settings.name == "mask":
        return Mask(grid, settings.seen, seed)
    if settings.name == "convolution":
        return Convolution(grid, settings.width)
    if settings.name == "radon":
        return Radon(grid, settings.angles)
    if settings.name == "function":
        return Function(settings.function)
    if settings.name == "solver":
        if solver is None:
            raise StudyError("forward.name = 'solver' needs the table [solver]: add it, or choose another forward.name")
        return Properties(solver, grid)
    from msvae_inversion.models.tomography import tomography

    return tomography(settings, grid)


def checked(model: ForwardModel, image: Array, what: str = "forward") -> Array:
    """Return the data (m,) of an image (*grid); DataError if they are not numbers."""
    with torch.no_grad():
        data = np.asarray(model(torch.as_tensor(image, dtype=torch.float64)[None])[0].numpy(), dtype=np.float64)
    bad = int((~np.isfinite(data)).sum())
    if bad:
        raise DataError(
            f"{what}: the forward model gives {bad} of {data.size} data that are not finite for an image with values "
            f"from {image.min():.4g} to {image.max():.4g}: mend it, or the range of the images"
        )
    return data
