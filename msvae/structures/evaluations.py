"""Results of a solver as values: an `Evaluation` is one record, `Evaluations` a table.

A failure is a value too: it has a status and a message, and its properties are NaN.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from msvae.errors import PluginError
from msvae.structures import Array

__all__ = ["COLUMNS", "ESTIMATES", "STATUSES", "Evaluation", "Evaluations", "Status", "joined"]

Status = Literal["done", "failed", "timeout", "crashed", "invalid"]
STATUSES: tuple[Status, ...] = ("done", "failed", "timeout", "crashed", "invalid")
COLUMNS: Mapping[str, Any] = {
    "index": np.int64,
    "structure": "U16",
    "status": object,
    "message": object,
    "cost": np.float64,
    "seed": np.uint64,
    "rank": np.int32,
    "iterations": np.int64,
    "attempts": np.int32,
    "cached": np.bool_,
}
ESTIMATES = ("errors", "iteration_errors")  # of the discretisation, and of what iterations left undone
ROWS, SHOWN = 6, 3  # that `repr` shows, of evaluations and of components
ORIGIN = ("solver", "study")  # columns that the store adds: the solver's version, the study's digest


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The outcome of one task.

    index: the task's number in its stage. structure: id of the structure; "" if it was never decoded.
    message: one sentence that says why the task is not "done", or qualifies the result; usually "".
    cost: seconds of wall time, decoding and all attempts included.
    properties: by name, (*shape); NaN unless done. errors, iteration_errors: estimated errors of the discretisation and
    of the solver's iterations, where the solver gives them; see `Properties`. rank: the rank that computed it.
    attempts: their number. cached: whether the result was already known. packed: the structure's values as bytes, where
    requested. trace: the solver's traceback, which tables do not keep.
    """

    index: int
    structure: str
    status: Status
    properties: Mapping[str, Array]
    message: str = ""
    latents: Array = field(default_factory=lambda: np.zeros(0))
    cost: float = 0.0
    seed: int = 0
    rank: int = 0
    iterations: int = 0
    attempts: int = 1
    cached: bool = False
    errors: Mapping[str, Array] = field(default_factory=dict)
    iteration_errors: Mapping[str, Array] = field(default_factory=dict)
    packed: Array | None = None
    trace: str = ""


@dataclass(frozen=True, eq=False)
class Evaluations:
    """A table of n evaluations.

    columns: arrays (n, ...) by name: those of COLUMNS, "latents" (n, d), and those of ORIGIN that the store adds.
    properties: arrays (n, *shape) by name. units: of each property. packed: (n, bytes) values of the structures, or
    None. errors, iteration_errors: arrays (n, *shape) by name of the property, NaN where there is no estimate.
    """

    columns: Mapping[str, Array]
    properties: Mapping[str, Array]
    units: Mapping[str, str] = field(default_factory=dict)
    packed: Array | None = None
    errors: Mapping[str, Array] = field(default_factory=dict)
    iteration_errors: Mapping[str, Array] = field(default_factory=dict)

    @classmethod
    def of(cls, evaluations: Sequence[Evaluation]) -> Evaluations:
        """Return records as a table."""
        n = len(evaluations)
        columns = {k: np.array([getattr(e, k) for e in evaluations], dtype=kind) for k, kind in COLUMNS.items()}
        columns["latents"] = np.array([e.latents for e in evaluations], dtype=np.float64).reshape(n, -1 if n else 0)
        names = evaluations[0].properties if n else ()
        properties = {name: np.stack([e.properties[name] for e in evaluations]) for name in names}
        packed = [e.packed for e in evaluations if e.packed is not None]
        errors, left = (_estimates([getattr(e, family) for e in evaluations], properties) for family in ESTIMATES)
        whole = np.stack(packed) if len(packed) == n > 0 else None
        return cls(columns, properties, packed=whole, errors=errors, iteration_errors=left)

    def __len__(self) -> int:
        return len(self.columns["index"])

    def __repr__(self) -> str:
        """Return the number of evaluations, by status, and the first rows with the leading properties."""
        counts = Counter(map(str, self.columns["status"]))
        title = f"{len(self)} evaluations ({', '.join(f'{n} {status}' for status, n in sorted(counts.items()))})"
        names = [name for name in ("stage", "index", "structure", "status") if name in self.columns]
        shown = {name: [str(value) for value in self.columns[name][:ROWS]] for name in names}
        for name, values in [*self.components()][:SHOWN]:
            shown[f"{name} ({self.units.get(name.partition('[')[0], '1')})"] = [f"{v:.5g}" for v in values[:ROWS]]
        widths = [max(len(name), *map(len, values), 0) for name, values in shown.items()]
        lines = [list(shown), *zip(*shown.values(), strict=True)]
        rows = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
        return "\n".join([title, *rows, *(["..."] if len(self) > ROWS else [])])

    def components(self) -> Iterator[tuple[str, Array]]:
        """Yield the name ("stiffness[0, 1]") and the values (n,) of each component of each property."""
        for name, array in self.properties.items():
            for place in np.ndindex(*array.shape[1:]):
                yield name + (f"{list(place)}" if place else ""), array[(slice(None), *place)]

    def to_pandas(self) -> Any:
        """Return the table as a pandas.DataFrame: stage, index, status, ..., properties by component, and latents.

        PluginError without pandas.
        """
        try:
            import pandas
        except ImportError:
            raise PluginError("pandas is not installed: pip install 'msvae[notebook]'") from None
        return pandas.DataFrame(self.flat())

    def flat(self) -> dict[str, Array]:
        """Return every number and text as a column (n,): stage, index, ..., components of properties, latents."""
        columns = {name: array for name, array in self.columns.items() if array.ndim == 1}
        first = [name for name in ("stage", "index", "structure", "status") if name in columns]
        ordered = {name: columns[name] for name in [*first, *(name for name in columns if name not in first)]}
        latents = {f"latents[{k}]": column for k, column in enumerate(self.latents.T)}
        return {**ordered, **dict(self.components()), **latents}

    def __getitem__(self, name: str) -> Array:
        return self.columns[name]

    def __iter__(self) -> Iterator[Evaluation]:
        for k in range(len(self)):
            values = {name: column[k].item() for name, column in self.columns.items()
                      if name in COLUMNS and column.dtype != object}  # fmt: skip
            yield Evaluation(
                **values,
                status=self.columns["status"][k],
                message=self.columns["message"][k],
                latents=self.latents[k],
                properties={name: array[k] for name, array in self.properties.items()},
                errors=_row(self.errors, k),
                iteration_errors=_row(self.iteration_errors, k),
                packed=None if self.packed is None else self.packed[k],
            )

    @property
    def done(self) -> Array:
        """Mask (n,) of the evaluations with a result."""
        return np.asarray(self.columns["status"] == "done", dtype=bool)

    @property
    def latents(self) -> Array:
        """Latents (n, d) that were evaluated; d = 0 for structures of a data set."""
        return self.columns["latents"]

    def where(self, rows: Array) -> Evaluations:
        """Return the chosen rows, by a mask or an index."""
        return Evaluations(
            {k: v[rows] for k, v in self.columns.items()},
            {k: v[rows] for k, v in self.properties.items()},
            self.units,
            None if self.packed is None else self.packed[rows],
            *({k: v[rows] for k, v in getattr(self, family).items()} for family in ESTIMATES),
        )

    def stamped(self, units: Mapping[str, str], origin: Mapping[str, str]) -> Evaluations:
        """Return the same rows with units, and a column for each text of `origin`."""
        texts = {name: np.full(len(self), text, dtype=object) for name, text in origin.items()}
        return dataclasses.replace(self, columns={**self.columns, **texts}, units={**self.units, **units})

    def latest(self) -> Evaluations:
        """Return the rows sorted by index, keeping only the last row of each index."""
        index = self.columns["index"]
        if np.all(np.diff(index) > 0):
            return self
        order = np.argsort(index, kind="stable")
        last = np.append(np.diff(index[order]) > 0, True)[: len(order)]
        return self.where(order[last])


