"""Images of simple shapes whose parameters are known: a rotating bar, and two discs of higher conductivity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from msvae import Array, Count, Dataset, Length, Structures, Voxels, seed_of

SHAPES = ("bar", "discs")
LONG, WIDE = 0.8, 0.12  # of the bar, in edges of the image
RADII, GAP, INSIDE, OUTSIDE = (0.08, 0.18), 0.04, 1.5, 1.0  # of the discs
FINE = 4  # points along the edge of a pixel, over which it averages


@dataclass(frozen=True)
class Phantoms(Dataset):
    """Bars of all directions, or pairs of discs that do not touch, 1.5 in 1.0, with random centres and radii.

    shape: "bar" (in the order of the angle, from 0 to just below pi) or "discs". count: of images.
    size: pixels along an edge. length: of the edge.
    """

    name = "phantoms"
    kinds = ("field",)
    dimensions = (2,)

    shape: Literal["bar", "discs"] = "discs"
    count: Count = 1000
    size: Voxels = 128
    length: Length = 1.0

    def load(self, seed: int) -> Structures:
        rng = np.random.default_rng(seed_of(seed, "phantoms"))
        angles = np.pi * np.arange(self.count) / self.count
        images = [
            bar(float(angles[k]), self.size) if self.shape == "bar" else discs(*pair(rng), self.size)
            for k in range(self.count)
        ]
        return Structures.from_values(np.stack(images), spacing=self.length / self.size, periodic=False)

    @classmethod
    def example(cls, n: int, seed: int) -> Structures:
        return cls(shape=SHAPES[seed % 2], count=max(n, 1), size=12).load(seed)[np.arange(n)]  # type: ignore[arg-type]


def bar(angle: float, size: int) -> Array:
    """Return the image (size, size) of a bar through the centre at an angle (rad) to the second axis."""

    def inside(y: Array, x: Array) -> Array:
        along = np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5)
        across = np.cos(angle) * (y - 0.5) - np.sin(angle) * (x - 0.5)
        return np.asarray((np.abs(along) <= LONG / 2) & (np.abs(across) <= WIDE / 2))

    return _drawn(inside, size)


def angle_of(image: Array) -> float:
    """Return the angle (rad, 0 to pi) of the long axis of inertia of an image's values above zero."""
    weight = np.clip(image, 0.0, None)
    y, x = (np.indices(image.shape) + 0.5) / image.shape[0] - 0.5
    xx, yy, xy = ((weight * term).sum() for term in (x * x, y * y, x * y))
    return float(0.5 * np.arctan2(2 * xy, xx - yy) % np.pi)


def pair(rng: np.random.Generator) -> tuple[Array, Array]:
    """Return centres (2, 2) and radii (2,) of two discs in the unit square that touch neither each other nor a side."""
    while True:
        radii = rng.uniform(*RADII, 2)
        centres = rng.uniform(0, 1, (2, 2))
        inside = (np.abs(centres - 0.5) <= 0.5 - radii[:, None] - GAP).all()
        if inside and np.linalg.norm(centres[0] - centres[1]) >= radii.sum() + GAP:
            return centres, radii


def discs(centres: Array, radii: Array, size: int) -> Array:
    """Return the image (size, size) of discs in the unit square."""

    def inside(y: Array, x: Array) -> Array:
        squared = [(y - c[0]) ** 2 + (x - c[1]) ** 2 <= r**2 for c, r in zip(centres, radii, strict=True)]
        return np.asarray(np.logical_or.reduce(squared))

    return OUTSIDE + (INSIDE - OUTSIDE) * _drawn(inside, size)


def _drawn(inside: Callable[[Array, Array], Array], size: int) -> Array:
    """Return the share of each pixel that is inside of a shape."""
    x = (np.arange(FINE * size, dtype=np.float32) + 0.5) / (FINE * size)
    fine = inside(x[:, None], x[None]).reshape(size, FINE, size, FINE)
    return np.asarray(fine.sum(axis=(1, 3), dtype=np.uint8) / np.float32(FINE**2))
