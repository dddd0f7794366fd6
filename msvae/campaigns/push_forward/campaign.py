"""The campaign "push-forward", and its table."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from msvae.errors import StudyError
from msvae.part.settings import PartSettings
from msvae.plugins.annotations import Count, Finite, Natural, Positive, Share
from msvae.plugins.interfaces import Campaign, Place
from msvae.sampling.fields.settings import FieldSettings
from msvae.study.checks import check_component, check_extra, check_property
from msvae.study.numbers import Component

if TYPE_CHECKING:
    from msvae.report.drawing import Drawing
    from msvae.run.directory import Run
    from msvae.run.table import Table
    from msvae.stages.context import Context
    from msvae.structures import Structures
    from msvae.study import Study

__all__ = ["FIDELITIES", "Fidelity", "PushForward"]

Fidelity = Literal["head", "structure-head", "coarse-solver", "solver"]
FIDELITIES: tuple[Fidelity, ...] = ("solver", "coarse-solver", "structure-head", "head")


@dataclass(frozen=True)
class PushForward(Campaign):
    """[push_forward]: microstructural uncertainty propagated to a quantity of interest.

    quantity: of the part. property, component: without a [part], the number of a property of a single structure.
    fidelity: the one that counts. cheap: those that help it. pilot: samples of which all fidelities are computed.
    budget: cost that may be spent, in evaluations of the fidelity that counts. most: samples of a cheap one.
    half_width: of the mean's interval, relative to the mean, at which sampling stops; none spends the budget.
    confidence: of the intervals. probabilities: of the quantiles. threshold: whose exceedance is a failure.
    sampler: "monte-carlo", or "sobol" (scrambled). replicates: its independent scramblings. modes: of a part's field,
        the Karhunen-Loeve modes of largest variance, that the sequence draws; the rest of the field stays random.
    control: samples of the controls, without correlation and with homogeneous properties; 0 for none.
    """

    name = "push-forward"
    tables = MappingProxyType({"part": PartSettings, "field": FieldSettings})

    quantity: str = ""
    property: str = ""
    component: tuple[Natural, ...] = ()
    fidelity: Fidelity = "solver"
    cheap: tuple[Fidelity, ...] = ()
    pilot: Annotated[int, Field(ge=8, lt=2**31)] = 20
    budget: Count = 50
    most: Count = 5000
    half_width: Positive | None = None
    confidence: Share = 0.95
    probabilities: tuple[Share, ...] = (0.05, 0.5, 0.95)
    threshold: Finite | None = None
    sampler: Literal["monte-carlo", "sobol"] = "monte-carlo"
    replicates: Annotated[int, Field(ge=2, lt=2**31)] = 8
    modes: Count = 4
    control: Natural = 0

    def __post_init__(self) -> None:
        if bool(self.quantity) == bool(self.property):
            raise ValueError("give the quantity of a part, or the property (and component) of a structure, not both")
        if self.fidelity in self.cheap or len(set(self.cheap)) < len(self.cheap):
            raise ValueError(f"cheap fidelities differ from each other and from '{self.fidelity}', found {self.cheap}")
        if self.sampler == "sobol" and self.cheap:
            raise ValueError("the Sobol sampler is for one fidelity: leave out cheap, or take 'monte-carlo'")
        if self.pilot > self.budget:
            raise ValueError(f"the pilot's {self.pilot} samples are more than the budget of {self.budget}")

    @builtins.property
    def of(self) -> Component:
        """The component of a structure's property."""
        return Component(self.property, self.component)

    def check(self, study: Study) -> None:
        """Raise StudyError where nothing computes the quantity that is pushed forward."""
        part = study.find(PartSettings)
        if self.quantity:
            check_extra(study, ("part",), "skfem", "part")
            for table, found in (("part", part), ("field", study.find(FieldSettings))):
                if found is None:
                    raise StudyError(
                        f"{study.source.at(['push_forward', 'quantity'])}: a quantity of a part needs [{table}]; for "
                        "a single structure give property (and component) instead"
                    )
            if part is not None and self.quantity not in part.quantities:
                raise StudyError(
                    f"{study.source.at(['push_forward', 'quantity'])}: found '{self.quantity}', which is not among "
                    f"part.quantities: {', '.join(part.quantities) or 'it is empty'}"
                )
        else:
            computed = {q.name: q for q in study.need_solver().computes}
            check_component(self.of, computed, study.source, ("push_forward",))
        self._check_fidelities(study, self.property or (part.property if part else ""))

    def _check_fidelities(self, study: Study, needed: str) -> None:
        """Raise StudyError for a fidelity that lacks its head."""
        for fidelity in (self.fidelity, *self.cheap):
            head = study.structure_head
            if fidelity == "head" and needed not in study.model.heads:
                raise StudyError(f"{study.source.at(['model', 'heads'])}: fidelity 'head' needs a head for '{needed}'")
            if fidelity == "structure-head" and (head is None or needed not in head.properties):
                raise StudyError(
                    f"{study.source.at(['structure_head', 'properties'])}: fidelity 'structure-head' needs '{needed}' "
                    "there"
                )

    def numbers(self) -> Iterator[tuple[Place, Component]]:
        """Yield the component of a single structure's property that is pushed forward."""
        if self.property:
            yield ("push_forward",), self.of

    def check_structures(self, context: Context, structures: Structures) -> None:
        """Raise StudyError or DataError where a part lacks properties, a mesh, or a field of latents."""
        from msvae.campaigns.push_forward.checks import check_part

        part, field = context.study.find(PartSettings), context.study.find(FieldSettings)
        if part is None:
            return
        for name in ("stress", "strain") if part.physics == "plasticity" else (part.property,):
            check_property(context.study, structures, name, ("part", "physics"))
        if field is not None:
            check_part(context, part, field, structures.specification)

    def run(self, context: Context) -> Table:
        """Return the table of the quantity's statistics, with their intervals."""
        from msvae.campaigns.push_forward.run import run

        return run(context)

    def figures(self, run: Run) -> Iterator[Drawing | None]:
        """Yield the distribution of the quantity."""
        from msvae.campaigns.push_forward import figures

        yield figures.push_forward(run)
