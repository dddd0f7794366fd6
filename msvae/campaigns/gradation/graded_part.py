"""A part during gradation: latents of its windows, the value in each window, and gradient descent to the target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from msvae.campaigns.gradation.campaign import Gradation
from msvae.errors import TargetError
from msvae.part.export import export
from msvae.plugins.differentiable import differentiable
from msvae.sampling.fields.grading import Manifold, graded, neighbours
from msvae.sampling.fields.windows import Windows
from msvae.sampling.search.descent import head_means
from msvae.seeds import seed_of
from msvae.stages.context import Context
from msvae.structures import Array, Grid, Structures
from msvae.vae.blueprint import component_values
from msvae.vae.model import VAE

__all__ = ["Grading", "groups_of", "misses_of", "save", "values_of_structures"]

DRAWN_SWEEPS, LAST_SWEEPS, SWEEPS = 8, 2, 3  # of settling: a part to begin with; after its windows were led
MOST_GROUPS = 24  # of windows with about the same target
CLOSE, CLOSE_SCATTER = 0.05, 0.1  # of the natural scatter: no further sweep for smaller errors of means and of scatter
CHANGE = (0.7, 1.5)  # of the scatter that is asked for, from sweep to sweep
LEVELLINGS, LEVEL = 5, 0.005  # of a property by fractions: solutions of all windows, and the error that is small enough
DAMPED = 0.7  # part of the error that is taken off at a time
RELATED = 0.1  # share of a property's variance that fractions explain, at least, for that


@dataclass(frozen=True, eq=False)
class Grading:
    """A part that is being graded: its windows, and the values measured in them."""

    context: Context
    vae: VAE
    latents: Array
    settings: Gradation

    @cached_property
    def windows(self) -> Windows:
        """The overlapping windows of the part."""
        own = self.vae.blueprint.specification
        grid = Grid.of(self.settings.shape, own.grid.spacing, periodic=False)
        return Windows(own, grid, self.settings.overlap)

    @cached_property
    def positions(self) -> Array:
        """Centres (w, d) of the windows, from 0 to 1 along the part."""
        return np.asarray(np.clip(self.windows.centres / self.windows.part.lengths, 0.0, 1.0))

    @cached_property
    def inner(self) -> Array:
        """Mask (w,) of the windows that are wholly in the part."""
        return self.windows.inner

    @cached_property
    def manifold(self) -> Manifold:
        """The region in which the data set's latents lie."""
        return Manifold.of(self.latents)

    @cached_property
    def pairs(self) -> Array:
        """Windows beside each other, (m, 2)."""
        return neighbours(self.windows.centres)

    def start(self, seed: int) -> Structures:
        """Return a part of samples of the prior that agree with their neighbours."""
        patches = self.vae.sample_latents(len(self.windows.corners), seed)
        part = self.windows.patched(self.vae, patches, seed_of(seed, "patches"))
        part = self.windows.settled(self.vae, part, DRAWN_SWEEPS, seed_of(seed, "drawn"), drawn=True)
        return self.windows.settled(self.vae, part, LAST_SWEEPS, seed_of(seed, "settled"))

    def value(self, latents: Tensor) -> Tensor:
        """Return the graded value (w,) as the model predicts it, differentiable."""
        s = self.settings
        place: tuple[Any, ...] = (slice(None), *s.component)
        if not s.property:
            return self.fraction(latents)
        if s.through == "solver":
            grey = self.vae.likelihood(self._output(latents)).mean[:, 0].double()
            found = differentiable(self.context.study.need_solver(), grey, self.windows.part.spacing, periodic=True)
            return found[s.property][place].float()
        return head_means(self.vae, latents)[s.property][place].float()

    def fraction(self, latents: Tensor) -> Tensor:
        """Return the fraction (w,) of the phase that windows are expected to have."""
        mean: Tensor = self.vae.likelihood(self._output(latents)).mean.flatten(1).mean(dim=1)
        return mean if self.settings.phase == 1 else 1 - mean

    def _output(self, latents: Tensor) -> Tensor:
        return self.vae.output(latents, self.vae.network_conditions(None, len(latents)))

    def descend(self, starts: Array, loss: Callable[[Tensor], Tensor]) -> Array:
        """Return the latents found by descent from starts."""
        s = self.settings
        return graded(starts, loss, self.manifold, self.pairs, smoothness=s.smoothness, typicality=s.typicality,
                      steps=s.steps)  # fmt: skip

    def profile(self, start: Structures, target: Array, stage: str) -> tuple[Structures, Array]:
        """Return the part whose windows have the target (w,) on average, and the values (w,) measured in them.

        start: a part whose windows have the natural scatter. Of several sweeps, the one nearest in mean and scatter is
        returned.
        """
        own = float(values_of_structures(self).std())
        part, wanted, scatter = start, target.copy(), self.settings.fluctuation * own
        asked = scatter
        best: tuple[float, Structures, Array] | None = None
        for sweep in range(self.settings.corrections + 1):
            latents = self.vae.encode(self.windows.cut(part))
            with torch.no_grad():
                now = self.value(torch.as_tensor(latents).float()).double().numpy()
            rest = now - target - misses_of(now, target)
            aim = torch.as_tensor(wanted + asked * rest / max(float(rest.std()), 1e-12)).float()
            latents = self.descend(latents, lambda z, aim=aim: ((self.value(z) - aim) / own).square().mean())  # type: ignore[misc]
            part, measured = self.made(latents, f"{stage}-{sweep}", target, wanted)
            misses = misses_of(measured, target)
            found = float(np.nanstd((measured - target - misses)[self.inner]))
            errors = float(np.abs(misses[self.inner]).max()) / own, abs(found - scatter) / own
            if best is None or sum(errors) < best[0]:
                best = sum(errors), part, measured
            if errors[0] <= CLOSE and errors[1] <= CLOSE_SCATTER:
                break
            wanted, asked = wanted - misses, asked * float(np.clip(scatter / max(found, 1e-12), *CHANGE))
        assert best is not None
        return best[1:]

    def made(self, latents: Array, stage: str, target: Array, wanted: Array) -> tuple[Structures, Array]:
        """Return the settled part of windows with latents (w, d), and the values (w,) measured in them.

        Windows with about the same target (w,) have on average the wanted fraction (w,). If a property is graded,
        fractions are adjusted until the solver's means reach the target.
        """
        groups = groups_of(target)
        if not self.settings.property:
            fractions = wanted if self.settings.phase == 1 else 1 - wanted
            part = self.seamless(latents, stage, fractions, groups)
            return part, self.measured(part, stage)
        output, fractions = self._settled(latents, stage)
        found: list[tuple[float, Structures, Array]] = []
        for number in range(LEVELLINGS if self.rise else 1):
            part = self.windows.levelled(self.vae, output, fractions, groups)
            measured = self.measured(part, f"{stage}-{number}")
            misses = misses_of(measured, target)
            found.append((float(np.abs(misses[self.inner]).max()), part, measured))
            if found[-1][0] <= LEVEL * np.abs(target).max():
                break
            fractions = fractions - DAMPED * _beside(misses, groups) / (self.rise or np.inf)
        return min(found, key=lambda made: made[0])[1:]

    def seamless(
        self, latents: Array, stage: str, fractions: Array | None = None, groups: Array | None = None
    ) -> Structures:
        """Return the settled part of windows with latents (w, d), without a trace of their grid.

        fractions (w,): of phase 1, in the mean of groups (w,); otherwise windows keep what they are decoded with.
        """
        output, decoded = self._settled(latents, stage)
        return self.windows.levelled(self.vae, output, decoded if fractions is None else fractions, groups)

    def _settled(self, latents: Array, stage: str) -> tuple[Array, Array]:
        """Return the decoder's output (c, *part) for windows that have settled, and their fractions (w,) before."""
        part = self.windows.fill(self.vae, latents)
        fractions = self.windows.fractions(part)
        part = self.windows.settled(self.vae, part, SWEEPS, seed_of(self.context.study.seed, stage))
        return self.windows.smoothed(self.vae, part), fractions

    @cached_property
    def rise(self) -> float:
        """Slope of the graded property over the fraction of phase 1 in the data set; 0 if it does not depend on it."""
        structures = self.context.run.labelled
        if not structures.specification.is_discrete or len(structures.specification.constituents) != 2:
            return 0.0
        values, fractions = component_values(structures.properties, self.settings.of), structures.fractions[:, 1]
        known = np.isfinite(values)
        (spread, both), (_, own) = np.cov(fractions[known], values[known])
        return float(both / spread) if both**2 > RELATED * spread * own else 0.0

    def measured(self, part: Structures, stage: str) -> Array:
        """Return the graded value (w,) of a part's windows, by counting voxels or by the solver; NaN at the border."""
        pieces = self.inside(part)
        found = np.full(len(self.inner), np.nan)
        if not self.settings.property:
            found[self.inner] = pieces.fractions[:, self.settings.phase]
            return found
        table = self.context.solve(f"windows-{stage}", pieces, title=stage)
        found[self.inner] = component_values(table.properties, self.settings.of)
        return found

    def inside(self, part: Structures) -> Structures:
        """Return the windows that are wholly inside a part, as a batch of structures."""
        return self.windows.cut(part)[np.flatnonzero(self.inner)]


