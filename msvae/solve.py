"""From files to properties in one step: what `msvae solve` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from msvae.dispatch.evaluation import evaluate
from msvae.errors import DataError, StudyError
from msvae.field_file import save_fields, save_slice
from msvae.interfaces import Dataset, Solver
from msvae.structure_file import read_structures
from msvae.structures import Structures
from msvae.study import Source, load_plugin, parse_assignment

__all__ = ["solve_files", "structures_of_file"]


def solve_files(
    solver_name: str, files: Sequence[Path], settings: Sequence[str], fields: Path | None = None
) -> list[dict[str, Any]]:
    """Return for each structure of each file its id, status, message, and properties with units, as plain values.

    fields: folder for the fields of each structure, as .vtu and as a picture of the middle slice of each.
    """
    own, reading = split_settings(settings)
    solver = load_plugin(Solver, {"name": solver_name, **own}, Source("--set", ""))
    results = []
    for file in files:
        structures = structures_of_file(file, reading)
        misfit = solver.misfit(structures.specification)
        if misfit:
            raise DataError(f"'{file}': {misfit}")
        units = {q.name: q.unit for q in solver.quantities(structures.specification)}
        for k in range(len(structures)):
            outcome = evaluate(solver, structures[k], index=k)
            if fields is not None and outcome.status == "done":
                write_fields(solver, structures[k], fields, f"{file.stem}-{k}")
            values = {
                n: {
                    "value": a.tolist() if outcome.status == "done" else None,
                    "unit": units[n],
                    "error": float(np.max(outcome.errors[n])) if n in outcome.errors else None,
                }
                for n, a in outcome.properties.items()
            }
            results.append(
                {
                    "file": str(file),
                    "index": k,
                    "structure": outcome.structure,
                    "status": outcome.status,
                    "message": outcome.message,
                    "iterations": outcome.iterations,
                    "properties": values,
                }
            )
    return results


def write_fields(solver: Solver, structure: Structures, folder: Path, name: str) -> None:
    """Write the fields of one structure to NAME.vtu, and slices to NAME-FIELD.png; DataError if there are none."""
    found = solver.fields(structure)
    if not found:
        raise DataError(f"solver '{solver.name}' has no fields to write: leave out --fields")
    grid = structure.specification.grid
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"'{folder}' cannot be made: {error.strerror}; give another --fields") from None
    save_fields(folder / f"{name}.vtu", grid, {"structure": structure.values[0, 0], **found})
    for field, values in found.items():
        size = np.linalg.norm(values, axis=-1) if values.ndim > grid.dimensions else values
        save_slice(folder / f"{name}-{field.replace(' ', '-')}.png", grid, f"{field} (magnitude)", size)


def split_settings(settings: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the solver's settings, and those that begin with "dataset." and say how files are read."""
    own: dict[str, Any] = {}
    reading: dict[str, Any] = {}
    for path, value in map(parse_assignment, settings):
        if len(path) == 2 and path[0] == "dataset":
            reading[path[1]] = value
        elif len(path) == 1:
            own[path[0]] = value
        else:
            raise StudyError(f"--set {'.'.join(path)}: expected a setting of the solver, or dataset.KEY")
    return own, reading


def structures_of_file(file: Path, reading: dict[str, Any]) -> Structures:
    """Return the structures in a TIFF image, an .npy array (*grid), or a file of structures."""
    suffix = file.suffix.lower()
    if suffix in (".h5", ".hdf5"):
        return read_structures(file)
    if suffix == ".npy":
        return _array(file, **reading)
    if suffix in (".tif", ".tiff"):
        return load_plugin(Dataset, {"name": "tiff", "path": str(file), **reading}, Source("--set", "")).load(0)
    raise DataError(f"'{file}' has the ending '{suffix}', expected .tif, .tiff, .npy or .h5")


def _array(file: Path, spacing: float = 1.0, **unknown: Any) -> Structures:
    if unknown:
        raise StudyError(f"--set dataset.{min(unknown)}: unknown key for an .npy array (known: spacing)")
    try:
        array = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"'{file}' cannot be read as an .npy array: {error}") from None
    if array.ndim not in (2, 3):
        raise DataError(f"'{file}' has shape {array.shape}, expected an image of 2 or 3 axes")
    if np.issubdtype(array.dtype, np.floating):
        return Structures.from_values(array[None], spacing)
    return Structures.from_labels(array[None], spacing)
