"""The campaign "gradation", and its table."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from msvae.errors import StudyError
from msvae.part.settings import PartSettings
from msvae.plugins.annotations import Count, Fraction, Natural, NonNegative, Share, Voxels
from msvae.plugins.interfaces import Campaign, Place
from msvae.structures import Grid
from msvae.study.checks import check_extra, check_phase
from msvae.study.numbers import Component

if TYPE_CHECKING:
    from msvae.report.drawing import Drawing
    from msvae.run.directory import Run
    from msvae.run.table import Table
    from msvae.stages.context import Context
    from msvae.structures import Structures
    from msvae.study import Study

__all__ = ["Gradation"]


@dataclass(frozen=True)
class Gradation(Campaign):
    """[gradation]: a field of latents for a target over a part, or for the stiffest part of a given mass.

    goal: "profile" reaches `target` in every window; "compliance" minimises the part's compliance at a mean
        fraction of the phase. fraction: that one.
    phase: whose fraction is meant; property, component: what a profile is of instead, if there are any.
    target: a formula of the position x, y, z from 0 to 1 along the part ("0.1 + 0.2 * x").
    shape: of the part. overlap: of neighbouring windows.
    fluctuation: share of the latents' fluctuation that is kept. smoothness, typicality: weights of the penalties.
    through: what descent goes: the head, or (linear properties of two phases) decoder and solver.
    steps: of gradient descent. corrections: sweeps in which the solver's error is taken off the target.
    """

    name = "gradation"
    tables = MappingProxyType({"part": PartSettings})

    shape: tuple[Voxels, ...]
    goal: Literal["profile", "compliance"] = "profile"
    phase: Natural = 1
    property: str = ""
    component: tuple[Natural, ...] = ()
    target: str = ""
    fraction: Share | None = None
    overlap: Annotated[float, Field(ge=0, le=0.5)] = 0.5
    fluctuation: Fraction = 1.0
    smoothness: NonNegative = 0.1
    typicality: NonNegative = 1.0
    through: Literal["head", "solver"] = "head"
    steps: Count = 60
    corrections: Natural = 4

    def __post_init__(self) -> None:
        if self.goal == "profile" and not self.target:
            raise ValueError('goal "profile" needs a target, for example "0.1 + 0.2 * x"')
        if self.goal == "compliance" and self.fraction is None:
            raise ValueError('goal "compliance" needs the mean fraction of the phase')
        if self.goal == "compliance" and self.property:
            raise ValueError(f'goal "compliance" distributes a phase: leave out property, found {self.property!r}')

    @builtins.property
    def of(self) -> Component:
        """The component of a property that is graded, if it is not a phase's fraction."""
        return Component(self.property, self.component)

    def check(self, study: Study) -> None:
        """Raise StudyError where a study has a part but the package of finite elements is missing."""
        if study.find(PartSettings) is not None:
            check_extra(study, ("part",), "skfem", "part")

    def numbers(self) -> Iterator[tuple[Place, Component]]:
        """Yield the component that is graded, if it is not a phase's fraction."""
        if self.property:
            yield ("gradation",), self.of

    def check_structures(self, context: Context, structures: Structures) -> None:
        """Raise StudyError where a part cannot be filled by structures."""
        from msvae.sampling.fields.windows import Windows

        study, specification = context.study, structures.specification
        size, place = specification.grid.shape, context.study.source.at(["gradation", "shape"])
        if len(self.shape) != len(size):
            raise StudyError(f"{place}: expected a number of voxels for each of {len(size)} axes, found {self.shape}")
        part = Grid.of(self.shape, specification.grid.spacing, periodic=False)
        if not Windows(specification, part, self.overlap).inner.any():
            raise StudyError(f"{place}: {self.shape} voxels hold no whole window of {size}")
        if not self.property or self.goal == "compliance":
            check_phase(study, specification, self.phase, ("gradation", "phase"))
        if self.property and self.property not in study.model.heads and self.through == "head":
            raise StudyError(
                f"{study.source.at(['model', 'heads'])}: gradation.property needs a head: add '{self.property}'"
            )

    def run(self, context: Context) -> Table:
        """Return the table of the part's targets and of its measured values."""
        from msvae.campaigns.gradation.run import run

        return run(context)

    def figures(self, run: Run) -> Iterator[Drawing | None]:
        """Yield the graded part."""
        from msvae.campaigns.gradation import figures

        yield figures.gradation(run)