def _beside(values: Array, groups: Array) -> Array:
    """Return values (w,) that a group's windows share, averaged with those of the groups before and after it.

    Windows overlap, so a change of one group changes half of each neighbouring group too.
    """
    each = np.pad(np.array([values[groups == k].mean() for k in range(groups.max() + 1)]), 1, mode="edge")
    return np.asarray((0.25 * each[:-2] + 0.5 * each[1:-1] + 0.25 * each[2:])[groups])


def values_of_structures(grading: Grading) -> Array:
    """Return the graded value (n,) of the data set's structures."""
    structures, s = grading.context.run.labelled, grading.settings
    if not s.property:
        return structures.fractions[:, s.phase]
    values = component_values(structures.properties, s.of)
    return values[np.isfinite(values)]


def groups_of(target: Array) -> Array:
    """Return the group (w,) of every window, 0, 1, ... by ascending target; targets in a group are about equal."""
    scale = float(np.abs(target).max()) or 1.0
    places = np.unique(np.round(target / scale, 9), return_inverse=True)[1].reshape(-1)
    if places.max() >= MOST_GROUPS:
        places = np.argsort(np.argsort(target, kind="stable")) * MOST_GROUPS // len(target)
    return np.asarray(places)


def misses_of(values: Array, target: Array) -> Array:
    """Return the excess (w,) of values over the target, averaged over each window's group; NaN is left out."""
    places = groups_of(target)
    known = np.isfinite(values)
    if not known.any():
        raise TargetError(
            "the solver has no answer for any window of the part: see the reasons in the run's evaluations"
        )
    count = np.bincount(places, known)
    sums = np.bincount(places, np.where(known, values - target, 0.0))
    numbers = np.flatnonzero(
        count
    )  # windows at the border that could not be measured: as those with the nearest target
    return np.asarray(np.interp(np.arange(len(count)), numbers, sums[numbers] / count[numbers])[places])


def save(grading: Grading, part: Structures) -> None:
    """Write the part into the run, and to every format that it can be written to."""
    run = grading.context.run
    run.save_structures(part, "part.h5")
    export(part, run.path / "part.tif")
    export(part, run.path / "part.vti")
    if part.specification.grid.dimensions == 3:
        solid = 1 - grading.settings.phase if len(part.specification.constituents) == 2 else 0
        for ending in (".stl", ".3mf"):
            export(part, run.path / f"part{ending}", phase=solid)
