"""The structures of runs, with what their solvers said of them: so that one job labels and another one trains."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from msvae import Array, DataError, Dataset, Positions, Quantity, Run, Structures


@dataclass(frozen=True)
class Runs(Dataset):
    """The data set of one or more runs, each structure once, with the properties that any of them has of it.

    path: the folder of a run. more: folders of others, whose structures are of the same kind, grid and spacing, and
        were labelled by the same solver. labels: take what was computed of them; false leaves it behind.
    Nothing that the runs bring is executed.
    """

    name = "run"
    dimensions = (0, 1, 2, 3)

    path: Path
    more: tuple[Path, ...] = ()
    labels: bool = True

    def load(self, seed: int) -> Structures:
        runs = [Run.open(path) for path in (self.path, *self.more)]
        parts = [_labelled(run) if self.labels else run.structures for run in runs]
        for run, part in zip(runs[1:], parts[1:], strict=True):
            if part.specification != parts[0].specification:
                raise DataError(
                    f"dataset.more: '{run.path}' has structures of another kind, grid or spacing than '{self.path}'"
                )
        ids = np.concatenate([part.ids for part in parts])
        _, first, each = np.unique(ids, return_index=True, return_inverse=True)
        order = np.sort(first)  # as the runs have them
        place = np.empty(len(first), dtype=np.int64)
        place[np.argsort(first, kind="stable")] = np.arange(len(first))
        quantities = _quantities(parts)
        properties = {q.name: _merged(q, parts, place[each.reshape(-1)], len(order)) for q in quantities}
        values = np.concatenate([part.values for part in parts])[order]
        positions = _positions(runs, parts)
        groups = [part.groups for part in parts]
        whole = None if any(g is None for g in groups) else np.concatenate([np.asarray(g) for g in groups])[order]
        return Structures(values, parts[0].specification, properties, quantities, whole,
                          None if positions is None else positions[order])  # fmt: skip

    def solver(self) -> str | None:
        if not self.labels:
            return None
        first, known = None, None
        for path in (self.path, *self.more):
            solver = Run.open(path).label_solver
            if known is None:
                first, known = path, solver
            elif solver not in (None, known):
                raise DataError(
                    f"dataset.more: '{path}' was labelled by another solver, or other settings of it, than '{first}': "
                    "leave it out, or set dataset.labels = false to compute all of them again"
                )
        return known

    def image(self, seed: int) -> Structures | None:
        study = Run.open(self.path).study
        return None if study.dataset is None else study.dataset.image(seed)

    @classmethod
    def example(cls, n: int, seed: int) -> Structures:
        rng = np.random.default_rng(seed)
        return Structures.from_labels(rng.integers(0, 2, (n, 8, 8)), 1e-6, phases=2)


def _labelled(run: Run) -> Structures:
    """Return the structures of a run's data set with what its table says of them, whatever solver that was."""
    if "label" not in run.stages:
        return run.structures
    table = run.store("label").load()
    return run.with_labels([Quantity(name, table.units[name], a.shape[1:]) for name, a in table.properties.items()])


def _quantities(parts: Sequence[Structures]) -> tuple[Quantity, ...]:
    """Return the quantities that any of the parts has; DataError where two differ in unit or shape."""
    known: dict[str, Quantity] = {}
    for quantity in (q for part in parts for q in part.quantities):
        if known.setdefault(quantity.name, quantity) != quantity:
            raise DataError(f"dataset.more: the runs have '{quantity.name}' in different units or shapes")
    return tuple(known.values())


def _merged(quantity: Quantity, parts: Sequence[Structures], place: Array, n: int) -> Array:
    """Return a property (n, *shape) of merged structures: what the first of the parts that knows it says."""
    merged = np.full((n, *quantity.sizes), np.nan)
    rows = np.concatenate([
        part.properties.get(quantity.name, np.full((len(part), *quantity.sizes), np.nan)) for part in parts
    ])  # fmt: skip
    for row, k in zip(rows[::-1], place[::-1], strict=True):
        if np.isfinite(row).all() or not np.isfinite(merged[k]).all():
            merged[k] = row
    return merged


def _positions(runs: Sequence[Run], parts: Sequence[Structures]) -> Positions | None:
    """Return the positions of all parts; images of runs with one data set are the same images."""
    corners, images, sets = [], [], []
    periods: tuple[int, ...] = ()
    for run, part in zip(runs, parts, strict=True):
        if part.positions is None:
            return None
        settings = tomllib.loads(run.frozen_study.read_text()).get("dataset")
        if settings not in sets:
            sets.append(settings)
        corners.append(part.positions.corners)
        images.append(part.positions.image_of_each + sets.index(settings) * (1 << 32))
        periods = part.positions.periods
    return Positions(np.concatenate(corners), np.concatenate(images), periods)
