"""Occupations of lattice sites as data files of LAMMPS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from msvae import VACANCY, Array, Crystal, Specification, Structures
from msvae_external.settings import Input

__all__ = ["misfit", "write"]

ANGSTROM = 1e-10  # m


def misfit(specification: Specification, given: Input) -> str | None:
    """Return why an occupation has no sites in space, None if it has."""
    return Crystal.misfit(specification, basis=given.basis, file=given.crystal)


def write(structure: Structures, path: Path, given: Input) -> None:
    """Write a data file (read_data, atom_style atomic, angstrom) whose types are the constituents without "vacancy"."""
    specification = structure.specification
    crystal = Crystal.of(specification, basis=given.basis, file=given.crystal)
    shape, names = specification.grid.shape, specification.constituents
    types = np.cumsum([name != VACANCY for name in names]) * np.array([name != VACANCY for name in names])
    species = types[structure.values[0].ravel()]
    occupied = species > 0
    lower, turn = _lower_triangular(np.asarray(crystal.box(shape)) / ANGSTROM)
    positions = np.asarray(crystal.positions(shape)).reshape(-1, 3)[occupied] / ANGSTROM @ turn
    path.write_text("\n".join(_lines(lower, species[occupied], positions, int(types.max()))) + "\n")


def _lines(lower: Array, species: Array, positions: Array, count: int) -> Iterator[str]:
    (lx, _, _), (xy, ly, _), (xz, yz, lz) = lower.tolist()
    yield from ("# occupation", "", f"{len(species)} atoms", f"{count} atom types", "")
    yield from (f"0 {length!r} {axis}lo {axis}hi" for axis, length in zip("xyz", (lx, ly, lz), strict=True))
    if any((xy, xz, yz)):
        yield f"{xy!r} {xz!r} {yz!r} xy xz yz"
    yield from ("", "Atoms # atomic", "")
    rows = zip(species.tolist(), positions.tolist(), strict=True)
    yield from (f"{k} {s} {x!r} {y!r} {z!r}" for k, (s, (x, y, z)) in enumerate(rows, 1))


def _lower_triangular(box: Array) -> tuple[Array, Array]:
    """Return a cell (3, 3), rows, as LAMMPS takes it, and the orthogonal matrix Q with box = lower @ Q.T."""
    if not np.count_nonzero(np.triu(box, 1)) and (np.diagonal(box) > 0).all():
        return np.array(box), np.eye(3)
    q, r = np.linalg.qr(box.T)
    sign = np.sign(np.diagonal(r))
    return np.tril((sign[:, None] * r).T), q * sign
