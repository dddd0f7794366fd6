"""Simulated two-phase structures: seeded, periodic, made on the spot."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from msvae import (
    Array,
    Count,
    DataError,
    Dataset,
    Grid,
    Length,
    Positions,
    Rule,
    Share,
    Structures,
    Voxels,
)
from msvae_microstructures import processes
from msvae_microstructures.voxel_size import Spacing, fitting

MOST = 1 << 40  # voxels
RANGE = 100.0
Ratio = Annotated[float, Field(ge=1 / RANGE, le=RANGE)]
Ordered = Rule("a range [low, high]", lambda ends: ends[0] <= ends[1])


@dataclass(frozen=True)
class Simulated(Dataset):
    """Structures from a random process, periodic, of two phases.

    process: "gaussian-field" (thresholded), "spheres" (overlapping), "voronoi" (grains), "spinodal" (Cahn-Hilliard).
    count: number of structures. shape: voxels along each axis. spacing: edge length of a voxel, one number or one
        along each axis.
    volume_fraction: range of the fraction of phase 1, drawn uniformly for each structure.
    length: range of the correlation length, sphere radius or grain size; "spinodal" has its own.
    anisotropy: range of the ratio of the length along a random axis to that along the others, drawn log-uniformly.
    image_shape: voxels of one large image, from whose random places structures are cut then; they are not periodic.
    """

    name = "simulated"
    kinds = ("phases",)

    process: Literal["gaussian-field", "spheres", "voronoi", "spinodal"] = "gaussian-field"
    count: Count = 100
    shape: Annotated[tuple[Voxels, ...], Field(min_length=2, max_length=3)] = (32, 32)
    spacing: Spacing | tuple[Spacing, ...] = 1e-6
    volume_fraction: Annotated[tuple[Share, Share], Ordered] = (0.3, 0.7)
    length: Annotated[tuple[Length, Length], Ordered] = (6e-6, 6e-6)
    anisotropy: Annotated[tuple[Ratio, Ratio], Ordered] = (1.0, 1.0)
    image_shape: tuple[Voxels, ...] = ()

    def __post_init__(self) -> None:
        image = self.image_shape or self.shape
        if math.prod(image) > MOST or self.count * math.prod(self.shape) > MOST:
            raise ValueError(
                f"at most {MOST} voxels can be made, found {self.count} structures of {list(self.shape)} voxels and an "
                f"image of {list(image)}"
            )
        if len(image) != len(self.shape) or any(a < b for a, b in zip(image, self.shape, strict=True)):
            raise ValueError(f"image_shape is at least {list(self.shape)} voxels, found {list(self.image_shape)}")
        fitting(self.spacing, len(self.shape))
        if self.process != "spinodal":
            self._check_lengths()
        if self.process == "spinodal" and len(set(self._spacing)) > 1:
            raise ValueError(f"process 'spinodal' is on cubes, found a spacing of {list(self._spacing)}")

    def _check_lengths(self) -> None:
        """Raise ValueError for lengths that no grid can tell from noise, or from a constant."""
        low, high = (length / min(self._spacing) for length in self.length)
        if not 1 / RANGE <= low <= high <= RANGE**2:
            raise ValueError(
                f"length is from {1 / RANGE:g} to {RANGE**2:g} voxels, found {list(self.length)} m with voxels of "
                f"{min(self._spacing):g} m"
            )

    def load(self, seed: int) -> Structures:
        image = self.image(seed)
        if image is not None:
            return self._cut(image, np.random.default_rng([seed, 1]))
        children = np.random.SeedSequence(seed).spawn(self.count)
        labels = np.stack([self._one(np.random.default_rng(child)) for child in children])
        return Structures.from_labels(labels, self.spacing, phases=2)

    def image(self, seed: int) -> Structures | None:
        if not self.image_shape:
            return None
        labels = replace(self, shape=self.image_shape, image_shape=())._one(np.random.default_rng(seed))
        return Structures.from_labels(labels[None], self.spacing, phases=2, periodic=False)

    def _cut(self, image: Structures, rng: np.random.Generator) -> Structures:
        """Return structures from random places of an image."""
        corners = np.stack(
            [rng.integers(0, a - b + 1, self.count) for a, b in zip(self.image_shape, self.shape, strict=True)], 1
        )
        labels = image.values[0, 0]
        pieces = [labels[tuple(slice(c, c + n) for c, n in zip(corner, self.shape, strict=True))] for corner in corners]
        batch = Structures.from_labels(np.stack(pieces), self.spacing, phases=2, periodic=False)
        places = Positions(corners, periods=self.image_shape)  # the processes are periodic
        return Structures(batch.values, batch.specification, positions=places)

    @property
    def _spacing(self) -> tuple[float, ...]:
        """Along each axis, in m."""
        return Grid.of(self.shape, self.spacing).spacing

    @classmethod
    def example(cls, n: int, seed: int) -> Structures:
        return cls(count=n, shape=(16, 16), length=(4e-6, 4e-6)).load(seed)

    def _one(self, rng: np.random.Generator) -> Array:
        fraction = rng.uniform(*self.volume_fraction)
        length = rng.uniform(*self.length) / min(self._spacing)
        steps = [h / min(self._spacing) for h in self._spacing]
        if self.process == "gaussian-field":
            lengths = length / np.array(steps)
            lengths[rng.integers(len(self.shape))] *= np.exp(rng.uniform(*np.log(self.anisotropy)))
            return processes.thresholded(processes.gaussian_field(self.shape, rng, lengths=lengths.tolist()), fraction)
        if self.process == "spheres":
            return processes.overlapping_spheres(self.shape, rng, fraction=fraction, radius=length, steps=steps)
        if self.process == "voronoi":
            return processes.voronoi(self.shape, rng, grain=length, fractions=(1 - fraction, fraction), steps=steps)
        start = fraction + rng.uniform(-0.05, 0.05, self.shape)
        concentration = processes.spinodal(start, [0.025])[0]
        if not np.isfinite(concentration).all():
            raise DataError("the spinodal decomposition diverged: use a finer grid")
        return np.asarray((concentration > 0.5).astype(np.uint8))
