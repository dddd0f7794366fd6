"""What a study asks of its structures: what does not fit them is found before anything is evaluated or trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msvae.campaigns.context import Context
from msvae.design_settings import Constraint, FractionRange
from msvae.errors import DataError, StudyError, did_you_mean
from msvae.part.problem import Problem
from msvae.part_settings import FieldSettings, PartSettings
from msvae.run.frozen_study import with_file_names
from msvae.settings import Component
from msvae.structures import Grid, Quantity, Specification, Structures
from msvae.study import Study
from msvae.vae.blueprint import Blueprint, component_misfit

__all__ = ["check", "check_materials", "check_numbers"]

Place = tuple[str | int, ...]


def check(context: Context, structures: Structures) -> None:
    """Raise StudyError or DataError where a study asks what its structures do not have, or too much of too few."""
    from msvae.campaigns.sides import check_sides  # brings torch, which labelling alone does without

    study, specification = context.study, structures.specification
    known = _known(study, structures)
    for place, name in _names(study):
        if name not in known:
            raise StudyError(
                f"{study.source.at(place)}: there is no property '{name}'{did_you_mean(name, known)} "
                f"(the structures and the solver have: {', '.join(sorted(known)) or 'none'})"
            )
    check_numbers(study, structures)
    _check_design(study, specification)
    _check_gradation(study, specification)
    if study.campaign == "push-forward" and study.part is not None and study.field is not None:
        _check_part(context, study.part, study.field, specification)
    if study.training.ranks - 1 > context.others:
        raise StudyError(
            f"{study.source.at(['training', 'ranks'])}: {study.training.ranks} processes cannot train together, there "
            f"are {context.others + 1}: start with `mpiexec -n {study.training.ranks} python -m mpi4py -m msvae ...`, "
            f"set executor.workers = {study.training.ranks - 1}, or take fewer ranks"
        )
    if len(structures) > 1 and len(set(structures.ids)) == 1:
        raise DataError(f"dataset: its {len(structures)} structures are all alike, which teaches nothing: give others")
    check_sides(study, structures)
    if not context.run.model_file.exists():
        _check_networks(study, specification, known)


def check_materials(study: Study, structures: Structures) -> None:
    """Raise StudyError where structures have phases that the solver has no material for."""
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
    """Raise StudyError where a study asks for a number that a property does not have."""
    known = _known(study, structures)
    for place, component in _numbers(study):
        quantity = known.get(component.property)
        misfit = component_misfit(component, quantity.sizes) if quantity else None
        if misfit:
            raise StudyError(f"{study.source.at(place)}: {misfit}")


def _known(study: Study, structures: Structures) -> dict[str, Quantity]:
    """Return by name the properties that structures have, and those that the solver will give them."""
    computed = study.solver.quantities(structures.specification) if study.solver is not None else ()
    return {q.name: q for q in (*structures.quantities, *computed)}


def _names(study: Study) -> Iterator[tuple[Place, str]]:
    """Yield the properties that a study names, and where."""
    yield from ((("model", "heads", k), name) for k, name in enumerate(study.model.heads))
    if study.structure_head is not None:
        names = study.structure_head.properties
        yield from ((("structure_head", "properties", k), name) for k, name in enumerate(names))
    yield from ((place, number.property) for place, number in _numbers(study))
    if study.campaign == "push-forward" and study.part is not None:
        needed = ("stress", "strain") if study.part.physics == "plasticity" else (study.part.property,)
        yield from ((("part", "physics"), name) for name in needed)


def _numbers(study: Study) -> Iterator[tuple[Place, Component]]:
    """Yield the numbers of properties that a study's campaign asks for, and where."""
    yield from ((("model", "conditions", k), c) for k, c in enumerate(study.model.conditions))
    yield from ((("model", "axes", k), c) for k, c in enumerate(study.model.axes))
    if study.design is not None:
        yield from ((("design", "targets", k), t.numbers[-1]) for k, t in enumerate(study.design.targets))
        yield from ((("design", "objectives", k), o.of) for k, o in enumerate(study.design.objectives))
    if study.campaign == "generate" and study.generate is not None and study.generate.verify is not None:
        yield ("generate", "verify"), study.generate.verify
    if study.campaign == "push-forward" and study.push_forward is not None and study.push_forward.property:
        yield ("push_forward",), study.push_forward.of
    if study.campaign == "gradation" and study.gradation is not None and study.gradation.property:
        yield ("gradation",), study.gradation.of


