"""Realisations: samples of a part (or of a single structure) and the quantity of interest of each.

A worker receives a recipe of file names and the numbers of samples. A sample's latents follow from its number and the
study's seed, so that every fidelity, on any rank, evaluates the same sample. A fidelity is a way to compute properties
from latents: the head on latents, the structure-space head on decoded latents, the solver on a grid of half the
resolution, or the solver. Each sample carries the solver's estimate of its discretisation error. For a single structure
it is the error of the number; for a part it is the change of a quantity when the properties of all elements are changed
by their errors, which have one sign.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from msvae.campaigns.push_forward.campaign import Fidelity, PushForward
from msvae.dispatch import world
from msvae.dispatch.evaluation import evaluate
from msvae.dispatch.known import File
from msvae.dispatch.tasks import Recipe, Task, model_of, solved, study_of
from msvae.errors import DataError, MsvaeError, StudyError
from msvae.metrics.solver_errors import relative_errors
from msvae.part.problem import Problem
from msvae.part.settings import PartSettings
from msvae.sampling.fields.latent_field import LatentField
from msvae.seeds import seed_of
from msvae.structures import Array, Grid, Structures
from msvae.structures.evaluations import ESTIMATES, Evaluation, Evaluations
from msvae.vae.blueprint import component_values

if TYPE_CHECKING:
    from msvae.vae.structure_head import StructureHead

__all__ = ["Realisations", "coarsened", "properties_at", "realise"]

Kind = Literal["field", "uncorrelated", "homogeneous"]
T = TypeVar("T")
Estimates = dict[str, dict[str, T]]  # of errors: by family, then by name


@dataclass(frozen=True)
class Realisations:
    """Where a worker finds the data of samples, and which quantities it computes of each.

    recipe: study, model (and structures) of the run. head: file of the structure-space head. field: of the latents;
    without one samples are single structures. quantities: of interest, names. batch: samples of one scrambled Sobol'
    sequence, 1 for independent ones. modes: of a field that the sequence draws. kind: latents as the field has them,
    independent at every element, or none: the mean properties of `average` samples everywhere.
    """

    recipe: Recipe
    fidelity: Fidelity
    quantities: tuple[str, ...]
    head: File | None = None
    field: File | None = None
    batch: int = 1
    modes: int = 0
    kind: Kind = "field"
    average: int = 64

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the quantities in tables, where properties of structures may have the same names."""
        return tuple(f"{'part' if self.field else 'structure'}: {name}" for name in self.quantities)


def realise(job: Realisations, tasks: Sequence[Task]) -> Evaluations:
    """Return the quantities of interest of the samples with these numbers."""
    return Evaluations.of([_realised(job, task.index) for task in tasks])


def _realised(job: Realisations, index: int) -> Evaluation:
    start = time.perf_counter()
    status, message = "done", ""
    found: dict[str, float] = {}
    estimates: Estimates[float] = {}
    latents = np.zeros(0)
    try:
        found, estimates, latents = _sample(job, index)
        if not np.isfinite(list(found.values())).all():
            status, message = "invalid", "a quantity of interest is not a finite number"
    except MemoryError as error:
        status, message = "crashed", f"it ran out of memory ({error or 'MemoryError'})"
    except Exception as error:  # a border: a solver may raise anything, and the campaign goes on
        status, message = "failed", str(error) if isinstance(error, MsvaeError) else f"{type(error).__name__}: {error}"
    if status != "done":
        found, estimates = {}, {}
    return Evaluation(
        index,
        "",
        status,  # type: ignore[arg-type]
        {name: np.array(np.nan) for name in job.names} | _named(job, found),
        message,
        latents=latents,
        cost=time.perf_counter() - start,
        seed=seed_of(study_of(job.recipe.study).seed, "sample", index),
        rank=world.rank(),
        errors=_named(job, estimates.get("errors", {})),
        iteration_errors=_named(job, estimates.get("iteration_errors", {})),
    )


def _named(job: Realisations, numbers: Mapping[str, float]) -> dict[str, Array]:
    """Return the known ones of the job's quantities, by their names in tables."""
    pairs = zip(job.names, job.quantities, strict=True)
    return {named: np.array(numbers[name]) for named, name in pairs if name in numbers}


