"""From structures and a table of phases to material fields on the voxels."""

from __future__ import annotations

import numpy as np

from msvae import Array, DataError, Structures

EMPTY = "every voxel is empty: nothing carries the load"


def interpolate(structures: Structures, table: Array) -> tuple[Array, dict[int, str]]:
    """Return material fields (n, m, *grid) for a table (phases, m), and why a structure has none: it is NaN there.

    DataError if grey values are to be interpolated between other than two materials.
    """
    if structures.specification.kind == "phases":
        count = max(len(table), len(structures.specification.constituents))
        whole = np.concatenate([table, np.full((count - len(table), *table.shape[1:]), np.nan)])
        largest = structures.labels.max(axis=tuple(range(1, structures.labels.ndim)), initial=0)
        sentence = "it has phase {}, but solver.phases ends at phase {}: give the material of every phase"
        missing = {int(k): sentence.format(largest[k], len(table) - 1) for k in np.flatnonzero(largest >= len(table))}
        labels = structures.labels
        fields = np.empty((len(labels), table.shape[1], *labels.shape[1:]))
        for k, parameter in enumerate(np.ascontiguousarray(whole.T)):
            fields[:, k] = parameter[labels]
        return fields, missing
    if len(table) != 2:
        raise DataError(f"solver.phases: grey values need the materials at grey 0 and 1, found {len(table)} phases: "
                        "give two, or cut the image to phases with dataset.threshold or dataset.labels")  # fmt: skip
    grey = structures.labels.astype(np.float64)[:, None]
    low, high = (row.reshape(1, -1, *(1,) * (grey.ndim - 2)) for row in table)
    return np.asarray(low + (high - low) * grey), dict(structures.damaged)


def unsolvable(material: Array) -> dict[int, str]:
    """Return the reason for each structure whose last material parameter (k, or mu) rules out a solution."""
    last = material[:, -1].reshape(len(material), int(np.prod(material.shape[2:])))
    failures = {int(k): EMPTY for k in np.flatnonzero(last.max(axis=1) <= 0)}
    negative = np.flatnonzero(last.min(axis=1) < 0)
    return failures | {int(k): "a voxel has a negative modulus: its grey value is outside 0 to 1" for k in negative}
