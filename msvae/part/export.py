"""Parts for other programs: a voxel image as multi-page TIFF or VTI, a phase's surface as STL or 3MF for a slicer."""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from msvae.errors import DataError
from msvae.files.atomic import write_atomically
from msvae.structures import Array, Structures

__all__ = ["FORMATS", "export", "surface"]

MODEL = """<?xml version="1.0" encoding="UTF-8"?>
<model unit="micron" xml:lang="en-US" xmlns="http://schemas.microsoft.com/3dmanufacturing/core/2015/02">
<resources><object id="1" type="model"><mesh><vertices>
{vertices}
</vertices><triangles>
{triangles}
</triangles></mesh></object></resources><build><item objectid="1"/></build></model>
"""
TYPES = """<?xml version="1.0" encoding="UTF-8"?>
<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">
<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>
<Default Extension="model" ContentType="application/vnd.ms-package.3dmanufacturing-3dmodel+xml"/></Types>
"""
RELATIONS = """<?xml version="1.0" encoding="UTF-8"?>
<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">
<Relationship Target="/3D/3dmodel.model" Id="rel0" Type="http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel"/>
</Relationships>
"""


def export(structure: Structures, path: Path, *, phase: int = 0) -> None:
    """Write a part (a batch of one) to a file in the format of its extension: .tif, .vti, .stl (in mm) or .3mf.

    phase: the phase whose surface is written. DataError for another extension, or a part without a surface.
    """
    writer = FORMATS.get(path.suffix.lower())
    if writer is None:
        raise DataError(f"'{path}' has the ending '{path.suffix}', expected {', '.join(FORMATS)}")
    if len(structure) != 1:
        raise DataError(f"one part is written at a time, found {len(structure)}")
    write_atomically(path, writer(structure, phase))


def surface(structure: Structures, phase: int) -> tuple[Array, Array]:
    """Return vertices (n, 3) in m and outward triangles (m, 3) of the closed surface of a phase of a 3D part.

    Marching cubes (Lewiner et al. 2003) at half the phase's indicator, which is zero outside the part.
    """
    try:
        from skimage.measure import marching_cubes
    except ImportError:
        raise DataError("surfaces need the package scikit-image: pip install 'msvae[part]'") from None
    grid = structure.specification.grid
    inside = structure.values[0, 0] == phase
    if grid.dimensions != 3 or not inside.any():
        raise DataError(f"a surface needs a part in 3D that has phase {phase}, found {grid.dimensions}D")
    padded = np.pad(inside.astype(np.float32), 1)
    found: Any = marching_cubes(padded, 0.5, spacing=grid.spacing, gradient_direction="ascent")  # type: ignore[no-untyped-call]
    vertices, faces = found[:2]
    return np.asarray(vertices - 0.5 * np.array(grid.spacing)), np.asarray(faces)


def _tiff(structure: Structures, phase: int) -> bytes:
    import tifffile

    grid, buffer = structure.specification.grid, io.BytesIO()
    values = structure.values[0, 0]
    resolution = (1e-2 / grid.spacing[-1], 1e-2 / grid.spacing[-2])  # pixels in a centimetre
    axes = "ZYX"[3 - grid.dimensions :]
    sizes = {f"PhysicalSize{axis}": 1e6 * h for axis, h in zip(axes, grid.spacing, strict=True)}
    metadata = {"axes": axes, **sizes, **{f"{name}Unit": "µm" for name in sizes}}
    tifffile.imwrite(buffer, values, resolution=resolution, resolutionunit="CENTIMETER", photometric="minisblack",
                     compression="deflate", ome=True, metadata=metadata)  # fmt: skip
    return buffer.getvalue()


def _vti(structure: Structures, phase: int) -> bytes:
    grid, values = structure.specification.grid, structure.values[0, 0]
    kind = {"uint8": "UInt8", "float32": "Float32"}[str(values.dtype)]
    counts = (*grid.shape, *(1,) * (3 - grid.dimensions))
    spacing = (*grid.spacing, *(min(grid.spacing),) * (3 - grid.dimensions))
    extent = " ".join(f"0 {n}" for n in counts)
    raw = np.asfortranarray(values).tobytes(order="F")
    data = base64.b64encode(np.uint64(len(raw)).tobytes() + raw).decode()
    return f"""<?xml version="1.0"?>
<VTKFile type="ImageData" version="1.0" byte_order="LittleEndian" header_type="UInt64">
<ImageData WholeExtent="{extent}" Origin="0 0 0" Spacing="{" ".join(repr(float(h)) for h in spacing)}">
<Piece Extent="{extent}"><CellData Scalars="structure">
<DataArray type="{kind}" Name="structure" format="binary">{data}</DataArray>
</CellData></Piece></ImageData></VTKFile>
""".encode()


def _stl(structure: Structures, phase: int) -> bytes:
    vertices, faces = surface(structure, phase)
    corners = (1e3 * vertices[faces]).astype(np.float32)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    record = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    rows = np.zeros(len(faces), dtype=record)
    rows["normal"], rows["corners"] = normals, corners
    return b"msvae, in millimetres".ljust(80) + np.uint32(len(faces)).tobytes() + rows.tobytes()


def _3mf(structure: Structures, phase: int) -> bytes:
    vertices, faces = surface(structure, phase)
    points = "\n".join(f'<vertex x="{x:.6g}" y="{y:.6g}" z="{z:.6g}"/>' for x, y, z in 1e6 * vertices)
    triangles = "\n".join(f'<triangle v1="{a}" v2="{b}" v3="{c}"/>' for a, b, c in faces)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", TYPES)
        archive.writestr("_rels/.rels", RELATIONS)
        archive.writestr("3D/3dmodel.model", MODEL.format(vertices=points, triangles=triangles))
    return buffer.getvalue()


FORMATS: Mapping[str, Callable[[Structures, int], Any]] = {
    ".tif": _tiff,
    ".tiff": _tiff,
    ".vti": _vti,
    ".stl": _stl,
    ".3mf": _3mf,
}
