"""The grid of pixels, voxels or unit cells that structures lie on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from msvae.errors import DataError

__all__ = ["Grid"]


@dataclass(frozen=True)
class Grid:
    """The regular grid that a structure lives on.

    shape: points along each axis; () for a composition, which has no extent.
    spacing: distance between neighbours along each axis in m; the lattice constants for an occupation.
    periodic: for each axis, whether the structure continues on the other side.
    """

    shape: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()
    periodic: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        d = len(self.shape)
        if len(self.spacing) != d or len(self.periodic) != d:
            raise DataError(
                f"a grid of shape {self.shape} needs {d} spacings and {d} periodic flags, found "
                f"{len(self.spacing)} and {len(self.periodic)}"
            )
        if any(n < 1 for n in self.shape):
            raise DataError(f"a grid needs at least one point along every axis, found shape {self.shape}")
        if any(not (h > 0 and np.isfinite(h)) for h in self.spacing):
            raise DataError(f"the spacing of a grid is a positive length in m, found {self.spacing}")

    @classmethod
    def of(
        cls, shape: Sequence[int], spacing: float | Sequence[float] = 1.0, *, periodic: bool | Sequence[bool] = True
    ) -> Grid:
        """Return a grid from one spacing and one flag for all axes, or one for each.

        >>> Grid.of((8, 8), 1e-6).lengths
        (8e-06, 8e-06)
        """
        d = len(shape)
        h = (float(spacing),) * d if isinstance(spacing, (int, float)) else tuple(float(s) for s in spacing)
        p = (bool(periodic),) * d if isinstance(periodic, bool) else tuple(bool(b) for b in periodic)
        return cls(tuple(int(n) for n in shape), h, p)

    @property
    def dimensions(self) -> int:
        """Number of axes: 0 for a composition."""
        return len(self.shape)

    @property
    def lengths(self) -> tuple[float, ...]:
        """Edge lengths of the whole grid in m."""
        return tuple(n * h for n, h in zip(self.shape, self.spacing, strict=True))
