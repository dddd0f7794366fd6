"""The sides of a run's split: the training set and the held-out set of its models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from msvae.errors import DataError
from msvae.stages.context import Context
from msvae.structures import Array, Structures
from msvae.structures.splits import Split, split_of
from msvae.study import Study
from msvae.study.numbers import Component
from msvae.vae.blueprint import LEAST_FOR_AXES, Blueprint, component_values, condition_values

__all__ = ["can_train", "check_sides", "sides_of"]

LEAST = 2  # structures that a model of latents can be fitted to


def sides_of(context: Context, structures: Structures, blueprint: Blueprint) -> Split:
    """Return the run's split of its structures, without those that cannot be trained on.

    Structures appended to the data set (designs) join the training set; held-out structures stay held out.
    """
    n, study = min(len(structures), len(context.run.structures)), context.study
    whole = split_of(structures[:n], study.training.held_back, study.seed, gap=study.training.gap)
    more = np.arange(n, len(structures))
    return _able(replace(whole, train=np.concatenate([whole.train, more])), can_train(structures, blueprint))


def check_sides(study: Study, structures: Structures) -> None:
    """Raise DataError if, as far as is known, too few of the data set's structures will be on one of the sides."""
    settings, model = study.training, study.model
    whole = split_of(structures, settings.held_back, study.seed, gap=settings.gap)
    needed = () if model.semi_supervised else model.conditions
    sides = _able(whole, _will_be_known(study, structures, needed))
    known = int(_will_be_known(study, structures, model.axes)[sides.train].sum())
    if model.axes and known < LEAST_FOR_AXES:
        raise DataError(
            f"model.axes: a map of the latents needs at least {LEAST_FOR_AXES} structures that are trained on and "
            f"whose properties are known, found {known}: give more structures, or leave it out"
        )


def _able(whole: Split, able: Array) -> Split:
    """Return a split without the structures (n,) that cannot be trained on; DataError if it leaves too few."""
    sides = replace(whole, train=whole.train[able[whole.train]], held_out=whole.held_out[able[whole.held_out]])
    if len(sides.train) < LEAST or not len(sides.held_out):
        raise DataError(
            f"training.held_back: of {able.sum()} structures whose conditions are known, {len(sides.train)} are to be "
            f"trained on and {len(sides.held_out)} held out, but {LEAST} and 1 are needed at least: give more "
            "structures with known conditions, or cut images to pieces (dataset.patch), which are split by blocks"
        )
    return sides


def can_train(structures: Structures, blueprint: Blueprint) -> Array:
    """Return which structures (n,) can be trained on."""
    if blueprint.settings.semi_supervised:
        return np.ones(len(structures), dtype=bool)
    return np.asarray(np.isfinite(condition_values(structures, blueprint.settings)).all(axis=1))


def _will_be_known(study: Study, structures: Structures, numbers: Sequence[Component]) -> Array:
    """Return for which structures (n,) numbers will be known after labelling as many as the study asks for."""
    able, n = np.ones(len(structures), dtype=bool), len(structures)
    for number in numbers:
        if number.property in structures.properties:
            able &= np.isfinite(component_values(structures.properties, number))
        else:
            able &= np.arange(n) < (study.label.limit or n)
    return able
