"""Windows: a whole part as overlapping structures, each decoded from latents of its own and blended without seams.

What is averaged is the decoder's output - logits, not voxels, for the mean of two structures is none - with weights
that fall to zero at a window's border and add up to one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import torch

from msvae.errors import DataError
from msvae.structures import Array, Grid, Specification, Structures
from msvae.vae.likelihoods import BernoulliLikelihood

if TYPE_CHECKING:
    from msvae.vae.model import VAE

__all__ = ["Windows"]

AT_ONCE = 16  # windows that are decoded together
LEVELLINGS = 4
SWEEPS = 30


@dataclass(frozen=True)
class Windows:
    """Overlapping windows over a part.

    specification: of the structures that stand in windows. part: the grid to be filled, of the same spacing.
    overlap: share of a window that its neighbour along an axis covers too, 0 to 0.5. offset: voxels along each axis by
    which the windows are moved back, less than a step; by default none.
    """

    specification: Specification
    part: Grid
    overlap: float = 0.5
    offset: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        grid = self.specification.grid
        if self.part.dimensions != grid.dimensions or not np.allclose(self.part.spacing, grid.spacing, rtol=1e-6):
            raise DataError(
                f"a part is filled by structures of its own spacing, found {self.part.spacing} m there and "
                f"{grid.spacing} m here"
            )
        if not 0 <= self.overlap <= 0.5:
            raise DataError(f"windows overlap by a share from 0 to 0.5, found {self.overlap:g}")

    @property
    def size(self) -> tuple[int, ...]:
        """Voxels of a window."""
        return self.specification.grid.shape

    @property
    def steps(self) -> tuple[int, ...]:
        """Voxels from one window to the next."""
        return tuple(max(1, round(n * (1 - self.overlap))) for n in self.size)

    @property
    def corners(self) -> Array:
        """First voxel (w, d) of every window; those at the border reach beyond it, as far as they overlap."""
        axes = [
            range((step - size if step < size else 0) - back, n, step)
            for n, size, step, back in zip(self.part.shape, self.size, self.steps, self._back, strict=True)
        ]
        return np.array(list(product(*axes)))

    @property
    def _back(self) -> tuple[int, ...]:
        return self.offset or (0,) * len(self.size)

    @property
    def centres(self) -> Array:
        """Centre (w, d) of every window in m, from the part's corner."""
        return np.asarray((self.corners + np.array(self.size) / 2) * np.array(self.part.spacing))

    @property
    def weight(self) -> Array:
        """Weight (*size) of a window's voxels: a raised cosine along the overlap, one in the middle."""
        weight = np.ones(())
        for axis, (size, step) in enumerate(zip(self.size, self.steps, strict=True)):
            ramp = np.sin(0.5 * np.pi * (np.arange(size - step) + 0.5) / max(size - step, 1)) ** 2
            line = np.concatenate([ramp, np.ones(2 * step - size), ramp[::-1]])
            weight = weight[..., None] * line if axis else line
        return np.asarray(weight)

    def fill(self, vae: VAE, latents: Array, conditions: Array | None = None) -> Structures:
        """Return the part (a batch of one) that latents (w, d), one for each window, decode to."""
        if vae.sites or vae.blueprint.specification != self.specification:
            raise DataError("windows are filled by a model of their own structures whose latents are a vector")
        if len(latents) != len(self.corners):
            raise DataError(f"this part has {len(self.corners)} windows, found latents of {len(latents)}")

        fractions: list[float] = []
        with torch.no_grad():
            blended = self.blend(lambda: self._decoded(vae, latents, conditions, fractions))
            if isinstance(vae.likelihood, BernoulliLikelihood):
                values = (self._levelled(blended, np.array(fractions)) > 0).astype(np.uint8)[None]
            else:
                values = vae.likelihood.mode(vae.likelihood(torch.as_tensor(blended)[None])).numpy()
        return Structures(values, self._filled)

    def cut(self, part: Structures) -> Structures:
        """Return what stands in every window (w) of a part; beyond its border it is continued by its mirror image."""
        values = np.pad(part.values[0], ((0, 0), *((n, n) for n in self.size)), mode="symmetric")
        places = [tuple(slice(c + n, c + 2 * n) for c, n in zip(k, self.size, strict=True)) for k in self.corners]
        return Structures(np.stack([values[(slice(None), *place)] for place in places]), self.specification)

    def settled(self, vae: VAE, part: Structures, sweeps: int = SWEEPS) -> Structures:
        """Return a part whose windows agree with their neighbours: each is encoded and decoded again, sweep by sweep.

        Blended windows that know nothing of each other leave a pattern of their own grid; each sweep takes the blend
        nearer to what all its windows can decode to, and moves the windows, so that no grid of theirs is left.
        """
        rng = np.random.default_rng(0)
        for _ in range(sweeps):
            moved = replace(self, offset=tuple(int(rng.integers(step)) for step in self.steps))
            part = moved.fill(vae, vae.encode(moved.cut(part)))
        return part

    def _decoded(self, vae: VAE, latents: Array, conditions: Array | None, fractions: list[float]) -> Iterator[Array]:
        """Yield the decoder's output for every window, and take note of the fraction that it expects."""
        z = torch.as_tensor(np.asarray(latents, dtype=np.float32))
        told = vae.told(conditions, len(z))
        for start in range(0, len(z), AT_ONCE):
            rows = slice(start, start + AT_ONCE)
            output = vae.output(z[rows], told[rows])
            if isinstance(vae.likelihood, BernoulliLikelihood):
                fractions += vae.likelihood(output).mean.flatten(1).mean(dim=1).tolist()
            yield from output.numpy()

    def _levelled(self, logits: Array, fractions: Array) -> Array:
        """Return logits (c, *part) shifted, smoothly, so that about so many are positive in each window as it expects.

        Blended as they are, windows whose decoder is sure would outvote those whose decoder is not.
        """
        for _ in range(LEVELLINGS):
            shifts = [
                np.quantile(logits[(slice(None), *there)], 1 - f)
                for (there, _), f in zip(map(self._places, self.corners), fractions, strict=True)
            ]
            logits = logits - self.blend(lambda shifts=shifts: (np.full((1, *self.size), s) for s in shifts))  # type: ignore[misc]
        return logits

    def _places(self, corner: Array) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Return where a window stands in the part, and which of its voxels do."""
        first, last = np.maximum(corner, 0), np.minimum(corner + self.size, self.part.shape)
        there = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
        return there, tuple(slice(a - c, b - c) for a, b, c in zip(first, last, corner, strict=True))

    @property
    def _filled(self) -> Specification:
        s = self.specification
        return Specification(s.kind, s.channels, self.part, s.constituents)

    def blend(self, decoded: Callable[[], Iterator[Array]]) -> Array:
        """Return the weighted mean (c, *part) of arrays (c, *size), one for each window, that a call yields."""
        weight, total, norm = self.weight, None, np.zeros(self.part.shape)
        for corner, values in zip(self.corners, decoded(), strict=True):
            there, here = self._places(corner)
            if total is None:
                total = np.zeros((len(values), *self.part.shape), dtype=np.float32)
            total[(slice(None), *there)] += (weight[here] * values[(slice(None), *here)]).astype(np.float32)
            norm[there] += weight[here]
        assert total is not None
        return np.asarray(total / norm.astype(np.float32))
