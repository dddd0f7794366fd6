"""Exports open again, with spacing and units right, and their surfaces are closed."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from msvae import DataError, Structures
from msvae.part.export import export, surface

SPACING = (1e-6, 2e-6, 1.5e-6)


@pytest.fixture
def part() -> Structures:
    noise = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((32, 20, 24)), 2)
    return Structures.from_labels((noise > 0)[None].astype(np.uint8), SPACING, phases=2, periodic=False)


def test_images_come_back_with_their_spacing(part: Structures, tmp_path: Path) -> None:
    pytest.importorskip("vtk")
    from msvae.files.images import read_vtk

    export(part, tmp_path / "part.tif")
    export(part, tmp_path / "part.vti")
    with tifffile.TiffFile(tmp_path / "part.tif") as file:
        np.testing.assert_array_equal(file.asarray(), part.labels[0])
        tags: Any = file.pages[0]
        above, below = tags.tags["XResolution"].value
        assert 1e-2 * below / above == pytest.approx(SPACING[2], rel=1e-6)
        assert file.ome_metadata
    image = read_vtk(tmp_path / "part.vti")
    np.testing.assert_array_equal(image.values, part.labels[0])
    assert image.spacing == pytest.approx(SPACING)


def test_surfaces_are_closed_and_enclose_the_phase(part: Structures, tmp_path: Path) -> None:
    vertices, faces = surface(part, 1)
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()
    corners = vertices[faces]
    volume = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    assert volume == pytest.approx(part.labels.sum() * np.prod(SPACING), rel=0.02)
    export(part, tmp_path / "part.stl", phase=1)
    meshio = pytest.importorskip("meshio")
    again = meshio.read(tmp_path / "part.stl")
    assert again.points.max(axis=0) == pytest.approx(1e3 * vertices.max(axis=0), rel=1e-5)  # millimetres
    trimesh = pytest.importorskip("trimesh")
    solid = trimesh.load(tmp_path / "part.stl")
    assert solid.is_watertight
    assert solid.volume == pytest.approx(1e9 * volume, rel=1e-4)


def test_a_3mf_file_has_the_same_triangles(part: Structures, tmp_path: Path) -> None:
    export(part, tmp_path / "part.3mf", phase=1)
    with zipfile.ZipFile(tmp_path / "part.3mf") as archive:
        assert archive.testzip() is None
        root = ElementTree.fromstring(archive.read("3D/3dmodel.model"))
    assert root.attrib["unit"] == "micron"
    space = "{http://schemas.microsoft.com/3dmanufacturing/core/2015/02}"
    vertices, faces = surface(part, 1)
    points = np.array([[float(v.attrib[a]) for a in "xyz"] for v in root.iter(f"{space}vertex")])
    triangles = np.array([[int(t.attrib[f"v{k}"]) for k in (1, 2, 3)] for t in root.iter(f"{space}triangle")])
    np.testing.assert_allclose(points, 1e6 * vertices, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(triangles, faces)


def test_what_cannot_be_exported_is_said(part: Structures, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has the ending"):
        export(part, tmp_path / "part.obj")
    flat = Structures.from_labels(np.ones((1, 4, 4), dtype=int), 1e-6, phases=2)
    with pytest.raises(DataError, match="part in 3D"):
        export(flat, tmp_path / "part.stl")
