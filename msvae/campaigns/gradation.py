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
from msvae.errors import StudyError, TargetError
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
DRAWN_SWEEPS, LAST_SWEEPS, SWEEPS = 8, 2, 3  # of settling: a part to begin with; after its windows were led
MOST_GROUPS = 24  # of windows with about the same target
CLOSE, CLOSE_SCATTER = 0.05, 0.1  # of the natural scatter: no further sweep for smaller errors of means and of scatter
CHANGE = (0.7, 1.5)  # of the scatter that is asked for, from sweep to sweep
LAGS = (1, 2, 4, 8)  # voxels
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
        return self.windows.inner

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
        patches = self.vae.sample_latents(len(self.windows.corners), seed)
        part = self.windows.patched(self.vae, patches, seed_of(seed, "patches"))
        part = self.windows.settled(self.vae, part, DRAWN_SWEEPS, seed_of(seed, "drawn"), drawn=True)
        return self.windows.settled(self.vae, part, LAST_SWEEPS, seed_of(seed, "settled"))

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

        start: a part whose windows scatter by nature. Of several sweeps the one that misses means and scatter least.
        """
        natural = float(_natural(self).std())
        part, wanted, scatter = start, target.copy(), self.settings.fluctuation * natural
        asked = scatter
        best: tuple[float, Structures, Array] | None = None
        for sweep in range(self.settings.corrections + 1):
            latents = self.vae.encode(self.windows.cut(part))
            with torch.no_grad():
                now = self.value(torch.as_tensor(latents).float()).double().numpy()
            rest = now - target - _misses(now, target)
            aim = torch.as_tensor(wanted + asked * rest / max(float(rest.std()), 1e-12)).float()
            latents = self.led(latents, lambda z, aim=aim: ((self.value(z) - aim) / natural).square().mean())  # type: ignore[misc]
            part = self.seamless(latents, f"{stage}-{sweep}", target, wanted)
            measured = self.measured(part, f"{stage}-{sweep}")
            misses = _misses(measured, target)
            found = float(np.nanstd((measured - target - misses)[self.inner]))
            errors = float(np.abs(misses[self.inner]).max()) / natural, abs(found - scatter) / natural
            if best is None or sum(errors) < best[0]:
                best = sum(errors), part, measured
            if errors[0] <= CLOSE and errors[1] <= CLOSE_SCATTER:
                break
            wanted, asked = wanted - misses, asked * float(np.clip(scatter / max(found, 1e-12), *CHANGE))
        assert best is not None
        return best[1:]

    def seamless(
        self, latents: Array, stage: str, target: Array | None = None, wanted: Array | None = None
    ) -> Structures:
        """Return the part of windows with latents (w, d), settled, without a trace of their grid.

        Windows with about the same target (w,) have in the mean the fraction that is wanted (w,) of them or, if that is
        not what is graded, the one that they are decoded with.
        """
        part = self.windows.fill(self.vae, latents)
        fractions = self.windows.fractions(part)
        if wanted is not None and not self.settings.property:
            fractions = wanted if self.settings.phase == 1 else 1 - wanted
        part = self.windows.settled(self.vae, part, SWEEPS, seed_of(self.context.study.seed, stage))
        return self.windows.smoothed(self.vae, part, fractions, None if target is None else _groups(target))

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
    rows, places, misses = [], _groups(target), _misses(measured, target)
    shown = np.unique(places[grading.inner])
    for k in shown[:: -(-len(shown) // MOST_ROWS)]:
        here = (places == k) & grading.inner
        rows.append((f"{target[here].mean():.5g}", f"{np.nanmean(measured[here]):.5g}", f"{misses[here][0]:+.3g}",
                     f"{np.nanstd(measured[here] - target[here]):.3g}", str(here.sum())))  # fmt: skip
    rest, known = measured - target - misses, _natural(grading)
    notes = (
        f"largest error of a mean: {np.abs(misses[grading.inner]).max():.3g}; scatter in the part "
        f"{np.nanstd(rest[grading.inner]):.3g}, in the data set {known.std():.3g}",
        *(f"voxels {lag} apart differ {border:.3f} times as often across windows' borders as anywhere; across other "
          f"planes as far from each other {low:.3f} to {high:.3f} times"
          for lag, border, low, high in _seams(grading, part)),
    )  # fmt: skip
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


def _groups(target: Array) -> Array:
    """Return the group (w,) of every window: 0, 1, ..., by ascending target, with about the same one."""
    scale = float(np.abs(target).max()) or 1.0
    places = np.unique(np.round(target / scale, 9), return_inverse=True)[1].reshape(-1)
    if places.max() >= MOST_GROUPS:
        places = np.argsort(np.argsort(target, kind="stable")) * MOST_GROUPS // len(target)
    return np.asarray(places)


def _misses(values: Array, target: Array) -> Array:
    """Return by how much (w,) values exceed the target in the mean of a window's group; NaN is left out."""
    places = _groups(target)
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


def _seams(grading: Grading, part: Structures) -> tuple[tuple[int, float, float, float], ...]:
    """Return for several lags how often voxels that far apart differ across the borders of windows, and elsewhere.

    Over the mean of all: across borders; across planes at the same distance from each other that are none, the least
    and the most of them.
    """
    values, found = part.values[0, 0], []
    for lag in LAGS:
        rates = []
        for axis, step in enumerate(grading.windows.steps):
            n = values.shape[axis] - lag
            if lag > step // 2 or n < 2 * step:
                continue
            differ = np.take(values, range(lag, lag + n), axis) != np.take(values, range(n), axis)
            by_plane = differ.mean(axis=tuple(a for a in range(values.ndim) if a != axis))
            places = (np.arange(n) + (lag + 1) // 2) % step
            rates.append(np.array([by_plane[places == k].mean() for k in range(step)]) / max(by_plane.mean(), 1e-12))
        if rates and len({len(r) for r in rates}) == 1:
            border, *others = np.mean(rates, axis=0)
            found.append((lag, float(border), float(min(others)), float(max(others))))
    return tuple(found)


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
    for sweep in range(s.corrections + 1):
        latents = grading.vae.encode(grading.windows.cut(part))
        for _ in range(max(s.steps // ASCENT, 1)):
            now = torch.as_tensor(latents).float()
            latents = brief.led(latents, _energy_loss(grading, problem, elements, asked, now))
        part = grading.seamless(latents, f"stiffest-{sweep}")
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
