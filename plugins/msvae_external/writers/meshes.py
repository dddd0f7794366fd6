"""Voxels as elements: gmsh's mesh format 2.2 with groups of phases and faces, and Exodus by meshio."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from msvae import Array, Structures
from msvae_external.failures import Failure
from msvae_external.settings import Input
from msvae_external.writers.voxels import FACES, Mesh

__all__ = ["exodus", "gmsh"]

VOLUME = {2: 3, 3: 5}  # gmsh's numbers of elements: quadrangle, hexahedron
SIDE = {2: 1, 3: 3}  # line, quadrangle


def gmsh(structure: Structures, path: Path, given: Input) -> None:
    """Write a mesh of format 2.2 (gmsh reference manual, "Legacy formats").

    Physical groups: PHASE0, PHASE1, ... have the numbers 1, 2, ...; XMIN, XMAX, YMIN, ... 1001, 1002, ...
    """
    mesh = Mesh(structure.specification.grid, given.factor)
    with path.open("w") as file:
        file.writelines(line + "\n" for line in _lines(mesh, structure))


def _lines(mesh: Mesh, structure: Structures) -> Iterator[str]:
    d, phases = mesh.grid.dimensions, len(structure.specification.constituents)
    yield from ("$MeshFormat", "2.2 0 8", "$EndMeshFormat", "$PhysicalNames", str(phases + 2 * d))
    yield from (f'{d} {phase + 1} "PHASE{phase}"' for phase in range(phases))
    yield from (f'{d - 1} {1001 + k} "{name}"' for k, (_, _, name) in enumerate(FACES[: 2 * d]))
    yield from ("$EndPhysicalNames", "$Nodes", str(len(mesh.points)))
    yield from (f"{k} {x!r} {y!r} {z!r}" for k, (x, y, z) in enumerate(mesh.points.tolist(), 1))
    groups = [(VOLUME[d], structure.labels[0].ravel().astype(int) + 1, mesh.cells)]
    for k, (axis, side, _) in enumerate(FACES[: 2 * d]):
        nodes = mesh.sides(axis, side)
        groups.append((SIDE[d], np.full(len(nodes), 1001 + k), nodes))
    yield from ("$EndNodes", "$Elements", str(sum(len(nodes) for _, _, nodes in groups)))
    yield from _elements(groups)
    yield "$EndElements"


def _elements(groups: list[tuple[int, Array, Array]]) -> Iterator[str]:
    count = 0
    for kind, tags, nodes in groups:
        for tag, row in zip(tags.tolist(), (nodes + 1).tolist(), strict=True):
            count += 1
            yield f"{count} {kind} 2 {tag} {tag} {' '.join(map(str, row))}"


def exodus(structure: Structures, path: Path, given: Input) -> None:
    """Write an Exodus mesh with a block for each phase; Failure without meshio and netCDF4."""
    try:
        import meshio
        import netCDF4  # noqa: F401 - meshio needs it
    except ImportError as error:
        raise Failure(f"Exodus files need meshio and netCDF4 ({error}): pip install 'msvae[exodus]'") from None
    mesh, labels = Mesh(structure.specification.grid, given.factor), structure.labels[0].ravel()
    kind = {2: "quad", 3: "hexahedron"}[mesh.grid.dimensions]
    blocks = [(kind, mesh.cells[labels == phase]) for phase in np.unique(labels)]
    meshio.write(path, meshio.Mesh(mesh.points, blocks), file_format="exodus")
