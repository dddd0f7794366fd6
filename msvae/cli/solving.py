"""From files to properties in one step, for `msvae solve`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msvae.dispatch.evaluation import evaluate
from msvae.errors import DataError, SpacingError, StudyError
from msvae.files.fields import save_fields, save_slice
from msvae.files.images import Image, read_npy, read_vtk
from msvae.files.structures import read_structures
from msvae.plugins.interfaces import Dataset, Solver
from msvae.progress import stage_progress
from msvae.structures import Array, Structures
from msvae.study import Study, load_plugin, parse_assignment
from msvae.study.source import Source

__all__ = ["Asked", "solve_files", "structures_of_file"]

OPTIONS = ("threshold", "spacing", "periodic")  # of images that are no TIFF
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asked:
    """What is asked for besides the properties.

    fields: folder for the fields of each structure, as .vtu and as a picture of the middle slice of each.
    study: whose [solver] is taken, with the settings over its own. keep: the folder of the solver's program is kept and
    named. dry_run: the input of the solver's program is written, and it is not run.
    """

    fields: Path | None = None
    study: Path | None = None
    keep: bool = False
    dry_run: bool = False


def solve_files(
    solver_name: str, files: Sequence[Path], settings: Sequence[str], asked: Asked | None = None
) -> list[dict[str, Any]]:
    """Return for each structure of each file its id, status, message, and properties with units, as plain values."""
    asked = asked or Asked()
    _, reading = split_settings(settings)
    solver = _solver(solver_name, settings, asked)
    results = []
    for file in files:
        try:
            results += _solved(solver, file, reading, asked)
        except DataError as error:
            if len(files) == 1:
                raise
            results.append({"file": str(file), "index": 0, "structure": None, "status": "failed",
                            "message": str(error), "iterations": None, "conditions": {}, "properties": {}})  # fmt: skip
    if all(r["structure"] is None for r in results):
        raise DataError(f"no file could be solved; {results[0]['message']}")
    return results


def _solver(name: str, settings: Sequence[str], asked: Asked) -> Solver:
    """Return the solver of a name with settings, over those of a study if there is one."""
    own = [text for text in settings if not text.startswith("dataset.")] + ['keep="always"'] * asked.keep
    if asked.study is None:
        values = {path[0]: value for path, value in map(parse_assignment, own)}
        return load_plugin(Solver, {"name": name, **values}, Source("--set", ""))
    solver = Study.load(asked.study, [f"solver.{text}" for text in own]).need_solver()
    if solver.name != name:
        raise StudyError(f"'{asked.study}' has the solver '{solver.name}', asked for is '{name}': give another --study")
    return solver


def _solved(solver: Solver, file: Path, reading: dict[str, Any], asked: Asked) -> list[dict[str, Any]]:
    """Return the results of the structures in one file; DataError if it cannot be read or does not fit the solver."""
    structures = _in_voxels(solver, file, reading)
    misfit = solver.misfit(structures.specification)
    if misfit:
        raise DataError(f"'{file}': {misfit}")
    conditions = dict(solver.conditions(structures.specification))
    units = {q.name: q.unit for q in solver.quantities(structures.specification)}
    results = []
    for k in _shown(file.name, len(structures)):
        if asked.dry_run:
            results.append(_written(solver, structures[k], str(file), k))
            continue
        outcome = evaluate(solver, structures[k], index=k)
        done = outcome.status == "done"
        if asked.fields is not None and done:
            write_fields(solver, structures[k], asked.fields, f"{file.stem}-{k}")
        values = {
            name: {
                "value": array.tolist() if done else None,
                "unit": units[name],
                "discretisation_error": _plain(outcome.errors.get(name)),
                "iteration_error": _plain(outcome.iteration_errors.get(name)),
            }
            for name, array in outcome.properties.items()
        }
        results.append({"file": str(file), "index": k, "structure": outcome.structure, "status": outcome.status,
                        "message": outcome.message, "iterations": outcome.iterations, "conditions": conditions,
                        "properties": values})  # fmt: skip
        if asked.keep:
            results[-1]["folder"] = str(solver.folder_of(structures[k]))
    return results


def _written(solver: Solver, structure: Structures, file: str, k: int) -> dict[str, Any]:
    """Return the result of a structure whose input was written; StudyError if the solver runs no program."""
    folder = solver.folder_of(structure, inputs=True)
    if folder is None:
        raise StudyError(f"solver '{solver.name}' runs no program that is given an input: leave out --dry-run")
    return {"file": file, "index": k, "structure": structure.ids[0], "status": "written", "message": "",
            "iterations": None, "conditions": {}, "properties": {}, "folder": str(folder)}  # fmt: skip


def _shown(title: str, n: int) -> Iterator[int]:
    """Yield 0 ... n - 1 with a progress bar, unless n is 1."""
    if n == 1:
        yield 0
        return
    with stage_progress(title) as report:
        for k in range(n):
            report(k, n, "structures solved")
            yield k
        report(n, n, "structures solved")


def _in_voxels(solver: Solver, file: Path, reading: dict[str, Any]) -> Structures:
    """Return the structures in a file; if the voxel size is unknown, the voxel is the unit of length.

    SpacingError where a property of the solver depends on it.
    """
    try:
        return structures_of_file(file, reading)
    except SpacingError:
        lengths = [q.name for q in solver.computes if q.scaling]
        if lengths:
            raise SpacingError(
                f"'{file}' does not say how large its voxels are, and {' and '.join(lengths)} depends on it: "
                "add --set dataset.spacing=LENGTH in m"
            ) from None
        log.warning("'%s' does not say how large its voxels are: voxels are the unit of length", file)
        return structures_of_file(file, {**reading, "spacing": 1.0})


def _plain(estimate: Array | None) -> list[Any] | float | None:
    """Return the estimates of errors as plain numbers; None where there are none."""
    return None if estimate is None or not np.isfinite(estimate).any() else np.nan_to_num(estimate).tolist()


def write_fields(solver: Solver, structure: Structures, folder: Path, name: str) -> None:
    """Write the fields of one structure to NAME.vtu, and slices to NAME-FIELD.png; DataError if there are none."""
    found = solver.fields(structure)
    if not found:
        raise DataError(f"solver '{solver.name}' has no fields to write: leave out --fields")
    grid = structure.specification.grid
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"'{folder}' cannot be created: {error.strerror}; give another --fields") from None
    save_fields(folder / f"{name}.vtu", grid, {"structure": structure.values[0, 0], **found})
    for field, values in found.items():
        size = np.linalg.norm(values, axis=-1) if values.ndim > grid.dimensions else values
        save_slice(folder / f"{name}-{field.replace(' ', '-')}.png", grid, f"{field} (magnitude)", size)


def split_settings(settings: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the solver's settings, and those that begin with "dataset.", which are for reading files."""
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
    """Return the structures in a TIFF image, a VTK image, an .npy array (*grid), or a file of structures."""
    suffix = file.suffix.lower()
    if suffix in (".h5", ".hdf5"):
        return read_structures(file)
    if suffix == ".npy":
        return _of_image(file, read_npy(file), _known(reading, *OPTIONS))
    if suffix in (".vti", ".vtk"):
        options = _known(reading, *OPTIONS, "array")
        return _of_image(file, read_vtk(file, options.pop("array", None)), options)
    if suffix in (".tif", ".tiff"):
        return load_plugin(Dataset, {"name": "tiff", "path": str(file), **reading}, Source("--set", "")).load(0)
    raise DataError(f"'{file}' has the ending '{suffix}', expected .tif, .tiff, .vti, .vtk, .npy or .h5")


def _known(reading: dict[str, Any], *keys: str) -> dict[str, Any]:
    unknown = sorted(set(reading) - set(keys))
    if unknown:
        raise StudyError(f"--set dataset.{unknown[0]}: unknown key for this file (known: {', '.join(keys)})")
    return dict(reading)


def _of_image(file: Path, image: Image, options: dict[str, Any]) -> Structures:
    """Return one structure: integers are phases, other numbers grey values, those above a threshold phase 1.

    It is not periodic unless the options say so, for an image is cut from a larger body.
    """
    values, spacing, periodic = image.values, options.get("spacing", image.spacing), options.get("periodic", False)
    if spacing is None:
        raise SpacingError(f"'{file}' does not say how large its voxels are: add --set dataset.spacing=LENGTH in m")
    if "threshold" in options:
        values = (values > options["threshold"]).astype(np.uint8)
        return Structures.from_labels(values[None], spacing, periodic=periodic, phases=2)
    if np.issubdtype(values.dtype, np.floating):
        return Structures.from_values(values[None], spacing, periodic=periodic)
    return Structures.from_labels(values[None], spacing, periodic=periodic)
