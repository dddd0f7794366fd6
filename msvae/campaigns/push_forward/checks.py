"""Checks that a part fits its structures."""

from __future__ import annotations

from msvae.errors import StudyError
from msvae.part.problem import Problem
from msvae.part.settings import PartSettings
from msvae.run.frozen_study import with_file_names
from msvae.sampling.fields.settings import FieldSettings
from msvae.stages.context import Context
from msvae.structures import Specification

__all__ = ["check_part"]


def check_part(context: Context, part: PartSettings, field: FieldSettings, specification: Specification) -> None:
    """Raise StudyError or DataError where a part has no mesh, or no field of its structures' latents."""
    from msvae.stages.latent_field import FILE, cut, image_of  # brings torch

    study, dimensions = context.study, specification.grid.dimensions
    mesh = Problem(with_file_names(study).need(PartSettings), context.run.path).mesh
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