def _sample(job: Realisations, index: int) -> tuple[dict[str, float], Estimates[float], Array]:
    """Return the quantities of interest of one sample, their errors if known, and the latents of a single structure."""
    study, vae = study_of(job.recipe.study), model_of(job.recipe)
    if job.field is None:
        replicate, row = divmod(index, job.batch)
        latents = vae.sample_latents(job.batch, seed_of(study.seed, "sample", replicate))[row : row + 1]
        name, of = job.quantities[0], study.need(PushForward).of
        properties, estimates = _answers(job, latents)
        value = float(component_values(properties, of)[0])
        known = {
            family: {name: abs(float(component_values(errors, of)[0]))}
            for family, errors in estimates.items()
            if of.property in errors
        }
        return {name: value}, known, latents[0]
    problem = problem_of(job.recipe.study)
    properties, estimates = _part_answers(job, problem, index)
    found = dict(problem.respond(properties).quantities)
    return found, {"errors": _part_errors(problem, properties, estimates.get("errors", {}), found)}, np.zeros(0)


def _part_errors(
    problem: Problem, properties: Mapping[str, Array], errors: Mapping[str, Array], found: Mapping[str, float]
) -> dict[str, float]:
    """Return by how much quantities change when each property (e, *shape) is larger by its relative error."""
    shares = {}
    for name, array in errors.items():
        share, zero = relative_errors(properties[name], array), ~properties[name].reshape(len(array), -1).any(axis=1)
        shares[name] = np.where(zero, 0.0, share)
    if not shares or not all(np.isfinite(share).all() for share in shares.values()):
        return {}
    larger = {
        name: array * (1 + shares[name].reshape(-1, *(1,) * (array.ndim - 1))) if name in shares else array
        for name, array in properties.items()
    }
    try:
        moved = problem.respond(larger).quantities
    except DataError:  # the sample itself has an answer
        return {}
    return {name: abs(moved[name] - value) for name, value in found.items()}


def _part_answers(job: Realisations, problem: Problem, index: int) -> tuple[dict[str, Array], Estimates[Array]]:
    """Return the properties (e, *shape) of the elements of a part in one sample, and their errors where known."""
    study, points = study_of(job.recipe.study), problem.centres
    field = field_of(job)
    seed = seed_of(study.seed, "part", index)
    if job.kind == "field":
        leading = _sobol_normals(job, index, job.modes * field.width) if job.batch > 1 else None
        return _answers(job, field.sample(points, 1, seed, leading=leading)[0])
    if job.kind == "uncorrelated":
        return _answers(job, field.independent(points, seed))
    return mean_properties(job, points), {}


def _sobol_normals(job: Realisations, index: int, size: int) -> Array:
    """Return the normal numbers (1, size) of a sample's place in the scrambled Sobol' sequence that it belongs to."""
    replicate, row = divmod(index, job.batch)
    seed = seed_of(study_of(job.recipe.study).seed, "sequence", replicate)
    return _sequence(job.batch, size, seed)[row : row + 1]


@lru_cache(maxsize=2)
def _sequence(count: int, size: int, seed: int) -> Array:
    from scipy import special
    from scipy.stats import qmc

    points = qmc.Sobol(size, scramble=True, rng=np.random.default_rng(seed)).random(count)
    return np.asarray(special.ndtri(np.clip(points, 1e-12, 1 - 1e-12)))


@lru_cache(maxsize=2)
def _mean_of(job: Realisations) -> dict[str, Array]:
    study = study_of(job.recipe.study)
    points = problem_of(job.recipe.study).centres
    rows = np.random.default_rng(seed_of(study.seed, "mean")).integers(len(points), size=job.average)
    found = properties_at(job, field_of(job).independent(points[rows], seed_of(study.seed, "mean")))
    return {name: array.mean(axis=0) for name, array in found.items()}


def mean_properties(job: Realisations, points: Array) -> dict[str, Array]:
    """Return the mean properties of uncorrelated samples (e, *shape), the same at all points (e, d)."""
    return {name: np.broadcast_to(m, (len(points), *m.shape)) for name, m in _mean_of(job).items()}


