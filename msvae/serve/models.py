"""The models that a run or a study offers: its head, its decoder, its solver, and the solver on decoded structures.

A model maps vectors to vectors (Seelinger et al. 2023, J. Open Source Softw. 8, 4748): latents, or the values of a
structure voxel by voxel; properties come one vector each, in SI units, in the order of their names.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from msvae.dispatch.evaluation import evaluate
from msvae.errors import DataError, RunError
from msvae.plugins.interfaces import Solver
from msvae.structures import Array, Quantity, Specification, Structures
from msvae.study import Study

if TYPE_CHECKING:
    from msvae.vae.model import VAE

__all__ = ["Design", "Head", "Model", "Solved", "Structure", "UnansweredError", "models_of"]


class UnansweredError(Exception):
    """A model has no answer to a proper question: its solver failed, or gave a number that is not finite."""


class Model(ABC):
    """A map from vectors to vectors. name: what clients call it. inputs, outputs: lengths of the vectors."""

    name: str
    has_gradient: bool = False

    @property
    @abstractmethod
    def inputs(self) -> list[int]: ...

    @property
    @abstractmethod
    def outputs(self) -> list[int]: ...

    def __str__(self) -> str:
        return f"{self.name}: {self.inputs} -> {self.outputs}" + (", with gradients" if self.has_gradient else "")

    @abstractmethod
    def evaluate(self, given: Array) -> list[Array]:
        """Return the output vectors for an input (k,).

        DataError for an input that it does not take, UnansweredError if it failed.
        """

    def gradient(self, output: int, given: Array, sensitivity: Array) -> Array:
        """Return the gradient (k,) of an output vector's product with sensitivity, at an input (k,)."""
        raise UnansweredError(f"model '{self.name}' has no gradient")


def _lengths(quantities: Sequence[Quantity]) -> list[int]:
    return [int(np.prod(q.sizes, dtype=int)) for q in quantities]


@dataclass
class OfLatents(Model):
    """A model of the latents of a structure, at all sites together."""

    vae: VAE

    @cached_property
    def inputs(self) -> list[int]:
        return [int(self.vae.sample_latents(1).shape[1])]


@dataclass
class Head(OfLatents):
    """From latents to the heads' mean of every property."""

    name: str = "head"
    has_gradient: bool = True

    @property
    def outputs(self) -> list[int]:
        return _lengths(self._quantities)

    @cached_property
    def _quantities(self) -> Sequence[Quantity]:
        return sorted(self.vae.blueprint.quantities, key=lambda q: q.name)

    def evaluate(self, given: Array) -> list[Array]:
        found = self.vae.predict(given[None])
        return [found[q.name][0].ravel() for q in self._quantities]

    def gradient(self, output: int, given: Array, sensitivity: Array) -> Array:
        import torch

        from msvae.sampling.search.descent import head_means

        z = torch.as_tensor(given[None], dtype=torch.float32).requires_grad_()
        means = head_means(self.vae, z)[self._quantities[output].name].ravel()
        (means * torch.as_tensor(sensitivity, dtype=means.dtype)).sum().backward()
        assert z.grad is not None
        return z.grad[0].double().numpy()


@dataclass
class Structure(OfLatents):
    """From latents to the values of the decoded structure, voxel by voxel (channels, *grid)."""

    name: str = "decoder"

    @property
    def outputs(self) -> list[int]:
        return [int(np.prod(self.vae.blueprint.specification.shape))]

    def evaluate(self, given: Array) -> list[Array]:
        return [self.vae.decode(given[None]).values[0].astype(np.float64).ravel()]


