"""The interfaces of data sets, architectures, solvers, searchers and campaigns, which plugins subclass.

A plugin class is a frozen dataclass. Its fields are its settings, which are the keys of its table in the study. Its
class attributes declare its name, its inputs and its outputs. This is a complete solver:

    @dataclass(frozen=True)
    class MeanDensity(msvae.Solver):
        '''Mean mass density of a composite.'''
        name = "mean-density"
        kinds = ("phases",)
        computes = (msvae.Quantity("density", "kg/m^3"),)
        densities: tuple[float, ...]

        def evaluate(self, structures):
            return {"density": structures.fractions @ self.densities}

It is announced by a module-level function `msvae_solvers` that returns `[MeanDensity]`, marked with `@msvae.hook`.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from msvae.errors import StudyError
from msvae.plugins.keys import Place, Settings
from msvae.structures import KINDS, Array, Kind, Quantity, Specification, Structures

if TYPE_CHECKING:  # a campaign is given what stands above it
    import numpy as np
    from torch import nn

    from msvae.report.drawing import Drawing
    from msvae.run.directory import Run
    from msvae.run.table import Table
    from msvae.sampling.search.problem import AskTell, Problem
    from msvae.stages.context import Context
    from msvae.stages.expected import Expected
    from msvae.study import Study
    from msvae.study.numbers import Component

__all__ = ["Architecture", "Campaign", "Dataset", "Place", "Plugin", "Searcher", "Settings", "Solver"]


@dataclass(frozen=True)
class Plugin(Settings, ABC):
    """Parent of data sets, architectures and solvers, which take or give structures.

    name: what the study calls it; lower case with hyphens.
    kinds: the kinds of structure that it takes (a data set: gives).
    dimensions: the numbers of grid axes that it takes (a data set: gives); 0 for compositions.
    """

    name: ClassVar[str]
    kinds: ClassVar[tuple[Kind, ...]] = KINDS
    dimensions: ClassVar[tuple[int, ...]] = (2, 3)

    def misfit(self, specification: Specification) -> str | None:
        """Return the reason why structures of this specification are not supported, or None if they are."""
        if specification.kind not in self.kinds:
            cut = specification.kind == "field" and "phases" in self.kinds
            how = ": cut grey values to phases, with dataset.threshold or dataset.labels" if cut else ""
            return (
                f"'{self.name}' takes structures of kind {' or '.join(self.kinds)}, found '{specification.kind}'{how}"
            )
        if specification.grid.dimensions not in self.dimensions:
            allowed = " or ".join(map(str, self.dimensions))
            return f"'{self.name}' takes grids of {allowed} dimensions, found {specification.grid.dimensions}"
        return None


@dataclass(frozen=True)
class Dataset(Plugin):
    """A source of structures, with or without known properties."""

    def solver(self) -> str | None:
        """Return name and key of the solver that computed the known properties; by default None, if none did."""
        return None

    @abstractmethod
    def load(self, seed: int) -> Structures:
        """Return all structures; the same settings and seed give the same values. Raise DataError on bad files."""

    @classmethod
    @abstractmethod
    def example(cls, n: int, seed: int) -> Structures:
        """Return n structures of this kind, generated without files."""

    def image(self, seed: int) -> Structures | None:
        """Return the image of a whole specimen, of which structures are cut, as a batch of one; None without."""
        return None

    def prepare(self, root: Path) -> None:
        """Download or convert what `load` reads, below root; the only place that may do so."""


@dataclass(frozen=True)
class Architecture(Plugin):
    """A pair of networks. The core turns their outputs into distributions; it never sees their layers."""

    @abstractmethod
    def encoder(self, specification: Specification, channels: int, features: int) -> nn.Module:
        """Return a module from (n, channels, *grid) to (n, features).

        channels: of the tensor that the core feeds in, for example one per phase; not the specification's.
        """

    @abstractmethod
    def decoder(self, specification: Specification, channels: int, inputs: int) -> nn.Module:
        """Return a module from (n, inputs) to (n, channels, *grid)."""

    def latent_grid(self, specification: Specification) -> tuple[int, ...]:
        """Return the grid of sites that have their own latents; by default (), if latents are a vector.

        With a grid, the encoder's module returns (n, features, *sites), and the decoder's takes (n, inputs, *sites);
        both take grids of any size.
        """
        return ()


@dataclass(frozen=True)
class Solver(Plugin):
    """Turns structures into properties.

    computes: the properties that `evaluate` returns, with units and shapes.
    ranks: number of MPI ranks that one evaluation takes, where the study does not say.
    executes: settings that name or make programs: those of a stranger's run are executed only if it is trusted.
    """

    computes: ClassVar[tuple[Quantity, ...]] = ()
    executes: ClassVar[tuple[str, ...]] = ()
    ranks: ClassVar[int] = 1

    @abstractmethod
    def evaluate(self, structures: Structures) -> Mapping[str, Array]:
        """Return every property of `computes` as an array (n, *shape) of float64.

        A structure without a result has NaN in its rows; return msvae.Properties to give the reason in `failures`.
        The result of a structure must not depend on the others in the batch.
        """

    def evaluate_on(self, communicator: Any, structures: Structures) -> Mapping[str, Array]:
        """Do what `evaluate` does, on all ranks of an mpi4py communicator together.

        Every rank calls it with the same structures; the first rank's return value is used. An MPI-parallel solver
        overrides it; by default every rank does all the work.
        """
        return self.evaluate(structures)

    @property
    def materials(self) -> int | None:
        """For how many phases, from phase 0, the solver has a material; None, as here, where it needs none."""
        return None

    @property
    def together(self) -> int:
        """How many structures one call of `evaluate` is given where a call costs much; 1, as here, else."""
        return 1

    def expected_costs(self, structures: Structures) -> Array | None:
        """Return the expected cost (n,) of each structure in any unit, so that long ones start first; None if equal."""
        return None

    def pullback(self, structures: Structures, cotangents: Mapping[str, Array]) -> Array | None:
        """Return the gradient of sum_p <cotangent_p, property_p> with respect to the values (n, channels, *grid).

        None, the default, if a solver has no gradient. See msvae.differentiable for its use with torch.
        """
        return None

    def folder_of(self, structure: Structures, *, inputs: bool = False) -> Path | None:
        """Return the folder that a program leaves behind for one structure, or a new one with its inputs; or None."""
        return None

    def fields(self, structures: Structures) -> Mapping[str, Array]:
        """Return fields on the voxels of one structure, by name (*grid, components); by default none."""
        return {}

    def conditions(self, specification: Specification) -> Mapping[str, str]:
        """Return the solver's automatic choices for structures of a specification, such as {"boundary": "mirrored"}.

        They are stored with the results. None, the default, if the settings determine everything.
        """
        return {}

    def quantities(self, specification: Specification) -> tuple[Quantity, ...]:
        """Return `computes` with shapes for the specification's number of dimensions."""
        return tuple(q.resolve(specification.grid.dimensions) for q in self.computes)

    @classmethod
    def example(cls) -> Solver:
        """Return a solver for two-constituent test structures; override it where the defaults do not fit them."""
        return cls()


