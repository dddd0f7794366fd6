"""Our searchers as generators of the gest-api: suggest latents, ingest the properties that another tool computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from msvae import Array, Known, Problem, Run, RunError
from msvae_gest.searcher import NAME, bounds_of, columns_of, row_of, vocs_of

__all__ = ["SearchGenerator", "generator_of"]

REACH = 3.0  # standard deviations of the encoded data, within which latents are called usual


class SearchGenerator:
    """A search of ours with the methods of gest_api.generator.Generator.

    vocs: of latents z0, z1, ..., and the distance from the targets in tolerances. problem: which structures the latents
    decode to: `problem.vae.decode`.
    """

    returns_id = False

    def __init__(self, problem: Problem, searcher: Any) -> None:
        assert problem.known is not None
        self.problem, self.search = problem, searcher.search(problem)
        self.vocs = vocs_of(bounds_of(problem.known.latents, REACH))

    def suggest(self, num_points: int | None = None) -> list[dict[str, float]]:
        """Return points to evaluate; one where no number is given."""
        latents = self.search.ask(1 if num_points is None else num_points)
        return [{NAME.format(k): float(z) for k, z in enumerate(row)} for row in latents]

    def ingest(self, results: Sequence[Mapping[str, Any]]) -> None:
        """Learn from results: points with a column for every targeted number, as "stiffness[0, 0]", in SI units.

        NaN, or no such column, says that an evaluation failed.
        """
        latents = np.array([row_of(row) for row in results], dtype=np.float64)
        properties = self._properties(results)
        self.search.tell(latents, self.problem.distance(properties), properties)

    def finalize(self) -> None:
        """There is nothing to put away."""

    def _properties(self, results: Sequence[Mapping[str, Any]]) -> dict[str, Array]:
        found: dict[str, Array] = {}
        quantities = {q.name: q for q in self.problem.solver.quantities(self.problem.vae.blueprint.specification)}
        for number in self.problem.numbers:
            whole = found.setdefault(
                number.property, np.full((len(results), *quantities[number.property].sizes), np.nan)
            )
            place: tuple[Any, ...] = (slice(None), *number.component)
            whole[place] = columns_of(results, str(number))
        return found


def generator_of(run: Run, *, seed: int = 0) -> SearchGenerator:
    """Return the searcher of a run of inverse design as a generator, which knows the run's labelled structures.

    RunError for a run of another campaign, or for one without a model.
    """
    design: Any = run.study.campaign
    if design.name != "inverse-design" or not design.targets:
        raise RunError(f"'{run.path}' has no targets: give a run of inverse design that has")
    structures, vae = run.labelled, run.model
    known = Known(vae.encode(structures), structures, structures.properties)

    def distance(properties: Mapping[str, Array]) -> Array:
        return np.asarray(np.max([_away(target, properties) for target in design.targets], axis=0))

    def allowed(latents: Array, structures: Any) -> Array:
        return np.ones(len(latents), dtype=bool)

    problem = Problem(vae, run.study.need_solver(), design.targets, design.components, distance, allowed, known, seed)
    return SearchGenerator(problem, design.strategy)


def _away(target: Any, properties: Mapping[str, Array]) -> Array:
    """Return the distances (n,) of properties from a target, in tolerances."""
    array = properties[target.property]
    parts = []
    for number, (low, high) in zip(target.numbers, target.ends, strict=True):
        value = array[(slice(None), *number.component)]
        parts.append(np.maximum(np.maximum(low - value, value - high), 0) / (target.tolerance * target.scale))
    return np.asarray(np.max(parts, axis=0))
