"""The blueprint of a VAE: the study's settings, the structures' specification and their conditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from msvae.errors import StudyError
from msvae.plugins.interfaces import Architecture
from msvae.structures import Array, Quantity, Specification, Structures
from msvae.study.numbers import Component
from msvae.study.settings import ModelSettings

__all__ = ["LEAST_FOR_AXES", "Blueprint", "component_misfit", "component_values", "condition_values"]

LEAST_FOR_AXES = 20  # structures that a map of the latents can be fitted to


@dataclass(frozen=True)
class Blueprint:
    """Everything that determines the layout of a VAE's networks.

    quantities: the properties that the heads predict, with resolved shapes.
    """

    specification: Specification
    settings: ModelSettings
    architecture: Architecture
    quantities: tuple[Quantity, ...] = ()

    @classmethod
    def of(cls, structures: Structures, settings: ModelSettings, architecture: Architecture) -> Blueprint:
        """Return the blueprint for structures; StudyError if a head or condition names a property they do not have."""
        known = {q.name: q for q in structures.quantities}
        return cls.for_quantities(structures.specification, known, settings, architecture)

    @classmethod
    def for_quantities(
        cls,
        specification: Specification,
        known: Mapping[str, Quantity],
        settings: ModelSettings,
        architecture: Architecture,
    ) -> Blueprint:
        """Return the blueprint for structures whose properties are given by name, known now or computed later."""
        for key, name in [
            *(("heads", h) for h in settings.heads),
            *(("conditions", c.property) for c in settings.conditions),
            *(("axes", c.property) for c in settings.axes),
        ]:
            if name not in known:
                raise StudyError(
                    f"model.{key}: the structures have no property '{name}' (they have: "
                    f"{', '.join(sorted(known)) or 'none'}): name a solver that computes it, or leave it out"
                )
        misfit = architecture.misfit(specification)
        if misfit:
            raise StudyError(f"architecture: {misfit}")
        if architecture.latent_grid(specification):
            _refuse_what_needs_a_vector(settings)
        elif settings.global_latents:
            raise StudyError("model.global_latents: this architecture's latents are a vector already: leave it out")
        if settings.agreement and specification.is_discrete:
            raise StudyError(
                f"model.agreement: it needs compositions or fields, found structures of kind '{specification.kind}', "
                "which have no gradient: leave it out"
            )
        return cls(specification, settings, architecture, tuple(known[h] for h in settings.heads))

    @property
    def sites(self) -> tuple[int, ...]:
        """The grid of the latents; () where they are a vector."""
        return self.architecture.latent_grid(self.specification)


def condition_values(structures: Structures, settings: ModelSettings) -> Array:
    """Return the conditions (n, k) of structures, each in its own unit."""
    columns = [component_values(structures.properties, c) for c in settings.conditions]
    return np.stack(columns, axis=1) if columns else np.zeros((len(structures), 0))


def component_values(properties: Mapping[str, Any], component: Component) -> Array:
    """Return one number (n,) of a property; StudyError if the property has no such component."""
    array = np.asarray(properties[component.property])
    misfit = component_misfit(component, array.shape[1:])
    if misfit:
        raise StudyError(misfit)
    index: tuple[Any, ...] = (slice(None), *component.component)
    return np.asarray(array[index])


def component_misfit(component: Component, shape: tuple[int, ...]) -> str | None:
    """Return why a property of this shape lacks the component, or None if it has it."""
    index = component.component
    if len(index) == len(shape) and all(i < n for i, n in zip(index, shape, strict=True)):
        return None
    return f"'{component}': the property has shape {shape}, found the component {list(index)}"


def _refuse_what_needs_a_vector(settings: ModelSettings) -> None:
    """StudyError if a study asks of a grid of latents what only a vector of them can do."""
    asked = {"prior": settings.prior == "flow", "posterior": settings.posterior == "flow", "axes": bool(settings.axes)}
    for key, wanted in asked.items():
        if wanted:
            raise StudyError(
                f"model.{key}: this architecture has a grid of latents, for which there is none: leave it out"
            )