@dataclass
class Solved(Model):
    """From the values of a structure (channels, *grid), voxel by voxel, to its properties by the solver.

    Phases are their numbers. Numbers between two phases are grey values, where the solver takes such fields; of these
    it may have gradients.
    """

    solver: Solver
    specification: Specification
    name: str = "solver"

    @cached_property
    def has_gradient(self) -> bool:  # type: ignore[override]
        grey = self.specification.kind in ("phases", "field") and "field" in self.solver.kinds
        return grey and type(self.solver).pullback is not Solver.pullback

    @property
    def inputs(self) -> list[int]:
        return [int(np.prod(self.specification.shape))]

    @property
    def outputs(self) -> list[int]:
        return _lengths(self._quantities)

    @cached_property
    def _quantities(self) -> Sequence[Quantity]:
        return sorted(self.solver.quantities(self.specification), key=lambda q: q.name)

    def evaluate(self, given: Array) -> list[Array]:
        return self.solve(self._structure(given))

    def solve(self, structure: Structures) -> list[Array]:
        """Return the properties of a batch of one structure, one vector each."""
        found = evaluate(self.solver, structure, index=0)
        if found.status != "done":
            raise UnansweredError(f"the solver {found.status}: {found.message}")
        vectors = [np.asarray(found.properties[q.name], dtype=np.float64).ravel() for q in self._quantities]
        lost = [q.name for q, v in zip(self._quantities, vectors, strict=True) if not np.isfinite(v).all()]
        if lost:
            raise UnansweredError(f"'{lost[0]}' of this structure is not a finite number")
        return vectors

    def gradient(self, output: int, given: Array, sensitivity: Array) -> Array:
        grey = self._grey(given)
        wanted = self._quantities[output]
        cotangents = {q.name: np.zeros((1, *q.sizes)) for q in self._quantities}
        cotangents[wanted.name] = sensitivity.reshape(1, *wanted.sizes)
        found = self.solver.pullback(grey, cotangents)
        if found is None:
            raise UnansweredError(f"solver '{self.solver.name}' has no gradient here")
        return np.asarray(found, dtype=np.float64).ravel()

    def _structure(self, given: Array) -> Structures:
        """Return the batch of one structure that a vector is; DataError if it is none."""
        values = given.reshape(1, *self.specification.shape)
        if self.specification.kind not in ("phases", "occupation"):
            return Structures(values, self.specification)
        last = len(self.specification.constituents) - 1
        if not ((values >= 0) & (values <= last)).all():
            raise DataError(f"numbers of {self.specification.kind} are from 0 to {last}")
        if (values == np.round(values)).all():
            return Structures(values.astype(np.uint8), self.specification)
        if self.specification.kind == "occupation" or "field" not in self.solver.kinds:
            raise DataError(f"'{self.solver.name}' takes whole numbers of {self.specification.kind}")
        return self._grey(given)

    def _grey(self, given: Array) -> Structures:
        grid = self.specification.grid
        return Structures.from_values(given.reshape(1, *grid.shape), grid.spacing, periodic=grid.periodic)


@dataclass
class Design(OfLatents):
    """From latents to the properties of the decoded structure, by the solver."""

    solved: Solved
    name: str = "design"

    @property
    def outputs(self) -> list[int]:
        return self.solved.outputs

    def evaluate(self, given: Array) -> list[Array]:
        return self.solved.solve(self.vae.decode(given[None]))


def models_of(target: Path, *, trust: bool = False) -> dict[str, Model]:
    """Return the models of a run's directory, or of a study's file, by name.

    trust: whether plugin files and programs of the run may be executed. RunError if there is nothing to offer.
    """
    if target.is_dir():
        from msvae.run.directory import Run
        from msvae.run.outside import check_acting

        run = Run.open(target, trust=trust)
        if not trust:
            check_acting(run.study, target)
        found = _of_run(run.study, run.model if run.model_file.exists() else None)
    else:
        study = Study.load(target)
        found = _of_run(study, None)
    if not found:
        raise RunError(f"'{target}' has neither a trained model nor a solver: there is nothing to serve")
    return {model.name: model for model in found}


def _of_run(study: Study, vae: VAE | None) -> list[Model]:
    found: list[Model] = []
    if vae is not None:
        if vae.blueprint.settings.conditions:
            raise RunError(
                "a conditional model needs conditions beside its latents, which the protocol has no place for"
            )
        found += [Head(vae)] if vae.blueprint.quantities else []
        found.append(Structure(vae))
    if study.solver is not None:
        solver = study.need_solver()
        specification = vae.blueprint.specification if vae else study.need_dataset().load(study.seed).specification
        misfit = solver.misfit(specification)
        if misfit:
            raise RunError(f"solver: {misfit}")
        solved = Solved(solver, specification)
        found += [Design(vae, solved), solved] if vae else [solved]
    return found
