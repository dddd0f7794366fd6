"""From structures and a table of phases to material fields on the voxels, and from tensors to properties."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from msvae import Array, DataError, Properties, Structures
from msvae_voxelfe.element import LinearElement
from msvae_voxelfe.homogenization import homogenize, pullback, voxel_means


def check_table(phases: Sequence[object], tolerance: float, iterations: int) -> None:
    """Raise ValueError for settings that no structure could be solved with."""
    if not phases:
        raise ValueError("phases is empty: give the material of each phase")
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance is between 0 and 1, found {tolerance:g}")
    if iterations < 1:
        raise ValueError(f"iterations is at least 1, found {iterations}")


def effective(
    structures: Structures,
    table: Array,
    *,
    name: str,
    tolerance: float,
    limit: int,
    element: Callable[[tuple[float, ...]], LinearElement],
) -> Properties:
    """Return the effective tensor of each structure for a table (phases, m) of material parameters.

    A structure that nothing can be computed for is a failure with its reason; the others do not notice.
    """
    material = interpolate(structures, table)
    failures = _unsolvable(material)
    kept = np.array([k for k in range(len(structures)) if k not in failures], dtype=int)
    result = homogenize(
        material[kept], element(structures.specification.grid.spacing), tolerance=tolerance, limit=limit
    )
    tensors = np.full((len(structures), *result.tensors.shape[1:]), np.nan)
    errors = np.full_like(tensors, np.nan)
    iterations = np.zeros(len(structures), dtype=np.int64)
    tensors[kept], errors[kept], iterations[kept] = result.tensors, result.errors, result.iterations
    failures |= {int(kept[k]): reason for k, reason in result.failures.items()}
    return Properties({name: tensors}, failures=failures, errors={name: errors}, iterations=iterations)


def effective_pullback(structures: Structures, table: Array, cotangents: Array, *, tolerance: float, limit: int,
                       element: Callable[[tuple[float, ...]], LinearElement]) -> Array | None:  # fmt: skip
    """Return the gradient (n, 1, *grid) of <cotangents, effective tensors> with respect to grey values; else None."""
    if structures.specification.kind != "field":
        return None
    gradient = pullback(interpolate(structures, table), element(structures.specification.grid.spacing), cotangents,
                        tolerance=tolerance, limit=limit)  # fmt: skip
    slope = (table[1] - table[0]).reshape(1, -1, *(1,) * structures.specification.grid.dimensions)
    return np.asarray((gradient * slope).sum(axis=1, keepdims=True))


def effective_fields(structures: Structures, table: Array, *, names: tuple[str, str], tolerance: float, limit: int,
                     element: Callable[[tuple[float, ...]], LinearElement]) -> dict[str, Array]:  # fmt: skip
    """Return the mean gradient and flux of every voxel (*grid, v) of one structure, for each unit load case.

    names: of the two; the number of the load case, from 0, is appended.
    """
    material = interpolate(structures, table)[0]
    found = voxel_means(material, element(structures.specification.grid.spacing), tolerance=tolerance, limit=limit)
    return {f"{name} {case}": np.moveaxis(values, 0, -1) for name, cases in zip(names, found, strict=True)
            for case, values in enumerate(cases)}  # fmt: skip


def interpolate(structures: Structures, table: Array) -> Array:
    """Return material fields (n, m, *grid) for a table (phases, m); DataError if the table does not fit."""
    if structures.specification.kind == "phases":
        if len(structures) and int(structures.labels.max()) >= len(table):
            raise DataError(
                f"solver.phases: the structures have phase {int(structures.labels.max())}, but the table ends at "
                f"phase {len(table) - 1}: give the material of every phase"
            )
        return np.ascontiguousarray(np.moveaxis(table[structures.labels], -1, 1))
    if len(table) != 2:
        raise DataError(f"solver.phases: grey values need the materials at grey 0 and 1, found {len(table)} phases")
    grey = structures.labels.astype(np.float64)[:, None]
    low, high = (row.reshape(1, -1, *(1,) * (grey.ndim - 2)) for row in table)
    return np.asarray(low + (high - low) * grey)


def _unsolvable(material: Array) -> dict[int, str]:
    """Return the reason for each structure whose last material parameter (k, or mu) rules out a solution."""
    last = material[:, -1].reshape(len(material), int(np.prod(material.shape[2:])))
    failures = {int(k): "every voxel is empty: nothing carries the load" for k in np.flatnonzero(last.max(axis=1) <= 0)}
    negative = np.flatnonzero(last.min(axis=1) < 0)
    return failures | {int(k): "a voxel has a negative modulus: its grey value is outside 0 to 1" for k in negative}
