"""Images on regular grids in .npy arrays and VTK files (.vti, legacy .vtk), with the spacing of their voxels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msvae.errors import DataError
from msvae.structures import Array

__all__ = ["Image", "read_npy", "read_vtk"]


@dataclass(frozen=True, eq=False)
class Image:
    """Values (*grid) with 2 or 3 axes, in VTK files x first, and the spacing along each in the file's unit, or None."""

    values: Array
    spacing: tuple[float, ...] | None


def read_npy(path: Path) -> Image:
    """Return the image in an .npy file, which has no spacing; DataError if the file contains none."""
    try:
        values = np.load(path, allow_pickle=False)
    except Exception as error:  # a damaged header makes numpy raise anything
        raise DataError(f"'{path}' cannot be read as an .npy array ({type(error).__name__}: {error})") from None
    return _checked(path, values, None)


def read_vtk(path: Path, array: str | None = None) -> Image:
    """Return an array of a VTK image, by name or the only one, from its cells or points.

    An image of one layer is two-dimensional. DataError if the file cannot be read or the choice is ambiguous.
    """
    try:
        from vtkmodules.util.numpy_support import vtk_to_numpy
        from vtkmodules.vtkIOLegacy import vtkStructuredPointsReader
        from vtkmodules.vtkIOXML import vtkXMLImageDataReader
    except ImportError:
        raise DataError(f"'{path}' needs the package vtk: pip install 'msvae[vtk]'") from None
    if not path.is_file():
        raise DataError(f"'{path}' does not exist")
    reader: Any = vtkXMLImageDataReader() if path.suffix.lower() == ".vti" else vtkStructuredPointsReader()
    errors: list[str] = []
    reader.AddObserver("ErrorEvent", _collector(errors))
    reader.SetFileName(str(path))
    reader.Update()
    data = reader.GetOutput()
    points = data.GetDimensions()
    if errors or min(points) < 1:
        raise DataError(f"'{path}' cannot be read as a VTK image{': ' + errors[0] if errors else ''}; restore the file")
    cells = tuple(max(n - 1, 1) for n in points)
    found: dict[str, Array] = {}
    for attributes, shape in ((data.GetCellData(), cells), (data.GetPointData(), points)):
        for k in range(attributes.GetNumberOfArrays()):
            values: Array = vtk_to_numpy(attributes.GetArray(k))  # type: ignore[no-untyped-call]
            if values.ndim == 1 and values.size == np.prod(shape):
                found.setdefault(attributes.GetArrayName(k), values.reshape(shape[::-1]).T)
    values = _chosen(path, found, array)
    kept = [0, 1] if values.shape[2] == 1 else [0, 1, 2]
    return _checked(path, values.reshape([values.shape[a] for a in kept]), tuple(data.GetSpacing()[a] for a in kept))


def _collector(errors: list[str]) -> Any:
    """Return an observer that keeps the last line of VTK's error messages."""

    def collect(_: Any, event: str, message: str) -> None:
        errors.append(message.strip().splitlines()[-1])

    collect.CallDataType = "string0"  # type: ignore[attr-defined]  # how VTK is told to hand over the message
    return collect


def _chosen(path: Path, found: dict[str, Array], name: str | None) -> Array:
    names = ", ".join(found) or "none"
    if name is None and len(found) != 1:
        raise DataError(f"'{path}' has {len(found)} scalar arrays ({names}): choose one with --set dataset.array=NAME")
    if name is not None and name not in found:
        raise DataError(f"'{path}' has no scalar array '{name}' (it has: {names})")
    return found[name] if name is not None else next(iter(found.values()))


def _checked(path: Path, values: Array, spacing: tuple[float, ...] | None) -> Image:
    if values.ndim not in (2, 3) or values.size == 0:
        raise DataError(f"'{path}' has shape {values.shape}, expected an image of 2 or 3 axes")
    if not (np.issubdtype(values.dtype, np.number) or values.dtype == np.bool_):
        raise DataError(f"'{path}' holds values of type {values.dtype}, expected numbers")
    return Image(values, spacing)
