"""Fibres: discs of one size at random places of a periodic square. Replace it by what reads your own structures."""

from dataclasses import dataclass

import numpy as np

import msvae


@dataclass(frozen=True)
class Mine(msvae.Dataset):
    """Cross-sections of fibres in a matrix. count: of structures. size: pixels of an edge. radius: of the fibres.

    spacing: edge length of a pixel. fibres: in each structure; they may overlap.
    """

    name = "mine"
    kinds = ("phases",)
    dimensions = (2,)

    count: msvae.Count = 64
    size: msvae.Voxels = 32
    radius: msvae.Length = 4e-6
    spacing: msvae.Length = 1e-6
    fibres: msvae.Count = 6

    def load(self, seed: int) -> msvae.Structures:
        """Return the structures; the same settings and seed give the same values."""
        rng = np.random.default_rng(seed)
        labels = np.array([self._image(rng) for _ in range(self.count)])
        return msvae.Structures.from_labels(labels, spacing=self.spacing, phases=("matrix", "fibre"))

    @classmethod
    def example(cls, n: int, seed: int) -> msvae.Structures:
        return cls(count=n, size=16).load(seed)

    def _image(self, rng: np.random.Generator) -> msvae.Array:
        places = rng.random((self.fibres, 2, 1, 1)) * self.size
        away = np.abs(np.indices((self.size, self.size)) + 0.5 - places)
        away = np.minimum(away, self.size - away)  # to the nearest image of the fibre
        inside = (away**2).sum(axis=1) < (self.radius / self.spacing) ** 2
        return np.asarray(inside.any(axis=0), dtype=np.uint8)


@msvae.hook
def msvae_datasets() -> list[type[msvae.Dataset]]:
    return [Mine]
