"""The campaign "inverse-design", and its table [design]."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from msvae.errors import StudyError
from msvae.plugins import registry
from msvae.plugins.annotations import Count, Natural, Positive, Seconds, Unit
from msvae.plugins.interfaces import Campaign, Place, Searcher
from msvae.sampling.search.aims import Constraint, FractionRange, Objective, Target
from msvae.study import load_plugin
from msvae.study.checks import check_component, check_extra, check_phase
from msvae.study.numbers import Component
from msvae.study.source import Source

if TYPE_CHECKING:
    from msvae.report.drawing import Drawing
    from msvae.run.directory import Run
    from msvae.run.table import Table
    from msvae.stages.context import Context
    from msvae.stages.expected import Expected
    from msvae.structures import Specification, Structures
    from msvae.study import Study

__all__ = ["InverseDesign"]


@dataclass(frozen=True)
class InverseDesign(Campaign):
    """[design]: active-learning inverse design.

    targets: what the design has to reach, all at once. objectives: instead, two numbers whose Pareto front is sought.
    budget: largest number of solver calls of one search, but for plain candidates (see call_seconds).
    core_hours, wall_time: further limits of a search, after which nothing more is asked for. batch: designs asked
        for at once.
    asynchronous: instead of waiting for the whole batch, ask for another design whenever one is answered; `batch` are
        under way at any time. What is asked then depends on which evaluation ends first, and so on the machine.
    retrain_every: rounds (batches) between two trainings of the head on what the solver found.
    retrainings: of the whole model during a search, evenly spread over its budget, on the data set and best designs.
    searcher: the strategy, a plugin: its name, or a table with its name and its settings. The core has "composite",
        "gaussian-process", "botorch", "gradient", "random" and "conditional": `msvae plugin show NAME` describes them.
        With a conditional model every searcher samples and decodes under the targets.
    fractions: ranges of phase fractions, and constraints: on connectivity, feature size and symmetry, that a design has
        to keep to; exact, for they are of its decode.
    guards: only designs count that the data set's own structures do not make unlikely.
    refine: solve the best design again with twice the voxels along every axis. interpret: say what its properties are
        due to: sensitivities to every latent by the solver (two calls for each), and to every voxel.
    start_from: folders of earlier runs with the same data set's grid and the same solver, whose designs are known from
        the start.
    repeats: searches with different seeds.
    control_budget: solver calls of the random control of each repeat; 0 for none.
    call_seconds: how long the solver takes for a structure, from which a composite search knows how much thought a
        question is worth: about as long, or .3 s if that is longer. A faster solver answers plain candidates beside
        every question, as many as it could in .3 s, which the budget does not count. By default a power of ten near
        what the run has measured, which it keeps in pace.json.
    """

    name = "inverse-design"
    table = "design"
    needs = ("design",)

    targets: tuple[Target, ...] = ()
    objectives: tuple[Objective, ...] = ()
    budget: Count = 60
    core_hours: Annotated[Positive, Unit("h")] | None = None
    wall_time: Seconds | None = None
    batch: Count = 4
    asynchronous: bool = False
    retrain_every: Count = 2
    retrainings: Natural = 0
    searcher: str | dict[str, Any] = "composite"
    fractions: tuple[FractionRange, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    guards: bool = True
    refine: bool = False
    interpret: bool = False
    start_from: tuple[str, ...] = ()
    repeats: Count = 1
    control_budget: Natural = 0
    call_seconds: Seconds | None = None

    def __post_init__(self) -> None:
        if bool(self.targets) == bool(self.objectives) or len(self.objectives) not in (0, 2):
            raise ValueError("a design has targets, or two objectives")

    @builtins.property
    def strategy(self) -> Searcher:
        """The searcher, with its settings; StudyError or PluginError if there is none of this name."""
        return self._strategy(Source("the study", ""))

    def _strategy(self, source: Source) -> Searcher:
        table = {"name": self.searcher} if isinstance(self.searcher, str) else self.searcher
        return load_plugin(Searcher, table, source, ("design", "searcher"))

    @builtins.property
    def components(self) -> tuple[Component, ...]:
        """The components of properties that are targeted."""
        return (*(number for t in self.targets for number in t.numbers), *(o.of for o in self.objectives))

    def check(self, study: Study) -> None:
        """Raise StudyError where a searcher lacks what it depends on: heads, or conditions given by the targets."""
        if self.asynchronous and study.executor.managers > 1:
            raise StudyError(
                f"{study.source.at(['design', 'asynchronous'])}: single designs would keep one worker of a team busy: "
                "leave out executor.managers, or design.asynchronous"
            )
        if study.solver is not None:
            computed = {q.name: q for q in study.solver.computes}
            for place, number in self.numbers():
                check_component(number, computed, study.source, place)
        strategy, place = self._strategy(study.source), ("design", "searcher")
        if strategy.package is not None:
            check_extra(study, place, *strategy.package)
        if self.objectives and not strategy.fronts:
            able = [e.plugin.name for e in registry().loaded.values() if getattr(e.plugin, "fronts", False)]
            raise StudyError(
                f"{study.source.at(place)}: '{strategy.name}' finds no Pareto fronts: with objectives take one of "
                f"{', '.join(sorted(able))}"
            )
        if strategy.conditions and not study.model.conditions:
            raise StudyError(f"{study.source.at(place)}: '{strategy.name}' needs model.conditions")
        given = {(t.property, t.component) for t in self.targets if t.value is not None}
        for k, condition in enumerate(study.model.conditions):
            if (condition.property, condition.component) not in given:
                raise StudyError(
                    f"{study.source.at(['model', 'conditions', k])}: a design needs a value of '{condition}': it "
                    "has to be among design.targets"
                )
        missing = {t.property for t in self.targets} - set(study.model.heads)
        if missing and strategy.heads:
            raise StudyError(
                f"{study.source.at(['model', 'heads'])}: searcher '{strategy.name}' follows the model's heads, so "
                f"model.heads has to name every targeted property; '{min(missing)}' is missing"
            )

    def numbers(self) -> Iterator[tuple[Place, Component]]:
        """Yield the targeted components."""
        yield from ((("design", "targets", k), number) for k, t in enumerate(self.targets) for number in t.numbers)
        yield from ((("design", "objectives", k), o.of) for k, o in enumerate(self.objectives))

    def labels(self) -> set[str]:
        """Return the targeted properties."""
        return {number.property for number in self.components}

    def check_structures(self, context: Context, structures: Structures) -> None:
        """Raise StudyError or TargetError for limits that structures do not have, and targets that none can have."""
        from msvae.campaigns.design.reach import check_reach

        check_limits(context.study, self, structures.specification)
        check_reach(context, self, structures)

    def expects(self, study: Study, seconds: float) -> Iterator[Expected]:
        """Yield the searches, with the plain candidates beside their questions, and the random controls."""
        from msvae.sampling.search.effort import QUESTION, Effort, rounded
        from msvae.stages.expected import Expected

        composite = self.strategy.name == "composite"
        call = self.call_seconds or (rounded(seconds) if composite else QUESTION)
        rounds = -(-self.budget // self.batch)
        asked = self.budget + rounds * (Effort(call).plain if composite else 0)
        thought = self.budget * max(QUESTION, call)
        yield Expected("search", self.repeats * asked, self.repeats * thought, at_most=True)
        if self.control_budget:
            yield Expected("random control", self.repeats * self.control_budget, at_most=True)

    def run(self, context: Context) -> Table:
        """Return the table of target, best training structure, best designs and solver calls."""
        from msvae.campaigns.design.run import run

        return run(context)

    def figures(self, run: Run) -> Iterator[Drawing | None]:
        """Yield target and found, the Pareto front, the best design and its interpretation."""
        from msvae.campaigns.design import figures

        yield figures.target_and_found(run)
        yield figures.pareto_front(run)
        yield figures.best_design(run)
        yield figures.interpretation(run)


def check_limits(study: Study, design: InverseDesign, specification: Specification) -> None:
    """Raise StudyError where limits on a design name a phase or an axis that its structures do not have."""
    limits: dict[str, tuple[FractionRange | Constraint, ...]] = {
        "fractions": design.fractions,
        "constraints": design.constraints,
    }
    for key, rows in limits.items():
        if rows and not (specification.is_discrete and specification.channels == 1):
            raise StudyError(
                f"{study.source.at(['design', key])}: {key} are of phases, found structures of kind "
                f"'{specification.kind}': leave them out"
            )
        for k, limit in enumerate(rows):
            check_phase(study, specification, limit.phase, ("design", key, k, "phase"))
    for k, constraint in enumerate(design.constraints):
        if constraint.axis is not None and constraint.axis >= specification.grid.dimensions:
            raise StudyError(
                f"{study.source.at(['design', 'constraints', k, 'axis'])}: found {constraint.axis}, the structures "
                f"have axes from 0 to {specification.grid.dimensions - 1}"
            )
