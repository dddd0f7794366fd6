"""Voxels that are not cubes: what files state of them, what the study says, and that solvers see the same."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

from msvae import DataError, Structures, load_solver
from msvae.cli.solving import structures_of_file
from msvae.part.export import export
from msvae_microstructures.simulated import Simulated
from msvae_microstructures.tiff import Tiff

NOISE = np.random.default_rng(0).standard_normal((8, 12, 16))
STACK = (gaussian_filter(NOISE, (1.2, 1.6, 2.0), mode="wrap") > 0).astype(np.uint8)
SIZES = (2e-6, 0.5e-6, 0.25e-6)


def by_imagej(path: Path, unit: str | None = "um") -> None:
    metadata = {"spacing": 2.0, "axes": "ZYX", **({"unit": unit} if unit else {})}
    tifffile.imwrite(path, STACK, imagej=True, resolution=(4.0, 2.0), metadata=metadata)


def by_ome(path: Path, unit: str = "nm") -> None:
    lengths = {f"PhysicalSize{a}": h * 1e9 for a, h in zip("ZYX", SIZES, strict=True)}
    units = {f"PhysicalSize{a}Unit": unit for a in "ZYX"}
    tifffile.imwrite(path, STACK, ome=True, metadata={"axes": "ZYX", **lengths, **units})


def by_metaimage(path: Path, unit: str = "um") -> None:
    tifffile.imwrite(path, STACK, photometric="minisblack", resolutionunit="NONE")
    lines = ["ObjectType = Image", "NDims = 3", f"DistanceUnits = {unit}", "ElementSpacing = 0.25 0.5 2"]
    path.with_suffix(".mhd").write_text("\n".join(lines))


def by_nrrd(path: Path, units: str = 'space units: "mm" "mm" "mm"') -> None:
    tifffile.imwrite(path, STACK, photometric="minisblack", resolutionunit="NONE")
    directions = "space directions: (0.00025,0,0) (0,0.0005,0) (0,0,0.002)"
    path.with_suffix(".nhdr").write_text(f"NRRD0004\n# a comment: of no meaning\n{directions}\n{units}\n\n\n")


@pytest.mark.parametrize("write", [by_imagej, by_ome, by_metaimage, by_nrrd])
def test_what_a_file_states_along_every_axis_is_read(tmp_path: Path, write: Any) -> None:
    write(tmp_path / "a.tif")
    found = Tiff(path=tmp_path / "a.tif", dimensions_of=3, threshold=0.5).load(0)
    assert found.specification.grid.spacing == pytest.approx(SIZES, rel=1e-6)
    np.testing.assert_array_equal(found.labels[0], STACK)
    reading = {"dimensions_of": 3, "threshold": 0.5, "patch": [2, 3, 4]}
    assert structures_of_file(tmp_path / "a.tif", reading).specification.grid.spacing == pytest.approx(SIZES, rel=1e-6)
    pages = Tiff(path=tmp_path / "a.tif", dimensions_of=2, threshold=0.5).load(0)
    assert pages.specification.grid.spacing == pytest.approx(SIZES[1:], rel=1e-6)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: by_imagej(path, None),
        lambda path: by_imagej(path, "pixel"),
        lambda path: by_ome(path, "reference frame"),
        lambda path: by_metaimage(path, "furlong"),
        lambda path: by_nrrd(path, "sizes: 8 6 4"),
    ],
)
def test_a_length_without_a_known_unit_is_not_known(tmp_path: Path, write: Any) -> None:
    write(tmp_path / "a.tif")
    with pytest.raises(DataError, match="does not state its pixel size"):
        Tiff(path=tmp_path / "a.tif", dimensions_of=3).load(0)


def test_slices_of_unknown_distance_are_said(tmp_path: Path, caplog: Any) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK, photometric="minisblack", resolution=(2e4, 1e4), resolutionunit=3)
    found = Tiff(path=tmp_path / "a.tif", dimensions_of=3).load(0)
    assert found.specification.grid.spacing == pytest.approx((1e-6, 1e-6, 0.5e-6))
    assert "how far apart its slices are" in caplog.text


def test_the_study_counts_and_a_contradiction_is_said(tmp_path: Path, caplog: Any) -> None:
    by_imagej(tmp_path / "a.tif")
    with caplog.at_level(logging.WARNING):
        same = Tiff(path=tmp_path / "a.tif", dimensions_of=3, spacing=(2.01e-6, 5e-7, 2.5e-7)).load(0)
        assert not caplog.text
        other = Tiff(path=tmp_path / "a.tif", dimensions_of=3, spacing=1e-6).load(0)
    assert same.specification.grid.spacing == (2.01e-6, 5e-7, 2.5e-7)
    assert other.specification.grid.spacing == (1e-6,) * 3
    assert "the study's counts" in caplog.text
    with pytest.raises(ValueError, match=r"one along each axis, found \[1.0, 2.0\]"):
        Tiff(path=tmp_path / "a.tif", dimensions_of=3, spacing=(1.0, 2.0))


@pytest.mark.parametrize("write", [by_imagej, by_ome])
def test_thick_slices_are_worth_as_many_thin_ones(tmp_path: Path, write: Any) -> None:
    """The image, and the same one of cubes: every voxel repeated 8 times by 2 times. What is left is discretisation."""
    write(tmp_path / "a.tif")
    thick = Tiff(path=tmp_path / "a.tif", dimensions_of=3, threshold=0.5).load(0)
    by_hand = Tiff(path=tmp_path / "a.tif", dimensions_of=3, threshold=0.5, spacing=SIZES).load(0)
    assert by_hand.specification.grid.spacing == pytest.approx(thick.specification.grid.spacing)
    cubes = Structures.from_labels(STACK.repeat(8, axis=0).repeat(2, axis=1)[None], 0.25e-6, phases=2)
    conducting = load_solver("conductivity", phases=[{"conductivity": 1.0}, {"conductivity": 4.0}])
    phases = [{"youngs_modulus": e, "poissons_ratio": 0.3} for e in (1e9, 4e9)]
    for solver, name in ((conducting, "conductivity"), (load_solver("elasticity", phases=phases), "stiffness")):
        found, expected = (solver.evaluate(s)[name][0] for s in (thick, cubes))
        as_cubes = solver.evaluate(Structures.from_labels(STACK[None], 0.25e-6, phases=2))[name][0]
        assert np.abs(found - expected).max() < 0.04 * np.abs(expected).max()
        error, wrong = (np.abs(np.diag(a - expected)).max() for a in (found, as_cubes))
        assert error < 0.5 * wrong  # taken for cubes the image is another material


def test_descriptors_are_of_lengths_not_of_voxels() -> None:
    from msvae.metrics.descriptors import describe

    labels = np.random.default_rng(0).integers(0, 2, (1, 4, 16, 16))
    thick = Structures.from_labels(labels, (4e-6, 1e-6, 1e-6), phases=2)
    thin = Structures.from_labels(labels.repeat(4, axis=1), 1e-6, phases=2)
    for name in ("fraction", "surface", "chord_length"):
        np.testing.assert_allclose(describe(thick)[name], describe(thin)[name], rtol=1e-12)
    lags = describe(thick)["two_point"][0, 0]
    np.testing.assert_allclose(describe(thin)["two_point"][0, 0, ::4], lags, atol=1e-6)  # lags are in voxels


@pytest.mark.parametrize("process", ["gaussian-field", "spheres", "voronoi"])
def test_simulated_grains_have_the_same_lengths_along_axes_of_other_voxels(process: Any) -> None:
    settings: Any = {"count": 60, "shape": (16, 64), "process": process, "length": (6e-6, 6e-6)}
    found = Simulated(**settings, anisotropy=(1.0, 1.0), spacing=(4e-6, 1e-6)).load(0)
    assert found.specification.grid.spacing == (4e-6, 1e-6)
    inside = found.labels == 1
    for axis, step in ((1, 1), (2, 4)):  # correlations at a distance of 4 micrometres
        together = (inside & np.roll(inside, step, axis)).mean()
        if axis == 1:
            first = together
    assert together == pytest.approx(first, rel=0.1)


def test_a_part_that_was_exported_is_read_with_the_same_lengths(tmp_path: Path) -> None:
    part = Structures.from_labels(STACK[None], SIZES, phases=2, periodic=False)
    export(part, tmp_path / "part.tif")
    again = Tiff(path=tmp_path / "part.tif", dimensions_of=3, labels=(0, 1)).load(0)
    assert again.specification.grid.spacing == pytest.approx(SIZES, rel=1e-6)
    np.testing.assert_array_equal(again.labels[0], STACK)
    block = np.zeros((6, 6, 6), dtype=int)
    block[1:5, 1:5, 1:5] = 1
    whole = Structures.from_labels(block[None], SIZES, phases=2, periodic=False)
    from msvae.part.export import surface

    vertices, _ = surface(whole, 1)
    np.testing.assert_allclose(np.ptp(vertices, axis=0), 4 * np.array(SIZES), rtol=1e-5)
    meshio = pytest.importorskip("meshio")
    export(whole, tmp_path / "block.stl", phase=1)
    points = meshio.read(tmp_path / "block.stl").points
    np.testing.assert_allclose(np.ptp(points, axis=0), 4e3 * np.array(SIZES), rtol=1e-5)  # millimetres
