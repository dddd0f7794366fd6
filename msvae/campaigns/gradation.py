"""Functional gradation: a part whose microstructure varies as a target asks, decoded to one voxel image and verified.

Latents of overlapping windows start from samples of the model's prior, and are led by gradient descent to values that
are the target plus the scatter with which they started. What the decoded windows have is measured - by counting voxels,
or by the solver - and what their means miss of the target is added to it, as often as the study asks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from msvae.autograd import differentiable
from msvae.campaigns.context import Context, Table, torch_threads
from msvae.campaigns.train import trained, training_structures
from msvae.errors import StudyError
from msvae.part.elastic import Solution
from msvae.part.export import export
from msvae.part.problem import Problem
from msvae.part.voxels import resolve
from msvae.part_settings import GradationSettings
from msvae.sampling.grading import Manifold, graded, neighbours, position_formula
from msvae.sampling.search import head_means
from msvae.sampling.windows import Windows
from msvae.seeds import seed_of
from msvae.structures import Array, Grid, Structures
from msvae.vae.blueprint import component_values
from msvae.vae.model import VAE

__all__ = ["Grading", "run"]

COLUMNS = ("asked", "mean", "error", "scatter", "windows")
MOST_ROWS = 24
ASCENT = 10  # steps of ascent between two solutions of the part


@dataclass(frozen=True, eq=False)
class Grading:
    """A part that is being graded: its windows, and what is measured of them."""

    context: Context
    vae: VAE
    latents: Array
    settings: GradationSettings

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
        corners = self.windows.corners
        fits = (corners >= 0) & (corners + self.windows.size <= np.array(self.windows.part.shape))
        return np.asarray(fits.all(axis=1))

    @cached_property
    def manifold(self) -> Manifold:
        """Where the data set's latents lie."""
        return Manifold.of(self.latents)

    @cached_property
    def pairs(self) -> Array:
        """Windows beside each other, (m, 2)."""
        return neighbours(self.windows.centres)

    def start(self, seed: int) -> Structures:
        """Return a part of samples of the prior that agree with their neighbours."""
        drawn = self.windows.fill(self.vae, self.vae.sample_latents(len(self.windows.corners), seed))
        return self.windows.settled(self.vae, drawn)

    def value(self, latents: Tensor) -> Tensor:
        """Return what is graded (w,) as the model has it, differentiable."""
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
        return self.vae.output(latents, self.vae.told(None, len(latents)))

    def led(self, starts: Array, loss: Callable[[Tensor], Tensor]) -> Array:
        """Return the latents that descend from starts."""
        s = self.settings
        return graded(starts, loss, self.manifold, self.pairs, smoothness=s.smoothness, typicality=s.typicality,
                      steps=s.steps)  # fmt: skip

    def profile(self, start: Structures, target: Array, stage: str) -> tuple[Structures, Array]:
        """Return the part whose windows have the target (w,) in the mean, and what was measured of them (w,).

        start: a part whose windows scatter by nature.
        """
        natural = float(_natural(self).std())
        part, wanted, share = start, target.copy(), self.settings.fluctuation
        measured = np.zeros(0)
        for sweep in range(self.settings.corrections + 1):
            latents = self.vae.encode(self.windows.cut(part))
            with torch.no_grad():
                now = self.value(torch.as_tensor(latents).float()).double().numpy()
            rest = now - _means(now, target)
            aim = torch.as_tensor(wanted + share * natural * rest / max(float(rest.std()), 1e-12)).float()
            latents = self.led(latents, lambda z, aim=aim: ((self.value(z) - aim) / natural).square().mean())  # type: ignore[misc]
            part = self.windows.fill(self.vae, latents)
            measured = self.measured(part, f"{stage}-{sweep}")
            wanted = wanted + target - _means(measured, target)
        return part, measured

    def measured(self, part: Structures, stage: str) -> Array:
        """Return what is graded (w,) of a part's windows, by counting voxels or by the solver; NaN at the border."""
        pieces = self.inside(part)
        found = np.full(len(self.inner), np.nan)
        if not self.settings.property:
            found[self.inner] = pieces.fractions[:, self.settings.phase]
            return found
        table = self.context.solve(f"windows-{stage}", pieces, title=stage)
        found[self.inner] = component_values(table.properties, self.settings.of)
        return found

    def inside(self, part: Structures) -> Structures:
        """Return the windows that are wholly in a part, as structures of their own."""
        return self.windows.cut(part)[np.flatnonzero(self.inner)]


