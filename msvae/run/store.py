"""The evaluations of a stage: append-only HDF5 segments, written by one process, each complete or absent.

A segment is made in memory, written under another name, synced and renamed; so a reader, or a restart after kill -9,
finds every acknowledged evaluation and never half a file. Many small segments are merged into one now and then: a file
`FIRST-LAST.h5` stands for all segments with numbers in that range.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from msvae.dispatch.evaluation import STATUSES, Evaluation
from msvae.errors import RunError
from msvae.structures import Array, Quantity
from msvae.vae.files import write_atomically

__all__ = ["EvaluationStore", "Evaluations"]

MERGE = 64
COLUMNS = ("index", "structure", "status", "message", "cost", "seed", "rank", "iterations", "latents")


@dataclass(frozen=True, eq=False)
class Evaluations:
    """A table of evaluations, in the order of their index.

    columns: arrays (n, ...) by name: index, structure (id), status, message, cost (s), seed, rank, iterations, latents.
    properties: arrays (n, *shape) by name. units: of each property.
    """

    columns: Mapping[str, Array]
    properties: Mapping[str, Array]
    units: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.columns["index"])

    def __getitem__(self, name: str) -> Array:
        return self.columns[name]

    @property
    def done(self) -> Array:
        """Mask (n,) of the evaluations that have a result."""
        return np.asarray(self.columns["status"] == "done")

    @property
    def latents(self) -> Array:
        """Latents (n, d) that were evaluated; d = 0 for structures of a data set."""
        return self.columns["latents"]

    def where(self, mask: Array) -> Evaluations:
        """Return the chosen rows."""
        return Evaluations(
            {k: v[mask] for k, v in self.columns.items()}, {k: v[mask] for k, v in self.properties.items()}, self.units
        )


class EvaluationStore:
    """The segments of one stage in a directory."""

    def __init__(self, directory: Path, quantities: Sequence[Quantity] = ()) -> None:
        self.directory = directory
        self.units = {q.name: q.unit for q in quantities}

    def append(self, evaluations: Sequence[Evaluation]) -> None:
        """Acknowledge evaluations: when this returns, they are on disk. RunError if they cannot be written."""
        if not evaluations:
            return
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"'{self.directory}' cannot be made: {error.strerror}; give another --output") from None
        segments = self._segments()
        number = segments[-1][1] + 1 if segments else 0
        self._write(_table(evaluations), number, number)
        if len(segments) >= MERGE:
            self._merge()

    def load(self) -> Evaluations:
        """Return every acknowledged evaluation; RunError naming the file if one cannot be read."""
        return joined([self._read(path) for _, _, path in self._segments()])

    def _write(self, table: Evaluations, first: int, last: int) -> None:
        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as file:
            for name, column in table.columns.items():
                text = column.dtype.kind in "UO"
                file.create_dataset(
                    name, data=column.astype(object) if text else column, dtype=h5py.string_dtype() if text else None
                )
            for name, array in table.properties.items():
                file.create_dataset(f"properties/{name}", data=array).attrs["unit"] = self.units.get(
                    name, table.units.get(name, "1")
                )
        write_atomically(self.directory / f"{first:08d}-{last:08d}.h5", buffer.getvalue())

    def _read(self, path: Path) -> Evaluations:
        try:
            with h5py.File(path, "r") as file:
                columns = {name: _column(file[name]) for name in COLUMNS}
                stored = dict(file["properties"].items()) if "properties" in file else {}
                properties = {name: data[()] for name, data in stored.items()}
                return Evaluations(columns, properties, {n: str(d.attrs["unit"]) for n, d in stored.items()})
        except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
            raise RunError(
                f"'{path}' is not a file of evaluations ({error}): restore it from a copy, or delete it to "
                "evaluate its structures again"
            ) from None

    def _segments(self) -> list[tuple[int, int, Path]]:
        """Return (first, last, path) of the segments that no merged one stands for, in order."""
        found = []
        for path in self.directory.glob("*.h5") if self.directory.is_dir() else ():
            match = re.fullmatch(r"(\d{8})-(\d{8})\.h5", path.name)
            if match:
                found.append((int(match[1]), int(match[2]), path))
        found.sort(key=lambda s: (s[0], -s[1]))
        kept: list[tuple[int, int, Path]] = []
        for segment in found:
            if not kept or segment[0] > kept[-1][1]:
                kept.append(segment)
        return kept

    def _merge(self) -> None:
        segments = self._segments()
        self._write(self.load(), segments[0][0], segments[-1][1])
        for _, _, path in segments:
            path.unlink()


def joined(tables: Sequence[Evaluations]) -> Evaluations:
    """Return tables as one, in the order of their index; latents of unequal width are filled with NaN."""
    tables = list(tables) or [_table([])]
    width = max(t.latents.shape[1] for t in tables)
    columns = {
        name: np.concatenate([_wide(t.columns[name], width) if name == "latents" else t.columns[name] for t in tables])
        for name in tables[0].columns
    }
    names = list(dict.fromkeys(name for t in tables for name in t.properties))
    shapes = {n: t.properties[n].shape[1:] for t in tables for n in t.properties}
    properties = {
        n: np.concatenate([t.properties.get(n, np.full((len(t), *shapes[n]), np.nan)) for t in tables]) for n in names
    }
    order = np.argsort(columns["index"], kind="stable")
    units = {k: v for t in tables for k, v in t.units.items()}
    return Evaluations(columns, properties, units).where(order)


def _wide(latents: Array, width: int) -> Array:
    return np.pad(latents, ((0, 0), (0, width - latents.shape[1])), constant_values=np.nan)


def _table(evaluations: Sequence[Evaluation]) -> Evaluations:
    kinds: dict[str, Any] = {
        "index": np.int64,
        "structure": str,
        "status": str,
        "message": str,
        "cost": np.float64,
        "seed": np.uint64,
        "rank": np.int32,
        "iterations": np.int64,
    }
    columns = {name: np.array([getattr(e, name) for e in evaluations], dtype=kind) for name, kind in kinds.items()}
    columns["latents"] = (
        np.array([e.latents for e in evaluations], dtype=np.float64).reshape(len(evaluations), -1)
        if evaluations
        else np.zeros((0, 0))
    )
    names = evaluations[0].properties if evaluations else ()
    properties = {name: np.stack([e.properties[name] for e in evaluations]) for name in names}
    assert set(columns["status"]) <= set(STATUSES)
    return Evaluations(columns, properties)


def _column(data: Any) -> Array:
    return data.asstr()[()].astype(str) if h5py.check_string_dtype(data.dtype) else data[()]  # type: ignore[no-any-return]
