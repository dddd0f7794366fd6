"""Checks of a study that campaigns share: names of properties, their components, and phases."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msvae.errors import StudyError, did_you_mean
from msvae.plugins.interfaces import Place
from msvae.structures import Quantity, Specification, Structures
from msvae.study.numbers import Component
from msvae.study.source import Source

if TYPE_CHECKING:
    from msvae.study.study import Study

__all__ = ["check_component", "check_executor", "check_extra", "check_phase", "check_property", "known_quantities"]


def check_component(
    component: Component, declared: Mapping[str, Any], source: Source, path: Sequence[str | int]
) -> None:
    if component.property not in declared:
        raise StudyError(
            f"{source.at([*path, 'property'])}: nothing computes '{component.property}'"
            f"{did_you_mean(component.property, declared)} (computed: {', '.join(sorted(declared))})"
        )
    unit = declared[component.property].unit
    if component.unit is not None and component.unit != unit:
        raise StudyError(
            f"{source.at([*path, 'unit'])}: found '{component.unit}', but '{component.property}' is in "
            f"'{unit}': units are not converted, give the value in '{unit}'"
        )


def check_extra(study: Study, place: Place, module: str, extra: str) -> None:
    """Raise StudyError, with the command to install it, if a key needs a package that is not installed."""
    if importlib.util.find_spec(module) is None:
        raise StudyError(
            f"{study.source.at(place)}: the package {module}, which it needs, is not installed: pip install "
            f"'msvae[{extra}]'"
        )


def known_quantities(study: Study, structures: Structures) -> dict[str, Quantity]:
    """Return by name the properties that structures have, and those that the solver will compute."""
    computed = study.solver.quantities(structures.specification) if study.solver is not None else ()
    return {q.name: q for q in (*structures.quantities, *computed)}


def check_property(study: Study, structures: Structures, name: str, place: Place) -> None:
    """Raise StudyError for a property that neither structures nor solver have."""
    known = known_quantities(study, structures)
    if name not in known:
        raise StudyError(
            f"{study.source.at(place)}: there is no property '{name}'{did_you_mean(name, known)} "
            f"(the structures and the solver have: {', '.join(sorted(known)) or 'none'})"
        )


def check_phase(study: Study, specification: Specification, phase: int, place: Place) -> None:
    """Raise StudyError for a phase that structures do not have."""
    count = len(specification.constituents)
    if phase >= count:
        raise StudyError(f"{study.source.at(place)}: found {phase}, the structures have phases from 0 to {count - 1}")


def check_executor(study: Study) -> None:
    """Raise StudyError where settings of [executor] exclude each other."""
    settings = study.executor
    if settings.managers > 1 and (study.ranks_per_solver > 1 or settings.patience is not None):
        other = "patience" if settings.patience is not None else "ranks_per_solver"
        raise StudyError(
            f"{study.source.at(['executor', 'managers'])}: ranks of a team give no signs of life and evaluate alone: "
            f"leave out managers, or executor.{other}"
        )
    if settings.isolation == "none":
        for key in ("timeout", "memory_limit"):
            together = key == "timeout" and study.ranks_per_solver > 1  # a group is given up
            if getattr(settings, key) is not None and not together:
                raise StudyError(
                    f"{study.source.at(['executor', key])}: an evaluation can only be ended in a process of its own: "
                    'add executor.isolation = "process"'
                )
    elif study.ranks_per_solver > 1:
        raise StudyError(
            f"{study.source.at(['executor', 'isolation'])}: a process of its own has no other MPI ranks, but "
            f'{study.ranks_per_solver} ranks run the solver together: take isolation = "none" or ranks_per_solver = 1'
        )
