"""Voxels as bytes, arrays and images, and as the grids of DAMASK and DREAM.3D."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from msvae import Array, Structures, export
from msvae_external.settings import Input

__all__ = ["damask", "dream3d", "image", "npy", "raw", "vtkhdf"]


def raw(structure: Structures, path: Path, given: Input) -> None:
    """Write phases as bytes, other values as float32 of this machine, the last axis fastest."""
    path.write_bytes(structure.values[0].tobytes())


def npy(structure: Structures, path: Path, given: Input) -> None:
    """Write an array (*grid), of several channels (channels, *grid)."""
    values = structure.values[0]
    np.save(path, values[0] if len(values) == 1 else values, allow_pickle=False)


def image(structure: Structures, path: Path, given: Input) -> None:
    """Write a TIFF stack, or a VTI image with the field "structure" on its cells."""
    export(structure, path)


def vtkhdf(structure: Structures, path: Path, given: Input) -> None:
    """Write an image as VTKHDF (https://docs.vtk.org/en/latest/vtk_file_formats/vtkhdf_file_format), cells."""
    import h5py

    counts, spacing = _in_space(structure, given)
    with h5py.File(path, "w") as file:
        group = file.create_group("VTKHDF")
        group.attrs["Version"] = np.array([2, 0])
        group.attrs.create("Type", np.bytes_("ImageData"), dtype=h5py.string_dtype("ascii", len("ImageData")))
        group.attrs["WholeExtent"] = np.array([number for n in counts for number in (0, n)])
        group.attrs["Origin"] = np.zeros(3)
        group.attrs["Spacing"] = np.array(spacing)
        group.attrs["Direction"] = np.eye(3).ravel()
        group.create_group("CellData")["structure"] = structure.values[0, 0].reshape(counts).T


def damask(structure: Structures, path: Path, given: Input) -> None:
    """Write a grid of DAMASK 3 (https://damask-multiphysics.org): a VTI image whose cells have a "material"."""
    counts, spacing = _in_space(structure, given)
    extent = " ".join(f"0 {n}" for n in counts)
    numbers = structure.labels[0].astype("<i4").tobytes(order="F")
    data = base64.b64encode(np.uint64(len(numbers)).tobytes() + numbers).decode()
    path.write_text(f"""<?xml version="1.0"?>
<VTKFile type="ImageData" version="1.0" byte_order="LittleEndian" header_type="UInt64">
<ImageData WholeExtent="{extent}" Origin="0 0 0" Spacing="{_words(spacing)}">
<Piece Extent="{extent}"><CellData>
<DataArray type="Int32" Name="material" format="binary">{data}</DataArray>
</CellData></Piece></ImageData></VTKFile>
""")


def dream3d(structure: Structures, path: Path, given: Input) -> None:
    """Write HDF5 as DREAM.3D 6 lays it out: an image geometry, and phases and grains of its cells, from 1."""
    import h5py

    counts, spacing = _in_space(structure, given)
    numbers = (structure.labels[0].astype(np.int32) + 1).T[..., None]
    with h5py.File(path, "w") as file:
        file.attrs["FileVersion"], file.attrs["DREAM3D Version"] = np.bytes_("7.0"), np.bytes_("6.5")
        container = file.create_group("DataContainers/ImageDataContainer")
        geometry = container.create_group("_SIMPL_GEOMETRY")
        geometry.attrs["GeometryTypeName"] = np.bytes_("ImageGeometry")
        geometry["DIMENSIONS"] = np.array(counts, dtype=np.int64)
        geometry["ORIGIN"], geometry["SPACING"] = np.zeros(3, np.float32), np.array(spacing, np.float32)
        cells = container.create_group("CellData")
        cells.attrs["AttributeMatrixType"], cells.attrs["TupleDimensions"] = np.uint32(3), np.array(counts, np.uint64)
        for name in ("FeatureIds", "Phases"):
            _dream3d_array(cells, name, numbers, counts)
        phases = container.create_group("CellEnsembleData")
        known = len(structure.specification.constituents) + 1
        phases.attrs["AttributeMatrixType"] = np.uint32(11)
        phases.attrs["TupleDimensions"] = np.array([known], np.uint64)
        crystals = np.array([999] + [1] * (known - 1), np.uint32)[:, None]  # unknown, then cubic of high symmetry
        _dream3d_array(phases, "CrystalStructures", crystals, [known])


def _dream3d_array(group: object, name: str, values: Array, counts: Sequence[int]) -> None:
    group[name] = values  # type: ignore[index]
    attributes = group[name].attrs  # type: ignore[index]
    kind = {"int32": "DataArray<int32_t>", "uint32": "DataArray<uint32_t>"}[str(values.dtype)]
    attributes["ComponentDimensions"], attributes["TupleDimensions"] = (
        np.array([1], np.uint64),
        np.array(counts, np.uint64),
    )
    attributes["ObjectType"], attributes["DataArrayVersion"] = np.bytes_(kind), np.int32(2)


def _in_space(structure: Structures, given: Input) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Return numbers of voxels and their edges along three axes, in the program's unit; a 2D image has one layer."""
    grid = structure.specification.grid
    spacing = tuple(h * given.factor for h in grid.spacing)
    missing = 3 - grid.dimensions
    return (*grid.shape, *(1,) * missing), (*spacing, *(min(spacing),) * missing)


def _words(numbers: Sequence[float]) -> str:
    return " ".join(repr(float(number)) for number in numbers)