def properties_at(job: Realisations, latents: Array) -> dict[str, Array]:
    """Return the properties (n, *shape) of latents (n, d) as the job's fidelity has them; DataError if one has none."""
    return _answers(job, latents)[0]


def _answers(job: Realisations, latents: Array) -> tuple[dict[str, Array], Estimates[Array]]:
    """Return the properties (n, *shape) of latents (n, d), and the solver's estimates of their errors.

    None for fidelities other than "solver", and for properties without an estimate for every structure.
    """
    vae = model_of(job.recipe)
    if job.fidelity == "head":
        return vae.predict(latents), {}
    structures = vae.decode(latents)
    if job.fidelity == "structure-head":
        return _head(job, structures).predict(structures), {}
    if job.fidelity == "coarse-solver":
        solver = study_of(job.recipe.study).need_solver()
        structures = coarsened(structures, grey="field" in solver.kinds)
        outcomes = [evaluate(solver, structures[k], index=k) for k in range(len(structures))]
    else:
        outcomes = [solved(job.recipe, structures[k], {"index": k}) for k in range(len(structures))]
    for outcome in outcomes:
        if outcome.status != "done":
            raise DataError(f"structure {outcome.index} of it {outcome.status}: {outcome.message}")
    properties = {name: np.stack([o.properties[name] for o in outcomes]) for name in outcomes[0].properties}
    return properties, _estimates(outcomes) if job.fidelity == "solver" else {}


def _estimates(outcomes: Sequence[Evaluation]) -> Estimates[Array]:
    """Return the estimates of errors (n, *shape) of the properties that all outcomes have."""
    found: Estimates[Array] = {}
    for family in ESTIMATES:
        rows = [getattr(outcome, family) for outcome in outcomes]
        names = set.intersection(*map(set, rows))
        found[family] = {name: np.stack([row[name] for row in rows]) for name in sorted(names)}
    return found


def coarsened(structures: Structures, *, grey: bool) -> Structures:
    """Return structures on a grid of half the resolution; DataError if an axis has an odd number of voxels.

    Two phases become grey values where the solver takes them (grey), else every second voxel is taken.
    """
    s = structures.specification
    if any(n % 2 for n in s.grid.shape):
        raise DataError(f"fidelity 'coarse-solver' needs even numbers of voxels, found {s.grid.shape}")
    spacing = tuple(2 * h for h in s.grid.spacing)
    half = tuple(n // 2 for n in s.grid.shape)
    if grey and (s.kind == "field" or len(s.constituents) == 2):
        values = structures.values[:, 0].astype(np.float32)
        for axis in range(1, values.ndim):
            values = values.reshape(*values.shape[:axis], -1, 2, *values.shape[axis + 1 :]).mean(axis=axis + 1)
        return Structures.from_values(values, spacing, periodic=s.grid.periodic)
    every = (slice(None), slice(None), *(slice(None, None, 2),) * len(half))
    grid = Grid.of(half, spacing, periodic=s.grid.periodic)
    return Structures(structures.values[every], replace(s, grid=grid))


@lru_cache(maxsize=2)
def problem_of(study: File) -> Problem:
    """Return the part of a study's file."""
    settings = study_of(study).need(PartSettings)
    return Problem(settings, Path(study.path).parent)


def field_of(job: Realisations) -> LatentField:
    """Return the field of latents of a job."""
    assert job.field is not None
    return _field(job.field, job.recipe.model)


@lru_cache(maxsize=2)
def _field(file: File, model: File | None) -> LatentField:
    from msvae.vae.files import load_model

    assert model is not None
    return LatentField.load(Path(file.path), load_model(Path(model.path)))


def _head(job: Realisations, structures: Structures) -> StructureHead:
    if job.head is None:
        raise StudyError("fidelity 'structure-head' needs a [structure_head]")
    return _loaded_head(job.head, job.recipe.study, structures.specification)


@lru_cache(maxsize=2)
def _loaded_head(file: File, study: File, specification: Any) -> StructureHead:
    from msvae.vae.files import load_structure_head

    known = study_of(study)
    assert known.structure_head is not None
    assert known.architecture is not None
    return load_structure_head(Path(file.path), specification, known.structure_head, known.architecture)
