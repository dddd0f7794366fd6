"""The structure as an input file of a program: a writer for every format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from msvae import Specification, Structures
from msvae_external.settings import Input
from msvae_external.writers import abaqus, atoms, images, meshes

__all__ = ["misfit", "write"]

WRITERS: Mapping[str, Callable[[Structures, Path, Input], None]] = {
    "raw": images.raw,
    "npy": images.npy,
    "tiff": images.image,
    "vti": images.image,
    "vtkhdf": images.vtkhdf,
    "damask": images.damask,
    "dream3d": images.dream3d,
    "abaqus": abaqus.write,
    "gmsh": meshes.gmsh,
    "exodus": meshes.exodus,
    "lammps": atoms.write,
}
DIMENSIONS = {"vtkhdf": (2, 3), "damask": (3,), "dream3d": (3,), "lammps": (3,)}
PHASES = ("damask", "dream3d", "abaqus", "gmsh", "exodus")


def write(structure: Structures, path: Path, given: Input) -> None:
    """Write a batch of one to a file in the format of an input."""
    WRITERS[given.format](structure, path, given)


def misfit(specification: Specification, given: Input) -> str | None:
    """Return why structures of a specification have no such file, None if they have."""
    kind, d, name = specification.kind, specification.grid.dimensions, given.format
    if name in ("", "raw", "npy"):
        return None
    kinds = ("occupation",) if name == "lammps" else ("phases",) if name in PHASES else ("phases", "field")
    if kind not in kinds or (specification.channels != 1 and name != "lammps"):
        return f"a file of format {name} takes structures of kind {' or '.join(kinds)}, found '{kind}'"
    if d not in DIMENSIONS.get(name, (2, 3)):
        return f"a file of format {name} takes grids of {DIMENSIONS.get(name, (2, 3))} dimensions, found {d}"
    return atoms.misfit(specification, given) if name == "lammps" else None
