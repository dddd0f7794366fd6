"""A generator of the gest-api as a searcher: it suggests latents, and is told their distances from the targets."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pkgutil import resolve_name
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from msvae import Array, AskTell, PluginError, Positive, Problem, Searcher, StudyError, seed_of

__all__ = ["NAME", "Gest", "bounds_of", "row_of", "vocs_of"]

NAME = "z{}"  # of a latent among the generator's variables
OBJECTIVE = "distance"  # from the targets, in tolerances


@dataclass(frozen=True)
class Gest(Searcher):
    """Any generator of the gest-api, over the latents z0, z1, ...; it minimises "distance", in tolerances.

    generator: "module:Class", made with its VOCS. arguments: its further ones. reach: its bounds, in standard
        deviations of the encoded data about their mean.
    """

    name = "gest"
    package = ("gest_api", "gest")

    generator: Annotated[str, Field(pattern=r"^\w+(\.\w+)*:\w+$")]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    reach: Positive = 3.0

    def search(self, problem: Problem) -> AskTell:
        assert problem.known is not None
        bounds = bounds_of(problem.known.latents, self.reach)
        with _seeded(seed_of(problem.seed, "generator")):
            generator = self._made(vocs_of(bounds))
            known = problem.known
            generator.ingest(_results(known.latents, problem.distance(known.properties)))
        return _Suggested(generator, problem.seed)

    def _made(self, vocs: Any) -> Any:
        """Return the generator; StudyError if there is none, or it does not take such a problem."""
        try:
            return resolve_name(self.generator)(vocs, **self.arguments)
        except Exception as error:  # a border: a user's class may raise anything
            raise StudyError(
                f"design.searcher.generator: '{self.generator}' failed with {type(error).__name__}: {error}: name a "
                "class that takes a VOCS of continuous variables and one objective, and its arguments"
            ) from None


class _Suggested:
    """A search in progress."""

    price = 1

    def __init__(self, generator: Any, seed: int) -> None:
        self.generator, self.seed, self.asked = generator, seed, 0
        self.names: dict[bytes, Any] = {}  # of a point, where the generator gives it one

    def ask(self, n: int) -> Array:
        """Return latents (n, d); PluginError if the generator suggests others than it has to."""
        self.asked += 1
        with _seeded(seed_of(self.seed, "suggest", self.asked)):
            points = self.generator.suggest(n)
        if len(points) != n:
            raise PluginError(f"the generator suggested {len(points)} points, asked for were {n}")
        latents = np.array([row_of(point) for point in points], dtype=np.float64)
        for point, row in zip(points, latents, strict=True):
            if "_id" in point:
                self.names[row.tobytes()] = point["_id"]
        return latents

    def tell(self, latents: Array, distances: Array, properties: Mapping[str, Array]) -> None:
        """Ingest the distances (n,); of structures without a result the generator hears nothing."""
        told = _results(latents, distances, self.names)
        with _seeded(seed_of(self.seed, "ingest", self.asked)):
            self.generator.ingest(told)


def bounds_of(latents: Array, reach: float) -> Array:
    """Return the bounds (d, 2) of latents (n, d): so many standard deviations about their mean."""
    middle, spread = latents.mean(axis=0), latents.std(axis=0) + 1e-6
    return np.stack([middle - reach * spread, middle + reach * spread], axis=1)


def vocs_of(bounds: Array) -> Any:
    """Return the VOCS of a search of latents within bounds (d, 2)."""
    from gest_api.vocs import VOCS

    return VOCS(variables={NAME.format(k): ends for k, ends in enumerate(bounds.tolist())},
                objectives={OBJECTIVE: "MINIMIZE"})  # fmt: skip


def row_of(point: Mapping[str, Any]) -> list[float]:
    """Return the latents of a point; PluginError if it lacks one."""
    count = sum(key.startswith("z") and key[1:].isdigit() for key in point)
    try:
        return [float(point[NAME.format(k)]) for k in range(count)]
    except KeyError as error:
        raise PluginError(f"the generator suggested a point without {error}") from None


def _results(latents: Array, distances: Array, names: Mapping[bytes, Any] | None = None) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for row, distance in zip(np.asarray(latents, dtype=np.float64), distances, strict=True):
        if np.isfinite(distance):
            name = {} if not names or row.tobytes() not in names else {"_id": names[row.tobytes()]}
            rows.append({**{NAME.format(k): float(z) for k, z in enumerate(row)}, OBJECTIVE: float(distance), **name})
    return rows


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Give a generator that draws from the shared random numbers the same ones each time, so that a search resumes."""
    import torch

    before, state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng([]):
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(before)
            np.random.set_state(state)


def columns_of(rows: Sequence[Mapping[str, Any]], name: str) -> Array:
    """Return a column (n,) of points; NaN where it is missing."""
    return np.array([float(row.get(name, np.nan)) for row in rows], dtype=np.float64)
