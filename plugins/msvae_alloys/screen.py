"""The campaign "screen": compositions that have a property, found in three ways under the same constraints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from msvae import (
    Campaign,
    Component,
    Count,
    Distinct,
    Finite,
    Fraction,
    NonNegative,
    Positive,
    Rule,
    Settings,
    StudyError,
)

if TYPE_CHECKING:
    from msvae import Context, Drawing, Run, Study, Table

Workflow = Literal["candidates", "latents", "inversion"]


@dataclass(frozen=True)
class Bound(Settings):
    """An element's fraction. element: its symbol. low, high: of its fraction."""

    element: str
    low: Fraction = 0.0
    high: Fraction = 1.0

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"low is at most high, found {self.low:g} and {self.high:g}")


@dataclass(frozen=True)
class Screen(Campaign):
    """[screen]: compositions with an asked class or value of a condition of the model, best first.

    target: the condition. value: that it is to have. tolerance: half of the width of the accepted range, of a number.
    workflows: "candidates" judges random compositions of the allowed elements; "latents" decodes samples of the latents
        with the asked condition; "inversion" ascends the probability from the best of both.
    count: of candidates of each workflow. keep: compositions of each workflow in the table's file.
    elements: that may occur; by default those of the data set. bounds: of their fractions.
    largest: fraction that any element may have. number: of elements, least and most.
    least_fraction: below which a fraction counts as none.
    unknown: classes of alloys that have none are completed in training by the "model" (semi-supervised), or before it
        by a "forest" of the others, which learns more where few are known; probabilities are then too sure.
    distance: to the nearest known alloy, at most, as a share of the atoms: farther away a model has seen nothing. By
        default that within which half of the known alloys have another one.
    price: at most, of the elements. density: least and most, by the rule of mixtures.
    """

    name = "screen"

    target: Component
    value: Finite = 1.0
    tolerance: NonNegative = 0.0
    workflows: Annotated[tuple[Workflow, ...], Field(min_length=1), Distinct] = ("candidates", "latents", "inversion")
    count: Count = 100_000
    keep: Annotated[Count, Field(le=10_000)] = 100
    elements: Annotated[tuple[str, ...], Distinct] = ()
    bounds: tuple[Bound, ...] = ()
    number: Annotated[tuple[Count, Count], Rule("the least and the most elements", lambda r: r[0] <= r[1])] = (2, 6)
    largest: Annotated[Fraction, Field(gt=0)] = 1.0
    least_fraction: Annotated[Fraction, Field(gt=0, lt=0.2)] = 0.01
    unknown: Literal["model", "forest"] = "model"
    distance: Annotated[Fraction, Field(gt=0)] | None = None
    price: Positive | None = None
    density: tuple[NonNegative, Positive] | None = None

    def place(self, conditions: Sequence[Component]) -> int | None:
        """Return which of a model's conditions is the target; None if none is."""
        names = [(c.property, c.component) for c in conditions]
        own = (self.target.property, self.target.component)
        return names.index(own) if own in names else None

    def check(self, study: Study) -> None:
        """Raise StudyError where the target is no condition of a semi-supervised model."""
        place = self.place(study.model.conditions)
        if not study.model.semi_supervised or place is None:
            raise StudyError(
                f"{study.source.at(['screen', 'target'])}: '{self.target}' has to be a condition of the model, which "
                "predicts it: name it in model.conditions, and set model.semi_supervised = true"
            )
        condition, count = study.model.conditions[place], len(study.model.conditions)
        if condition.classes and self.value not in range(condition.classes):
            raise StudyError(
                f"{study.source.at(['screen', 'value'])}: found {self.value:g}, expected a class from 0 to "
                f"{condition.classes - 1}"
            )
        if self.unknown == "forest" and not condition.classes:
            raise StudyError(
                f"{study.source.at(['screen', 'unknown'])}: a forest completes classes, '{self.target}' is a number: "
                "leave it at 'model'"
            )
        if not condition.classes and not self.tolerance:
            raise StudyError(f"{study.source.at(['screen'])}: a number is met within a tolerance: add screen.tolerance")
        if count > 1 and "latents" in self.workflows:
            raise StudyError(
                f"{study.source.at(['screen', 'workflows'])}: 'latents' decodes with the target as the only condition, "
                f"found {count} in model.conditions: leave the others or this workflow out"
            )
        for k, bound in enumerate(self.bounds):
            if self.elements and bound.element not in self.elements:
                raise StudyError(
                    f"{study.source.at(['screen', 'bounds', k, 'element'])}: '{bound.element}' is not among "
                    "screen.elements: add it, or leave the bound out"
                )

    def run(self, context: Context) -> Table:
        """Return the best compositions of each workflow; the whole pool is written as CSV."""
        from msvae_alloys.screening import run

        return run(context, self)

    def figures(self, run: Run) -> Iterator[Drawing | None]:
        """Yield the pool's probabilities and elements, and what the prediction depends on."""
        from msvae_alloys.figures import attributions, pool

        yield pool(run)
        yield attributions(run)