def _check_phase(study: Study, specification: Specification, phase: int, place: Place) -> None:
    count = len(specification.constituents)
    if phase >= count:
        raise StudyError(f"{study.source.at(place)}: found {phase}, the structures have phases from 0 to {count - 1}")


def _check_design(study: Study, specification: Specification) -> None:
    """Raise StudyError where limits on a design are about a phase or an axis that its structures do not have."""
    if study.design is None:
        return
    limits: dict[str, tuple[FractionRange | Constraint, ...]] = {
        "fractions": study.design.fractions,
        "constraints": study.design.constraints,
    }
    for key, rows in limits.items():
        if rows and not (specification.is_discrete and specification.channels == 1):
            raise StudyError(
                f"{study.source.at(['design', key])}: {key} are of phases, found structures of kind "
                f"'{specification.kind}': leave them out"
            )
        for k, limit in enumerate(rows):
            _check_phase(study, specification, limit.phase, ("design", key, k, "phase"))
    for k, constraint in enumerate(study.design.constraints):
        if constraint.axis is not None and constraint.axis >= specification.grid.dimensions:
            raise StudyError(
                f"{study.source.at(['design', 'constraints', k, 'axis'])}: found {constraint.axis}, the structures "
                f"have axes from 0 to {specification.grid.dimensions - 1}"
            )


def _check_gradation(study: Study, specification: Specification) -> None:
    """Raise StudyError where a part cannot be filled by structures."""
    from msvae.sampling.windows import Windows

    wanted, size = study.gradation, specification.grid.shape
    if wanted is None or study.campaign != "gradation":
        return
    place = study.source.at(["gradation", "shape"])
    if len(wanted.shape) != len(size):
        raise StudyError(f"{place}: expected a number of voxels for each of {len(size)} axes, found {wanted.shape}")
    part = Grid.of(wanted.shape, specification.grid.spacing, periodic=False)
    if not Windows(specification, part, wanted.overlap).inner.any():
        raise StudyError(f"{place}: {wanted.shape} voxels hold no whole window of {size}")
    if not wanted.property or wanted.goal == "compliance":
        _check_phase(study, specification, wanted.phase, ("gradation", "phase"))
    if wanted.property and wanted.property not in study.model.heads and wanted.through == "head":
        raise StudyError(
            f"{study.source.at(['model', 'heads'])}: gradation.property is led by a head: add '{wanted.property}'"
        )


def _check_part(context: Context, part: PartSettings, field: FieldSettings, specification: Specification) -> None:
    """Raise StudyError or DataError where a part has no mesh, or no field of its structures' latents."""
    from msvae.campaigns.part_field import FILE, cut, image_of

    study, dimensions = context.study, specification.grid.dimensions
    mesh = Problem(with_file_names(study).part or part, context.run.path).mesh
    if mesh.dim() != dimensions:
        raise StudyError(
            f"{study.source.at(['part', 'lengths'])}: a part in {mesh.dim()}D cannot be of structures in {dimensions}D"
        )
    if field.lengths and len(field.lengths) != dimensions:
        raise StudyError(
            f"{study.source.at(['field', 'lengths'])}: expected a correlation length in m along each of {dimensions} "
            f"axes, found {list(field.lengths)}"
        )
    if not field.lengths and not (context.run.path / FILE).exists():
        cut(image_of(context), specification.grid.shape, field.region)


def _check_networks(study: Study, specification: Specification, known: Mapping[str, Quantity]) -> None:
    """Raise StudyError where networks do not fit the structures, or the memory."""
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