@dataclass(frozen=True)
class Searcher(Settings, ABC):
    """A strategy that looks for structures with asked properties: which latents the solver is asked for next.

    name: what the study calls it (design.searcher); lower case with hyphens.
    learns: whether it is given what is known of the data set, and heads that learn from the answers.
    heads: whether it is led by the model's heads, which then have to predict every targeted property.
    conditions: whether the model has to be conditional, on the targets.
    fronts: whether it can seek the front of two objectives.
    package: a module that it needs, and the extra of msvae that brings it.
    """

    name: ClassVar[str]
    learns: ClassVar[bool] = True
    heads: ClassVar[bool] = False
    conditions: ClassVar[bool] = False
    fronts: ClassVar[bool] = False
    package: ClassVar[tuple[str, str] | None] = None

    @abstractmethod
    def search(self, problem: Problem) -> AskTell:
        """Start a search: its `ask(n)` returns latents (n, d), its `tell` learns from their results.

        With the same seed and the same results it asks the same, so that a killed search resumes by replaying its
        record.
        """

    def front(self, problem: Problem, losses: Any, rng: np.random.Generator) -> AskTell:
        """Return a search for the front of two losses, of a searcher with `fronts`.

        losses: of properties, (n, 2); its `weighed(share, properties)` gives (n,).
        """
        raise StudyError(f"searcher '{self.name}' finds no Pareto fronts")


@dataclass(frozen=True)
class Campaign(Settings, ABC):
    """A question that a study asks: what is evaluated and learned for it, and the table that answers it.

    name: what the study calls it; lower case with hyphens.
    table: the table of the study that has its settings, which are the fields of the class; by default it has the name
        of the campaign, with underscores.
    tables: further tables of the study that it reads, which several campaigns may share: their classes, by name.
    needs: those of its tables that have to be there.
    prepares: what comes first: "structures" of the data set, their "labels", or a "model" that is trained on them.
    """

    name: ClassVar[str]
    table: ClassVar[str] = ""
    tables: ClassVar[Mapping[str, type[Settings]]] = MappingProxyType({})
    needs: ClassVar[tuple[str, ...]] = ()
    prepares: ClassVar[Literal["structures", "labels", "model"]] = "model"

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "table" not in vars(cls) and isinstance(vars(cls).get("name"), str):
            cls.table = cls.name.replace("-", "_")

    @classmethod
    def all_tables(cls) -> dict[str, type[Settings]]:
        """Return the classes of its tables, by name: its own, if it has settings, and further ones."""
        return {**cls.tables, **({cls.table: cls} if dataclasses.fields(cls) else {})}

    def check(self, study: Study) -> None:
        """Raise StudyError if individually valid tables are inconsistent; called before anything runs."""

    def numbers(self) -> Iterable[tuple[Place, Component]]:
        """Return the components of properties that it uses, and the key of the study that names each."""
        return ()

    def labels(self) -> Iterable[str]:
        """Return the properties needed as labels of the data set before training, besides those of the model."""
        return ()

    def expects(self, study: Study, seconds: float) -> Iterable[Expected] | None:
        """Return what it does after that, where a call takes seconds; None, the default, if nobody knows beforehand."""
        return None

    def check_structures(self, context: Context, structures: Structures) -> None:
        """Raise StudyError, DataError or TargetError if it needs something that the structures lack.

        Called before structures are labelled for a training, and before the training.
        """

    @abstractmethod
    def run(self, context: Context) -> Table:
        """Run the campaign and return its table; evaluations and files written through the context stay in the run."""

    def figures(self, run: Run) -> Iterable[Drawing | None]:
        """Return the figures of a run's report besides the common ones; None where there are no data."""
        return ()
