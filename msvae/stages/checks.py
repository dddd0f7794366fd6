"""Checks that a study fits its structures, made before anything is evaluated or trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msvae.errors import DataError, StudyError
from msvae.plugins.interfaces import Place
from msvae.stages.context import Context
from msvae.structures import Quantity, Specification, Structures
from msvae.study import Study
from msvae.study.checks import check_property, known_quantities
from msvae.study.numbers import Component
from msvae.vae.blueprint import Blueprint, component_misfit

__all__ = ["check", "check_materials", "check_numbers"]


def check(context: Context, structures: Structures) -> None:
    """Raise StudyError or DataError if a study asks for something its structures lack, or if they are too few."""
    from msvae.stages.sides import check_sides  # brings torch, which labelling alone does without

    study, specification = context.study, structures.specification
    known = known_quantities(study, structures)
    for place, name in _names(study):
        check_property(study, structures, name, place)
    check_numbers(study, structures)
    if study.training.ranks - 1 > context.others:
        raise StudyError(
            f"{study.source.at(['training', 'ranks'])}: {study.training.ranks} processes cannot train together, there "
            f"are {context.others + 1}: start with `mpiexec -n {study.training.ranks} python -m mpi4py -m msvae ...`, "
            f"set executor.workers = {study.training.ranks - 1}, or take fewer ranks"
        )
    if len(structures) > 1 and len(set(structures.ids)) == 1:
        raise DataError(
            f"dataset: its {len(structures)} structures are all alike ({_content(structures)}), with nothing to learn: "
            "give others, or another dataset.threshold where images are cut to phases by their grey values"
        )
    if study.solver is not None:
        check_materials(study, structures)
    check_sides(study, structures)
    if not context.run.model_file.exists():
        _check_networks(study, specification, known)
    study.campaign.check_structures(context, structures)


def _content(structures: Structures) -> str:
    """Describe the content of identical structures in words."""
    least, most = structures.values[0].min(), structures.values[0].max()
    if structures.specification.is_discrete:
        return f"phase {least} everywhere" if least == most else f"phases {least} to {most}"
    return f"values from {least:.4g} to {most:.4g}"


def check_materials(study: Study, structures: Structures) -> None:
    """Raise StudyError if structures have phases for which the solver has no material."""
    known = study.need_solver().materials
    if known is None or structures.specification.kind != "phases":
        return
    largest = structures.labels.max(axis=tuple(range(1, structures.labels.ndim)), initial=0)
    if (largest >= known).any():
        raise StudyError(
            f"{study.source.at(['solver', 'phases'])}: {int((largest >= known).sum())} of {len(structures)} structures "
            f"have phase {largest.max()}, but materials are given up to phase {known - 1}: give that of every phase"
        )


def check_numbers(study: Study, structures: Structures) -> None:
    """Raise StudyError if a study asks for a component that a property does not have."""
    known = known_quantities(study, structures)
    for place, component in _numbers(study):
        quantity = known.get(component.property)
        misfit = component_misfit(component, quantity.sizes) if quantity else None
        if misfit:
            raise StudyError(f"{study.source.at(place)}: {misfit}")


def _names(study: Study) -> Iterator[tuple[Place, str]]:
    """Yield the properties that a study names, and the keys that name them."""
    yield from ((("model", "heads", k), name) for k, name in enumerate(study.model.heads))
    if study.structure_head is not None:
        names = study.structure_head.properties
        yield from ((("structure_head", "properties", k), name) for k, name in enumerate(names))
    yield from ((place, number.property) for place, number in _numbers(study))


def _numbers(study: Study) -> Iterator[tuple[Place, Component]]:
    """Yield the components of properties that a study's campaign asks for, and the keys that name them."""
    yield from ((("model", "conditions", k), c) for k, c in enumerate(study.model.conditions))
    yield from ((("model", "axes", k), c) for k, c in enumerate(study.model.axes))
    yield from study.campaign.numbers()


def _check_networks(study: Study, specification: Specification, known: Mapping[str, Quantity]) -> None:
    """Raise StudyError if networks do not fit the structures or the memory."""
    import torch

    from msvae.vae.model import VAE
    from msvae.vae.structure_head import StructureHead

    assert study.architecture is not None
    blueprint = Blueprint.for_quantities(specification, known, study.model, study.architecture)
    with torch.random.fork_rng(devices=[]):
        try:
            VAE(blueprint)
            if study.structure_head is not None:
                quantities = tuple(known[name] for name in study.structure_head.properties)
                StructureHead(specification, quantities, study.structure_head, study.architecture)
        except (MemoryError, RuntimeError) as error:
            if not isinstance(error, MemoryError) and "alloc" not in str(error):  # torch has no class of its own for it
                raise
            raise StudyError(
                f"{study.source.at(['model'])}: networks of this size do not fit into memory: take fewer "
                "model.latents or model.features, or a smaller architecture"
            ) from None
