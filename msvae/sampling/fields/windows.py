"""Windows: a whole part of overlapping structures, each decoded from its own latents and blended seamlessly.

The decoder's outputs (logits) are averaged, not voxels, because the mean of two structures is not a structure. The
weights fall to zero at a window's border and sum to one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from msvae.errors import DataError
from msvae.structures import Array, Grid, Specification, Structures
from msvae.vae.likelihoods.discrete import BernoulliLikelihood

if TYPE_CHECKING:
    from msvae.vae.model import VAE

__all__ = ["Windows"]

AT_ONCE = 16  # windows that are decoded together
LEVELLINGS, REACH = 4, 1.0  # of a part that is blended; windows around one over which its shift is averaged
GROUP_LEVELLINGS = 10  # until groups of windows have the fractions that are asked of them
GRIDS = 4  # of windows, over which the output is averaged


@dataclass(frozen=True)
class Windows:
    """Overlapping windows over a part.

    specification: of the structures in the windows. part: the grid to be filled, with the same spacing.
    overlap: share of a window that it has in common with its neighbour along an axis, 0 to 0.5. offset: voxels along
    each axis by which the windows are shifted back, less than a step; by default none.
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
        """First voxel (w, d) of every window; windows at the border extend beyond it by their overlap."""
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
    def inner(self) -> Array:
        """Mask (w,) of the windows that lie entirely in the part."""
        fits = (self.corners >= 0) & (self.corners + self.size <= np.array(self.part.shape))
        return np.asarray(fits.all(axis=1))

    @property
    def weight(self) -> Array:
        """Weight (*size) of a window's voxels: a raised cosine over the overlap, one elsewhere."""
        weight = np.ones(())
        for axis, (size, step) in enumerate(zip(self.size, self.steps, strict=True)):
            ramp = np.sin(0.5 * np.pi * (np.arange(size - step) + 0.5) / max(size - step, 1)) ** 2
            line = np.concatenate([ramp, np.ones(2 * step - size), ramp[::-1]])
            weight = weight[..., None] * line if axis else line
        return np.asarray(weight)

    def fill(self, vae: VAE, latents: Array, conditions: Array | None = None) -> Structures:
        """Return the part (a batch of one) decoded from latents (w, d), one vector per window."""
        blended, fractions = self._blended(vae, latents, conditions)
        return self._voxels(vae, blended, partial(self._shifts_nearby, fractions=fractions))

    def patched(self, vae: VAE, latents: Array, seed: int) -> Structures:
        """Return a part of patches: every voxel is that of the nearest structure decoded from latents (n, d).

        The structures are placed at random. A part blended on a grid keeps a trace of the grid however long it is
        settled: 15 % of the rate at which voxels differ, against 5 % by chance. A part of patches keeps none.
        """
        rng, shape = np.random.default_rng(seed), np.array(self.part.shape)
        centres = rng.uniform(size=(len(latents), len(shape))) * shape
        places = np.stack(np.meshgrid(*(np.arange(n) + 0.5 for n in shape), indexing="ij"), axis=-1)
        _, nearest = cKDTree(centres).query(places)
        own = np.floor(places - centres[nearest] + np.array(self.size) / 2).astype(int) % self.size
        decoded = np.moveaxis(vae.decode(latents).values, 1, -1)
        return Structures(np.moveaxis(decoded[(nearest, *np.moveaxis(own, -1, 0))], -1, 0)[None], self._filled)

    def cut(self, part: Structures) -> Structures:
        """Return the content of every window (w) of a part, which is mirrored beyond its border."""
        values = np.pad(part.values[0], ((0, 0), *((n, n) for n in self.size)), mode="symmetric")
        places = [tuple(slice(c + n, c + 2 * n) for c, n in zip(k, self.size, strict=True)) for k in self.corners]
        return Structures(np.stack([values[(slice(None), *place)] for place in places]), self.specification)

    def settled(self, vae: VAE, part: Structures, sweeps: int, seed: int, *, drawn: bool = False) -> Structures:
        """Make the windows of a part agree with their neighbours: encode and decode each again, sweep by sweep.

        Each sweep brings the part closer to what the decoder can produce in every window. It uses two grids half a step
        apart at a random offset, because a single grid leaves its period in the part (a third of the rate at which
        voxels differ in a small model; with two grids no more than by chance). drawn: latents are drawn from their
        posterior, which preserves the windows' natural scatter (compare Rezende et al. 2014, arXiv:1401.4082, appendix
        F). Otherwise they are the posterior means, which lead to smoother structures.
        """
        rng = np.random.default_rng(seed)
        for _ in range(sweeps):
            start = rng.integers(self.steps)
            grids = [tuple((start + np.array(self.steps) // 2 * k) % self.steps) for k in range(2)]
            seeds = [int(s) for s in rng.integers(2**31, size=2)] if drawn else None
            mean, fractions = self._averaged(vae, part, grids, seeds), self.fractions(part)
            part = self._voxels(vae, mean, partial(self._shifts_nearby, fractions=fractions))
        return part

    def smoothed(self, vae: VAE, part: Structures) -> Array:
        """Return the output (c, *part) of a part's windows, averaged over grids shifted by fractions of a step.

        This is the "cycle spinning" of denoising (Coifman and Donoho 1995, doi:10.1007/978-1-4612-2544-7_9).
        """
        return self._averaged(vae, part, [tuple(k * step // GRIDS for step in self.steps) for k in range(GRIDS)])

    def levelled(self, vae: VAE, output: Array, fractions: Array, groups: Array | None = None) -> Structures:
        """Return the part for an output (c, *part) of the decoder.

        fractions: (w,) of phase 1 of two, enforced for the mean over nearby windows, or over the windows of each group
        (w,), 0, 1, ... Enforcing the fraction of every single window would leave a trace of the grid.
        """
        if groups is None:
            return self._voxels(vae, output, partial(self._shifts_nearby, fractions=fractions))
        return self._voxels(vae, output, partial(self._shifts_of, groups=groups, fractions=fractions), GROUP_LEVELLINGS)

    def _averaged(
        self, vae: VAE, part: Structures, grids: Sequence[tuple[int, ...]], seeds: Sequence[int] | None = None
    ) -> Array:
        """Return the mean output (c, *part), over grids (by offset), of windows that are encoded and decoded again.

        seeds: of draws from the posteriors, one per grid; without seeds the posterior means are used.
        """
        mean = np.zeros(())
        for k, grid in enumerate(grids):
            moved = replace(self, offset=grid)
            pieces = moved.cut(part)
            latents = vae.encode(pieces) if seeds is None else vae.draw(pieces, seeds[k])
            mean = mean + moved._blended(vae, latents, None)[0] / len(grids)
        return mean

    def fractions(self, part: Structures) -> Array:
        """Return the fraction (w,) of phase 1 in every window of a part; zeros for kinds other than phases."""
        pieces = self.cut(part)
        return pieces.fractions[:, 1] if pieces.specification.is_discrete else np.zeros(len(pieces))

    def _blended(self, vae: VAE, latents: Array, conditions: Array | None) -> tuple[Array, Array]:
        """Return the blended output (c, *part) of all windows, and the expected fraction of phase 1 in each."""
        if vae.sites or vae.blueprint.specification != self.specification:
            raise DataError("windows are filled by a model of their own structures whose latents are a vector")
        if len(latents) != len(self.corners):
            raise DataError(f"this part has {len(self.corners)} windows, found latents of {len(latents)}")
        fractions: list[float] = []
        with torch.no_grad():
            blended = self.blend(lambda: self._decoded(vae, latents, conditions, fractions))
        return blended, np.array(fractions)

    def _voxels(
        self, vae: VAE, blended: Array, shifts: Callable[[Array], Array], levellings: int = LEVELLINGS
    ) -> Structures:
        """Return the part (a batch of one) for the decoder's output (c, *part).

        shifts: (w,) subtracted from the logits of two phases in each window. Without them, windows with a confident
        decoder would dominate those with an uncertain one.
        """
        if isinstance(vae.likelihood, BernoulliLikelihood):
            for _ in range(levellings):
                each = shifts(blended)
                blended = blended - self.blend(lambda each=each: (np.full((1, *self.size), s) for s in each))  # type: ignore[misc]
            values = (blended > 0).astype(np.uint8)[None]
        else:
            with torch.no_grad():
                values = vae.likelihood.mode(vae.likelihood(torch.as_tensor(blended).float()[None])).numpy()
        return Structures(values, self._filled)

    def _decoded(self, vae: VAE, latents: Array, conditions: Array | None, fractions: list[float]) -> Iterator[Array]:
        """Yield the decoder's output for every window, and record its expected fraction."""
        z = torch.as_tensor(np.asarray(latents, dtype=np.float32))
        told = vae.network_conditions(conditions, len(z))
        for start in range(0, len(z), AT_ONCE):
            rows = slice(start, start + AT_ONCE)
            output = vae.output(z[rows], told[rows])
            if isinstance(vae.likelihood, BernoulliLikelihood):
                fractions += vae.likelihood(output).mean.flatten(1).mean(dim=1).tolist()
            yield from output.numpy()

    def _shifts_nearby(self, logits: Array, fractions: Array) -> Array:
        """Return the shifts (w,) by which logits are too large for fractions (w,), averaged over nearby windows."""
        fractions = np.clip(fractions, 0.0, 1.0)
        own = [np.quantile(self._within(logits, k), 1 - f) for k, f in enumerate(fractions)]
        centres = self.corners / np.array(self.size)
        weights = np.exp(-0.5 * np.square(cdist(centres, centres) / REACH))
        return np.asarray(weights @ np.array(own) / weights.sum(axis=1))

    def _shifts_of(self, logits: Array, groups: Array, fractions: Array) -> Array:
        """Return the shifts (w,) by which logits are too large for the mean of fractions (w,) in each group of windows.

        Only windows entirely in the part count; a group without such a window takes the shift of the adjacent groups.
        """
        inner, shifts = self.inner, np.full(groups.max() + 1, np.nan)
        for group in range(len(shifts)):
            own = np.flatnonzero((groups == group) & inner)
            if len(own):
                share = float(np.clip(fractions[own].mean(), 0.0, 1.0))
                shifts[group] = np.quantile(
                    np.concatenate([self._within(logits, int(k)).ravel() for k in own]), 1 - share
                )
        known = np.flatnonzero(np.isfinite(shifts))
        return np.asarray(np.interp(np.arange(len(shifts)), known, shifts[known])[groups])

    def _within(self, logits: Array, window: int) -> Array:
        """Return the logits (c, ...) of those voxels of a window that lie in the part."""
        return np.asarray(logits[(slice(None), *self._places(self.corners[window])[0])])

    def _places(self, corner: Array) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Return the region of a window in the part, and the region of its voxels that lie in the part."""
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