def run(context: Context) -> Table:
    """Return the table of what was asked of the part and what was found in it; the part is in the run."""
    settings = context.study.gradation
    assert settings is not None
    if settings.goal == "profile":  # a mistake is better found before training than after
        _formula(context, np.full((1, len(settings.shape)), 0.5))
    structures = training_structures(context)
    vae = trained(context, structures)
    if len(settings.shape) != structures.specification.grid.dimensions:
        raise StudyError(
            f"{context.study.source.at(['gradation', 'shape'])}: expected a number of voxels for each axis"
        )
    grading = Grading(context, vae, vae.encode(structures), settings)
    if not grading.inner.any():
        raise StudyError(
            f"{context.study.source.at(['gradation', 'shape'])}: {settings.shape} voxels hold no whole window of "
            f"{grading.windows.size}"
        )
    with torch_threads(context.study.executor.threads):
        return _compliance(grading) if settings.goal == "compliance" else _profile(grading)


def _profile(grading: Grading) -> Table:
    s = grading.settings
    target = _formula(grading.context, grading.positions)
    start = grading.start(seed_of(grading.context.study.seed, "gradation"))
    part, measured = grading.profile(start, target, "graded")
    _save(grading, part)
    rows, (values, places) = [], _groups(target)
    shown = np.unique(places[grading.inner])
    for k in shown[:: -(-len(shown) // MOST_ROWS)]:
        own = measured[(places == k) & grading.inner]
        rows.append((f"{values[k]:.5g}", f"{np.nanmean(own):.5g}", f"{np.nanmean(own) - values[k]:+.3g}",
                     f"{np.nanstd(own):.3g}", str(len(own))))  # fmt: skip
    rest = measured - _means(measured, target)
    known = _natural(grading)
    notes = (
        f"largest error of a mean: {max(abs(float(r[2])) for r in rows):.3g}; scatter in the part "
        f"{np.nanstd(rest[grading.inner]):.3g}, in the data set {known.std():.3g}",
        f"neighbouring voxels differ {_seams(grading, part):.3f} times as often across windows' borders as elsewhere",
    )
    grading.context.run.write_json("gradation.json", {
        "positions": grading.positions[grading.inner].tolist(), "target": target[grading.inner].tolist(),
        "measured": measured[grading.inner].tolist()})  # fmt: skip
    what = str(s.of) if s.property else f"fraction of phase {s.phase}"
    return Table(f"Graded part: {what} of its windows", COLUMNS, tuple(rows), notes)


def _formula(context: Context, positions: Array) -> Array:
    """Return the target (w,) at positions (w, d) from 0 to 1 along the part."""
    assert context.study.gradation is not None
    try:
        return position_formula(context.study.gradation.target, positions)
    except ValueError as error:
        raise StudyError(f"{context.study.source.at(['gradation', 'target'])}: {error}") from None


def _natural(grading: Grading) -> Array:
    """Return what is graded of the data set's structures (n,)."""
    structures, s = grading.context.run.labelled, grading.settings
    if not s.property:
        return structures.fractions[:, s.phase]
    values = component_values(structures.properties, s.of)
    return values[np.isfinite(values)]


def _groups(target: Array) -> tuple[Array, Array]:
    """Return the different targets, and the number (w,) of each window's among them."""
    scale = float(np.abs(target).max()) or 1.0
    names, places = np.unique(np.round(target / scale, 9), return_inverse=True)
    return names * scale, places


def _means(values: Array, target: Array) -> Array:
    """Return the mean (w,) of the values of all windows with the same target; NaN is left out."""
    names, groups = _groups(target)
    means = np.array([_mean(values[groups == k]) for k in range(len(names))])
    known = np.isfinite(means)
    if not known.all():  # windows at the border that could not be measured: as those with the nearest target
        means = np.interp(names, names[known], means[known])
    return np.asarray(means[groups])


def _mean(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else np.nan


def _seams(grading: Grading, part: Structures) -> float:
    """Return how often neighbouring voxels differ across the borders of windows, over how often they do elsewhere."""
    values, rates = part.values[0, 0], []
    for axis, step in enumerate(grading.windows.steps):
        n = values.shape[axis]
        differ = np.take(values, range(1, n), axis) != np.take(values, range(n - 1), axis)
        by_plane = differ.mean(axis=tuple(a for a in range(values.ndim) if a != axis))
        border = np.arange(1, n) % step == 0
        if border.any() and by_plane[~border].mean() > 0:
            rates.append(by_plane[border].mean() / by_plane[~border].mean())
    return float(np.mean(rates)) if rates else 1.0


def _compliance(grading: Grading) -> Table:
    """Grade for stiffness at a given mean fraction, and compare with a uniform part and with a step."""
    context, s = grading.context, grading.settings
    part_settings, fraction = context.study.part, s.fraction
    if part_settings is None or part_settings.physics != "elasticity" or "stiffness" not in context.study.model.heads:
        raise StudyError(
            f"{context.study.source.at(['gradation', 'goal'])}: compliance needs an elastic [part] and a head for the "
            "stiffness"
        )
    assert fraction is not None
    problem = Problem(
        dataclasses.replace(part_settings, lengths=grading.windows.part.lengths, quantities=("stiffness",))
    )
    start = grading.start(seed_of(context.study.seed, "gradation"))
    along = grading.positions[:, part_settings.axis]
    spread = 0.5 * float(_natural(grading).std())
    designs: dict[str, Array] = {
        "uniform": np.full(len(along), fraction),
        "step": np.where(along < 0.5, fraction - spread, fraction + spread),
    }
    parts = {name: grading.profile(start, target, name)[0] for name, target in designs.items()}
    parts["graded"] = _stiffest(grading, problem, start, fraction)
    _save(grading, parts["graded"])
    found = {name: resolve(part, context.study.need_solver(), problem) for name, part in parts.items()}
    rows, reference = [], found["uniform"].quantities["stiffness"]
    for name, response in found.items():
        stiffness = response.quantities["stiffness"]
        rows.append(
            (name, f"{parts[name].fractions[0, s.phase]:.4f}", f"{stiffness:.5g}", f"{stiffness / reference:.3f}")
        )
    context.run.write_json("gradation.json", {"designs": [list(row) for row in rows]})
    columns = ("part", f"fraction of phase {s.phase}", "stiffness by DNS (N/m)", "over the uniform part's")
    return Table("Stiffest part of a given mass, every voxel resolved", columns, tuple(rows))


def _stiffest(grading: Grading, problem: Problem, start: Structures, fraction: float) -> Structures:
    """Return the stiffest part: ascent of the energy at given displacement, whose gradient the strains are."""
    elements = torch.as_tensor(_nearest(problem.centres, grading.windows.centres))
    s, asked, part = grading.settings, fraction, start
    brief = dataclasses.replace(grading, settings=dataclasses.replace(s, steps=ASCENT))
    for _ in range(s.corrections + 1):
        latents = grading.vae.encode(grading.windows.cut(part))
        for _ in range(max(s.steps // ASCENT, 1)):
            now = torch.as_tensor(latents).float()
            latents = brief.led(latents, _energy_loss(grading, problem, elements, asked, now))
        part = grading.windows.fill(grading.vae, latents)
        asked += fraction - float(part.fractions[0, s.phase])
    return part


def _energy_loss(
    grading: Grading, problem: Problem, elements: Tensor, fraction: float, latents: Tensor
) -> Callable[[Tensor], Tensor]:
    """Return a loss that falls as the part gets stiffer than with these latents, at a mean fraction of a phase."""
    with torch.no_grad():
        now = head_means(grading.vae, latents)["stiffness"][elements].double().numpy()
    solution = problem.respond({"stiffness": now}).solution
    assert isinstance(solution, Solution)
    volumes = np.asarray(solution.part.basis.dx.sum(axis=-1))
    weights = np.einsum("ei,ej,e->eij", solution.strain, solution.strain, volumes) / solution.energy / 2
    gradient = torch.as_tensor(weights).float()
    inside = torch.as_tensor(grading.inner)

    def loss(z: Tensor) -> Tensor:
        gain = (head_means(grading.vae, z)["stiffness"].float()[elements] * gradient).sum()
        return -gain + 2e3 * (grading.fraction(z)[inside].mean() - fraction).square()

    return loss


def _nearest(points: Array, windows: Array) -> Array:
    from scipy.spatial import cKDTree

    return np.asarray(cKDTree(windows).query(points)[1])


def _save(grading: Grading, part: Structures) -> None:
    """Write the part into the run, and to every format that it can be written to."""
    run = grading.context.run
    run.save_structures(part, "part.h5")
    export(part, run.path / "part.tif")
    export(part, run.path / "part.vti")
    if part.specification.grid.dimensions == 3:
        solid = 1 - grading.settings.phase if len(part.specification.constituents) == 2 else 0
        for ending in (".stl", ".3mf"):
            export(part, run.path / f"part{ending}", phase=solid)
