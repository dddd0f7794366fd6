"""The campaign "generate", and its table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from msvae.errors import StudyError
from msvae.plugins.annotations import Count, Finite
from msvae.plugins.interfaces import Campaign, Place
from msvae.study.checks import check_component
from msvae.study.numbers import Component

if TYPE_CHECKING:
    from msvae.report.drawing import Drawing
    from msvae.run.directory import Run
    from msvae.run.table import Table
    from msvae.stages.context import Context
    from msvae.stages.expected import Expected
    from msvae.study import Study

__all__ = ["Generate"]


@dataclass(frozen=True)
class Generate(Campaign):
    """[generate]: structures for given values of the conditions.

    values: one row for each asked combination of the model's conditions; with one condition a plain number will do.
    samples: structures for each row.
    verify: the number that the solver computes of each structure, to be compared with the first condition.
    """

    name = "generate"

    values: Annotated[tuple[Finite | tuple[Finite, ...], ...], Field(min_length=1)]
    samples: Count = 8
    verify: Component | None = None

    @property
    def rows(self) -> list[tuple[float, ...]]:
        """The given values, one tuple for each combination."""
        return [row if isinstance(row, tuple) else (row,) for row in self.values]

    def check(self, study: Study) -> None:
        """Raise StudyError where values do not fit the conditions, or nothing evaluates the generated structures."""
        if self.verify is not None:
            computed = {q.name: q for q in study.need_solver().computes}
            check_component(self.verify, computed, study.source, ("generate", "verify"))
        width = len(study.model.conditions)
        if width == 0:
            raise StudyError(
                f"{study.source.at(['model', 'conditions'])}: campaign 'generate' needs at least one condition"
            )
        for k, row in enumerate(self.rows):
            if len(row) != width:
                raise StudyError(
                    f"{study.source.at(['generate', 'values', k])}: found {len(row)} values, expected one for "
                    f"each of the {width} conditions"
                )
        judged, head = study.model.conditions[0].property, study.structure_head
        if head is None or judged not in head.properties:
            raise StudyError(
                f"{study.source.at(['structure_head', 'properties'])}: generated structures are judged by a "
                f"structure-space head, so it has to predict '{judged}'"
            )

    def numbers(self) -> Iterator[tuple[Place, Component]]:
        """Yield the number that the solver verifies."""
        if self.verify is not None:
            yield ("generate", "verify"), self.verify

    def expects(self, study: Study, seconds: float) -> Iterator[Expected]:
        """Yield the generated structures that the solver verifies."""
        from msvae.stages.expected import Expected

        if self.verify is not None:
            yield Expected("verification", len(self.values) * self.samples)

    def run(self, context: Context) -> Table:
        """Return, for each given value, the values found in the generated structures."""
        from msvae.campaigns.generate.run import run

        return run(context)

    def figures(self, run: Run) -> Iterator[Drawing | None]:
        """Yield the generated structures, and the values found against those given."""
        from msvae.campaigns.generate import figures

        yield figures.generated(run)
        yield figures.targets_and_results(run)
