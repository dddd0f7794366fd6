"""Voxels that are no cubes: their size is read from what instruments write, and counts."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import trimesh

import msvae
from msvae import Structures
from msvae.part.export import export
from msvae_microstructures.tiff import Tiff

SIZE = (2e-6, 5e-7, 5e-7)
LABELS = (np.random.default_rng(0).random((6, 12, 10)) < 0.4).astype(np.uint8)
PHASES: dict[str, list[dict[str, Any]]] = {
    "conductivity": [{"conductivity": 1.0}, {"conductivity": 10.0}],
    "elasticity": [{"youngs_modulus": 1.0, "poissons_ratio": 0.3}, {"youngs_modulus": 10.0, "poissons_ratio": 0.3}],
}


def write_imagej(path: Path) -> None:
    tifffile.imwrite(path, LABELS, imagej=True, resolution=(2.0, 2.0),
                     metadata={"axes": "ZYX", "spacing": 2.0, "unit": "um"})  # fmt: skip


def write_ome(path: Path) -> None:
    metadata = {"axes": "ZYX", "PhysicalSizeX": 500.0, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.5,
                "PhysicalSizeZ": 2.0}  # fmt: skip
    tifffile.imwrite(path, LABELS, ome=True, metadata=metadata)


def write_with_side_file(path: Path) -> None:
    tifffile.imwrite(path, LABELS)
    path.with_suffix(".mhd").write_text("NDims = 3\nElementSpacing = 5e-4 5e-4 2e-3\n")


def write_with_nrrd(path: Path) -> None:
    tifffile.imwrite(path, LABELS)
    path.with_suffix(".nhdr").write_text('NRRD0004\nspacings: 0.5 0.5 2\nunits: "um" "um" "um"\n')


def loaded(path: Path, **settings: Any) -> Structures:
    return Tiff(path=path, dimensions_of=3, threshold=0.5, **settings).load(0)


@pytest.mark.parametrize("write", [write_imagej, write_ome, write_with_side_file, write_with_nrrd])
def test_the_size_of_a_voxel_is_read_axis_by_axis(write: Any, tmp_path: Path) -> None:
    path = tmp_path / ("image.ome.tif" if write is write_ome else "image.tif")
    write(path)
    np.testing.assert_allclose(loaded(path).specification.grid.spacing, SIZE)


def test_resolution_tags_know_rows_and_columns_and_a_missing_distance_of_slices_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", LABELS, resolution=(20000, 10000), resolutionunit="CENTIMETER")
    flat = Tiff(path=tmp_path / "a.tif", threshold=0.5).load(0)
    np.testing.assert_allclose(flat.specification.grid.spacing, (1e-6, 5e-7))
    with caplog.at_level(logging.WARNING):
        solid = loaded(tmp_path / "a.tif")
    np.testing.assert_allclose(solid.specification.grid.spacing, (5e-7, 1e-6, 5e-7))
    assert "no distance between its slices" in caplog.text


def test_the_study_has_the_last_word_and_a_contradiction_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_imagej(tmp_path / "a.tif")
    with caplog.at_level(logging.WARNING):
        assert loaded(tmp_path / "a.tif", spacing=SIZE).specification.grid.spacing == SIZE
    assert not caplog.text
    with caplog.at_level(logging.WARNING):
        assert loaded(tmp_path / "a.tif", spacing=1e-6).specification.grid.spacing == (1e-6,) * 3
    assert "states voxels of 2e-06 x 5e-07 x 5e-07 m" in caplog.text
    with pytest.raises(ValueError, match="or 3 of them"):
        loaded(tmp_path / "a.tif", spacing=(1e-6, 1e-6))


@pytest.mark.parametrize("name", list(PHASES))
def test_long_voxels_have_the_properties_of_the_cubes_they_are_made_of(name: str) -> None:
    """The image whose slices are repeated four times differs by what the estimate of the discretisation says."""
    solver = msvae.load_solver(name, phases=PHASES[name])
    long = solver.evaluate(Structures.from_labels(LABELS[None], SIZE))
    cubes = solver.evaluate(Structures.from_labels(np.repeat(LABELS, 4, axis=0)[None], 5e-7))
    assert isinstance(long, msvae.Properties)
    key = next(iter(long))
    change = np.abs(long[key][0] - cubes[key][0])
    assert (np.diag(change) < 1.2 * np.diag(long.errors[key][0])).all()
    as_cubes = solver.evaluate(Structures.from_labels(LABELS[None], 5e-7))[key][0]
    assert abs(as_cubes[0, 0] / long[key][0][0, 0] - 1) > 0.02  # what it was, taken for cubes


@pytest.mark.parametrize("ending", [".stl", ".3mf", ".vti", ".tif"])
def test_exports_have_the_right_lengths(ending: str, tmp_path: Path) -> None:
    solid = np.zeros((6, 8, 10), dtype=int)
    solid[1:5, 2:6, 3:9] = 1
    export(Structures.from_labels(solid[None], SIZE, periodic=False), tmp_path / f"part{ending}", phase=1)
    lengths = np.array([4, 4, 6]) * SIZE
    if ending == ".stl":
        found = trimesh.load_mesh(tmp_path / "part.stl").extents * 1e-3
    elif ending == ".3mf":
        import zipfile
        from xml.etree import ElementTree

        root = ElementTree.fromstring(zipfile.ZipFile(tmp_path / "part.3mf").read("3D/3dmodel.model"))
        points = np.array([[float(e.get(a, "nan")) for a in "xyz"] for e in root.iter() if e.tag.endswith("}vertex")])
        assert root.get("unit") == "micron"
        found = np.ptp(points, axis=0) * 1e-6
    elif ending == ".vti":
        text = (tmp_path / "part.vti").read_text().split('Spacing="')[1].split('"')[0]
        found = np.array([4, 4, 6]) * np.array([float(h) for h in text.split()])
    else:
        found = np.array([4, 4, 6]) * loaded(tmp_path / "part.tif").specification.grid.spacing
    np.testing.assert_allclose(found, lengths, rtol=1e-5)
