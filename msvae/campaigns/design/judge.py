"""The judge of designs: their distances from the targets, and whether they count at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from msvae.campaigns.design.campaign import InverseDesign
from msvae.metrics.bounds import Bounds
from msvae.run.directory import PHASES
from msvae.sampling.search.aims import Target
from msvae.sampling.search.constraints import meets
from msvae.sampling.search.guards import Guards
from msvae.stages.context import Context
from msvae.structures import Array, Structures
from msvae.structures.evaluations import Evaluations
from msvae.vae.blueprint import component_values
from msvae.vae.model import VAE

__all__ = ["Judge", "distance_from", "misses", "numbers_of"]


@dataclass(frozen=True, eq=False)
class Judge:
    """Decides which evaluated designs count, by guards, bounds, constraints and the solver's status."""

    vae: VAE
    design: InverseDesign
    guards: Guards | None
    bounds: Bounds

    @classmethod
    def of(cls, context: Context, vae: VAE, structures: Structures) -> Judge:
        """Return the judge of a study, for designs of a model that was trained on these structures."""
        design = context.study.need(InverseDesign)
        guarded = design.guards and not vae.sites and not vae.blueprint.settings.conditions
        guards = Guards.of(vae, structures) if guarded else None
        return cls(vae, design, guards, bounds_of(context, structures) if design.guards else Bounds({}))

    def allowed(self, latents: Array, structures: Structures) -> Array:
        """Return which (n,) designs may be asked for: what they decode to meets the constraints and the guards."""
        good = np.ones(len(latents), dtype=bool)
        for limit in self.design.fractions:
            fraction = structures.fractions[:, limit.phase]
            good &= (fraction >= limit.low) & (fraction <= limit.high)
        for constraint in self.design.constraints:
            good &= meets(constraint, structures)
        return good if self.guards is None else good & self.guards.accept(latents, structures)

    def log(self, table: Evaluations) -> dict[str, list[float]]:
        """Return, for every guard, by how much evaluated designs exceed its limit."""
        structures = self.vae.decode(table.latents)
        found = {} if self.guards is None else self.guards.judge(table.latents, structures)
        if {t.property for t in self.design.targets} <= set(self.vae.heads):
            found["spread of the head"] = self._spread(table.latents)
        return {k: v.tolist() for k, v in {**found, "bounds": self.bounds.excess(structures, table.properties)}.items()}

    def _spread(self, latents: Array) -> Array:
        """Return the largest standard deviation (n,) of the heads' predictions of the targets, in tolerances."""
        spread = {name: deviation for name, (_, deviation) in self.vae.predict_with_spread(latents).items()}
        each = [numbers_of(t, spread).max(axis=1) / (t.tolerance * t.scale) for t in self.design.targets]
        return np.asarray(np.max(each, axis=0, initial=0.0))

    def counts(self, table: Evaluations) -> Array:
        """Return the mask (n,) of evaluated designs that count: allowed, and within the bounds."""
        if not len(table):
            return np.zeros(0, dtype=bool)
        structures = self.vae.decode(table.latents)
        inside = self.bounds.excess(structures, table.properties) == 0
        return np.asarray(self.allowed(table.latents, structures) & inside)

    def distances(self, table: Evaluations, *, below: float = np.inf) -> Array:
        """Return the distances (n,) of designs from the targets; NaN for those that do not count.

        below: designs that are not nearer than this are not checked against guards and bounds, for they are no
        improvement.
        """
        distances = distance_from(self.design.targets, table.properties)
        near = np.flatnonzero(distances < below)
        distances[near[~self.counts(table.where(near))]] = np.nan
        return distances


def bounds_of(context: Context, structures: Structures) -> Bounds:
    """Return the bounds that the solver's properties of the pure phases set; none for kinds other than phases."""
    specification = structures.specification
    if specification.kind != "phases":
        return Bounds({})
    count, grid = len(specification.constituents), specification.grid
    pure = np.broadcast_to(np.arange(count).reshape(-1, *(1,) * grid.dimensions), (count, *(2,) * grid.dimensions))
    batch = Structures.from_labels(pure, grid.spacing, phases=specification.constituents)
    table = context.solve(PHASES, batch, quiet=True)
    return Bounds.of(table.properties)


def distance_from(targets: tuple[Target, ...], properties: Mapping[str, Any]) -> Array:
    """Return the largest distance (n,) of properties from their targets, in units of each one's tolerance.

    A design meets the target where this is at most 1; NaN where a property is unknown.
    """
    return np.asarray(np.max([misses(t, numbers_of(t, properties)) for t in targets], axis=0))


def numbers_of(target: Target, properties: Mapping[str, Any]) -> Array:
    """Return the numbers (n, m) of properties that a target is about."""
    return np.stack([component_values(properties, number) for number in target.numbers], axis=-1)


def misses(target: Target, values: Array) -> Array:
    """Return how far (n,) values (n, m) are from a target, in tolerances."""
    low, high = np.array(target.ends).T
    excess = np.maximum(np.maximum(low - values, values - high), 0.0)
    return np.asarray(excess.max(axis=-1) / (target.tolerance * target.scale))