def joined(tables: Sequence[Evaluations]) -> Evaluations:
    """Concatenate tables; latents of unequal width are padded with NaN.

    A property missing from a table is NaN in its rows. Structures are kept if all tables have them.
    """
    tables = [t for t in tables if len(t)] or [*tables[:1]] or [Evaluations.of([])]
    if len(tables) == 1:
        return tables[0]
    width = max(t.latents.shape[1] for t in tables)
    names = [name for name in tables[0].columns if all(name in t.columns for t in tables)]
    columns = {
        k: np.concatenate([_wide(t.latents, width) if k == "latents" else t.columns[k] for t in tables]) for k in names
    }
    properties, errors, left = (_joined_arrays(tables, family) for family in ("properties", *ESTIMATES))
    packed = [t.packed for t in tables if t.packed is not None]
    whole = len(packed) == len(tables) and len({p.shape[1] for p in packed}) == 1
    units = {k: v for t in tables for k, v in t.units.items()}
    return Evaluations(columns, properties, units, np.concatenate(packed) if whole else None, errors, left)


def _joined_arrays(tables: Sequence[Evaluations], family: str) -> dict[str, Array]:
    """Return properties or estimates of all tables, with NaN in the rows of a table that lacks them."""
    shapes = {k: v.shape[1:] for t in tables for k, v in getattr(t, family).items()}
    return {
        k: np.concatenate([getattr(t, family).get(k, np.full((len(t), *shape), np.nan)) for t in tables])
        for k, shape in shapes.items()
    }


def _estimates(rows: Sequence[Mapping[str, Array]], properties: Mapping[str, Array]) -> dict[str, Array]:
    """Return error estimates (n, *shape) by name, for the properties that have any; NaN in rows without one."""
    names = [name for name in properties if any(name in row for row in rows)]
    return {
        name: np.stack([np.broadcast_to(row.get(name, np.nan), properties[name].shape[1:]) for row in rows])
        for name in names
    }


def _row(estimates: Mapping[str, Array], k: int) -> dict[str, Array]:
    return {name: array[k] for name, array in estimates.items() if not np.isnan(array[k]).all()}


def _wide(latents: Array, width: int) -> Array:
    if latents.shape[1] == width:
        return latents
    return np.pad(latents, ((0, 0), (0, width - latents.shape[1])), constant_values=np.nan)
