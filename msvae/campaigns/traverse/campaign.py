"""The campaign "traverse", and its table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from msvae.errors import StudyError
from msvae.plugins.annotations import Count, Natural, Positive
from msvae.plugins.interfaces import Campaign
from msvae.study.checks import check_component
from msvae.vae.blueprint import LEAST_FOR_AXES

if TYPE_CHECKING:
    from msvae.report.drawing import Drawing
    from msvae.run.directory import Run
    from msvae.run.table import Table
    from msvae.stages.context import Context
    from msvae.stages.expected import Expected
    from msvae.study import Study

__all__ = ["Traverse"]


@dataclass(frozen=True)
class Traverse(Campaign):
    """[traverse]: each property in model.axes is changed along its axis while the others are held; the solver verifies.

    samples: structures decoded from the model's prior and solved, to which the axes are fitted: what counts is the
        property of what the decoder makes; 0 takes the axes that training fitted to the data set.
    traversals: of each property; every one starts from another held-out structure.
    steps: structures of a traversal.
    reach: half the length of a traversal, in standard deviations of the property given the held ones.
    corrections: times that every structure is corrected by what the solver found of it; 0 is the axes alone.
    """

    name = "traverse"

    samples: Natural = 1000
    traversals: Count = 20
    steps: Annotated[int, Field(ge=3)] = 7
    reach: Positive = 1.5
    corrections: Natural = 3

    def check(self, study: Study) -> None:
        """Raise StudyError where the model has no axes of properties that the solver computes, or is conditional."""
        axes, at = study.model.axes, study.source.at
        computed = {q.name: q for q in study.need_solver().computes}
        if not axes:
            raise StudyError(
                f"{at(['model', 'axes'])}: campaign 'traverse' needs at least one number of a property that gets an "
                'axis, as in [{ property = "conductivity", component = [0, 0] }]'
            )
        for k, number in enumerate(axes):
            check_component(number, computed, study.source, ("model", "axes", k))
        if study.model.conditions:
            raise StudyError(
                f"{at(['model', 'conditions'])}: campaign 'traverse' moves along axes of the latents and takes no "
                "conditional model: leave the conditions away, or use campaign 'generate'"
            )
        if 0 < self.samples < LEAST_FOR_AXES:
            raise StudyError(
                f"{at(['traverse', 'samples'])}: axes are fitted to at least {LEAST_FOR_AXES} structures, found "
                f"{self.samples}; 0 takes those that training fitted"
            )

    def expects(self, study: Study, seconds: float) -> Iterator[Expected]:
        """Yield the samples that axes are fitted to, and the traversals with their corrections."""
        from msvae.stages.expected import Expected

        yield Expected("samples", self.samples)
        yield Expected("traversals", len(study.model.axes) * self.traversals * self.steps * (1 + self.corrections))

    def run(self, context: Context) -> Table:
        """Return, for each property, how it follows its axis and how still the others are, by the solver."""
        from msvae.campaigns.traverse.run import run

        return run(context)

    def figures(self, run: Run) -> Iterator[Drawing | None]:
        """Yield a traversal's structures above the solver's values of all traversals."""
        from msvae.campaigns.traverse import figures

        yield from figures.traversals(run)
