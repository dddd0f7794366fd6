"""Positions of structures in their source images, from which a split tells which share voxels or are close."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msvae.errors import DataError

__all__ = ["Positions"]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Positions:
    """The positions of n structures in the images from which they were cut.

    corners: (n, a) integers, the first voxel of each structure along the axes of its image. The last axes are those of
    the structures' grid; any axes before them are those of a stack in which every structure is a page.
    images: (n,) integers, the image of each; by default one image for all.
    periods: (a,) period of the images in voxels, 0 along axes that are not periodic; by default none is.

    Raises DataError if the arrays do not match.

    >>> Positions([[0, 0], [0, 8], [8, 0]])[[0, 2]].corners.tolist()
    [[0, 0], [8, 0]]
    """

    corners: Array
    images: Array | None = None
    periods: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        corners = np.asarray(self.corners)
        if corners.ndim != 2 or (corners.size and (corners != np.floor(corners)).any()):
            raise DataError(f"corners of structures are integers (n, axes), found {corners.dtype} {corners.shape}")
        images = np.zeros(len(corners), dtype=np.int64) if self.images is None else np.asarray(self.images)
        periods = tuple(int(p) for p in self.periods) or (0,) * corners.shape[1]
        if images.shape != (len(corners),) or len(periods) != corners.shape[1] or min(periods, default=0) < 0:
            raise DataError(
                f"corners {corners.shape} need images ({len(corners)},) and {corners.shape[1]} periods from 0 up, "
                f"found {images.shape} and {list(periods)}"
            )
        object.__setattr__(self, "corners", corners.astype(np.int64))
        object.__setattr__(self, "images", images.astype(np.int64))
        object.__setattr__(self, "periods", periods)

    def __len__(self) -> int:
        return len(self.corners)

    def __getitem__(self, chosen: slice | Sequence[int] | Array) -> Positions:
        """Return the positions of some structures."""
        return Positions(self.corners[chosen], self.image_of_each[chosen], self.periods)

    def __reduce__(self) -> tuple[Any, ...]:
        return Positions, (self.corners, self.images, self.periods)

    @property
    def image_of_each(self) -> Array:
        """The image (n,) of each structure."""
        assert self.images is not None
        return self.images

    def with_others(self, n: int) -> Positions:
        """Return these positions followed by those of n structures that were not cut from an image."""
        first = int(self.image_of_each.max(initial=-1)) + 1
        corners = np.concatenate([self.corners, np.zeros((n, self.corners.shape[1]), dtype=np.int64)])
        return Positions(corners, np.concatenate([self.image_of_each, first + np.arange(n)]), self.periods)
