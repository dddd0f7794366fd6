"""Voxels as elements of Abaqus and CalculiX, with sets of phases and faces, and the equations of a periodic cell.

Nodes and elements are numbered from 1, elements in the order of the voxels, the last axis fastest. Sets: NALL, EALL,
PHASE0, PHASE1, ... (elements), XMIN, XMAX, ... (nodes), ORIGIN (the first node with an element). With periodic, REF1,
REF2 and REF3 have a node each, and u(x + L_k e_k) - u(x) = u(REF_k) for opposite nodes: u_j(REF_k) = E_jk L_k for a
mean displacement gradient E (Michel et al., Comput. Methods Appl. Mech. Eng. 172 (1999) 109). Every dependent node is
named once: edges and corners need no equations of their own. The mean stress is that of the integration points, for
CalculiX gives no reactions of nodes that no element has; empty phases have neither elements nor stress.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path

import numpy as np

from msvae import Array, Structures
from msvae_external.settings import Input
from msvae_external.writers.voxels import FACES, Mesh

__all__ = ["write"]

ELEMENTS = {2: "CPE4", 3: "C3D8"}
WIDTH = 16  # numbers in a line, at most


def write(structure: Structures, path: Path, given: Input) -> None:
    """Write nodes, elements and sets, and with periodic the equations."""
    mesh = Mesh(structure.specification.grid, given.factor)
    with path.open("w") as file:
        file.writelines(line + "\n" for line in _lines(mesh, structure, given))


def _lines(mesh: Mesh, structure: Structures, given: Input) -> Iterator[str]:
    d, labels = mesh.grid.dimensions, structure.labels[0].ravel()
    solid = ~np.isin(labels, given.empty)
    used = np.isin(np.arange(mesh.numbers.size), mesh.cells[solid])
    joined = np.isin(_images(mesh), _images(mesh)[used]) if given.periodic else used  # through an image, too
    yield "*NODE, NSET=NALL"
    yield from (f"{k}, {x!r}, {y!r}, {z!r}" for k, (x, y, z) in enumerate(mesh.points.tolist(), 1))
    yield f"*ELEMENT, TYPE={ELEMENTS[d]}, ELSET=EALL"
    places, cells = np.flatnonzero(solid) + 1, mesh.cells[solid] + 1
    yield from (f"{k}, {', '.join(map(str, nodes))}" for k, nodes in zip(places.tolist(), cells.tolist(), strict=True))
    for phase in range(len(structure.specification.constituents)):
        yield from _set("ELSET", f"PHASE{phase}", np.flatnonzero((labels == phase) & solid) + 1)
    for axis, side, name in FACES[: 2 * d]:
        nodes = mesh.face(axis, side)
        yield from _set("NSET", name, nodes[used[nodes]] + 1)
    yield from _set("NSET", "ORIGIN", (np.flatnonzero(joined) + 1)[:1])
    if given.periodic:
        yield from _periodic(mesh, joined)


def _set(kind: str, name: str, numbers: Iterable[int]) -> Iterator[str]:
    """Yield a set; none if it is empty, for a program would refuse it."""
    rest = [str(number) for number in numbers]
    if rest:
        yield f"*{kind}, {kind}={name}"
        yield from (", ".join(rest[k : k + WIDTH]) for k in range(0, len(rest), WIDTH))


def _images(mesh: Mesh) -> Array:
    """Return for every node (nodes,) its image on first faces, or itself."""
    places = np.unravel_index(np.arange(mesh.numbers.size), mesh.counts)
    wrapped = tuple(place % n for place, n in zip(places, mesh.grid.shape, strict=True))
    return np.asarray(mesh.numbers[wrapped])


def _periodic(mesh: Mesh, joined: Array) -> Iterator[str]:
    """Yield the reference nodes, and an equation for each direction of each node on a last face.

    joined: which nodes (nodes,) have an element, themselves or an image of theirs.
    """
    d, first = mesh.grid.dimensions, mesh.numbers.size + 1
    for k in range(d):
        yield f"*NODE, NSET=REF{k + 1}"
        yield f"{first + k}, {', '.join(repr(float(x)) for x in np.eye(3)[k] * mesh.factor * mesh.grid.lengths[k])}"
    for place, image, wrapped in (pair for pair in _pairs(mesh) if joined[pair[0] - 1]):
        for j in range(1, d + 1):
            terms = [f"{place}, {j}, 1.", f"{image}, {j}, -1.", *(f"{first + k}, {j}, -1." for k in wrapped)]
            yield "*EQUATION"
            yield str(len(terms))
            yield from (", ".join(terms[k : k + 4]) for k in range(0, len(terms), 4))


def _pairs(mesh: Mesh) -> Iterator[tuple[int, int, list[int]]]:
    """Yield each node on a last face, its image on first faces, and the axes that lie between them."""
    shape: tuple[int, ...] = mesh.grid.shape
    numbers: Array = mesh.numbers + 1
    for place in product(*(range(n + 1) for n in shape)):
        wrapped = [axis for axis, n in enumerate(shape) if place[axis] == n]
        if wrapped:
            image = tuple(0 if axis in wrapped else k for axis, k in enumerate(place))
            yield int(numbers[place]), int(numbers[image]), wrapped
