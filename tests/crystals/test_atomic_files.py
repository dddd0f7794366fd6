"""Files of atoms become occupations: whatever the format, displaced, strained or shifted; else one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msvae import DataError
from msvae_crystals.atomic_files import AtomicFiles

pytest.importorskip("ase")
EV = 1.602176634e-19


def atoms_of(
    values: np.ndarray, data: AtomicFiles, *, rattle: float = 0.0, strain: float = 0.0, shift: float = 0.0
) -> Any:
    """Return the atoms of an occupation, in another order, displaced (angstrom), strained, shifted (angstrom)."""
    from ase import Atoms

    crystal, rng = data.parent(), np.random.default_rng(0)
    names = np.array(data.species)[values.ravel()]
    order = rng.permutation(np.flatnonzero(names != "vacancy"))
    positions = crystal.positions(data.shape).reshape(-1, 3)[order] * 1e10
    atoms = Atoms(names[order], positions=positions, cell=crystal.box(data.shape) * 1e10, pbc=True)
    atoms.set_cell(
        atoms.cell.array @ (np.eye(3) + strain * np.array([[1, 0.5, 0], [0, 1, 0], [0, 0, -1]])), scale_atoms=True
    )
    atoms.positions += rattle * rng.uniform(-1, 1, atoms.positions.shape) + shift
    return atoms


def occupation(data: AtomicFiles, seed: int = 0) -> np.ndarray:
    specification = data.specification(data.parent(), data.shape)
    return np.random.default_rng(seed).integers(0, len(data.species), specification.shape).astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("POSCAR", {}),
        ("s.cif", {}),
        ("s.xyz", {}),
        ("s.dump", {}),
    ],
)
@pytest.mark.parametrize("how", [{}, {"rattle": 0.2}, {"strain": 0.03}, {"shift": 0.4}], ids=str)
def test_an_occupation_comes_back_from_every_format(tmp_path: Path, name: str, settings: Any, how: Any) -> None:
    from ase.io import write

    data = AtomicFiles(path=tmp_path / name, shape=(2, 3, 1), **settings)
    values = occupation(data)
    atoms = atoms_of(values, data, **how)
    if name == "s.dump":
        write_dump(tmp_path / name, atoms, data)
    else:
        write(tmp_path / name, atoms, **({"format": "extxyz"} if name == "s.xyz" else {}))
    np.testing.assert_array_equal(data.load(0).values[0], values)


def write_dump(path: Path, atoms: Any, data: AtomicFiles) -> None:
    """Write a dump without elements, as `dump custom id type x y z` does of a cell with one tilt."""
    (lx, xy), ly, lz = atoms.cell.array[0, :2], atoms.cell.array[1, 1], atoms.cell.array[2, 2]
    turned = atoms.copy()
    if abs(xy) > 1e-9:  # a dump has the first edge along x
        turned.rotate(atoms.cell.array[0], "x", rotate_cell=True)
        lx, xy, ly = turned.cell.array[0, 0], turned.cell.array[1, 0], turned.cell.array[1, 1]
    bounds = f"{min(0, xy)} {lx + max(0, xy)} {xy}\n0 {ly} 0.0\n0 {lz} 0.0\n"
    rows = [f"{k + 1} {data.species.index(a.symbol) + 1} {a.x} {a.y} {a.z}\n" for k, a in enumerate(turned)]
    head = f"ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n{len(rows)}\nITEM: BOX BOUNDS xy xz yz pp pp pp\n"
    path.write_text(head + bounds + "ITEM: ATOMS id type x y z\n" + "".join(rows))


def test_many_structures_of_a_file_bring_their_energies(tmp_path: Path) -> None:
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import write

    data = AtomicFiles(path=tmp_path / "s.xyz", shape=(1, 1, 2), species=("Fe", "Ni", "vacancy"))
    values = [occupation(data, seed) for seed in range(4)]
    frames = [atoms_of(v, data) for v in values]
    for k, atoms in enumerate(frames[:3]):
        atoms.calc = SinglePointCalculator(atoms, energy=-4.0 * len(atoms) - k)
    write(tmp_path / "s.xyz", frames, format="extxyz")
    structures = data.load(0)
    np.testing.assert_array_equal(structures.values, values)
    known = structures.properties["energy"] / EV
    np.testing.assert_allclose(known[:3], [-4.0 - k / len(frames[k]) for k in range(3)])
    assert np.isnan(known[3])


def test_a_folder_of_files_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    from ase.io import write

    data = AtomicFiles(path=tmp_path / "all", shape=(2, 1, 1), format="vasp")
    (tmp_path / "all").mkdir()
    values = [occupation(data, seed) for seed in range(3)]
    for k, v in enumerate(values):
        write(tmp_path / "all" / f"POSCAR-{k}", atoms_of(v, data), format="vasp")
    np.testing.assert_array_equal(data.load(0).values, values)


def test_what_is_on_no_site_is_one_sentence(tmp_path: Path) -> None:
    from ase.io import write

    data = AtomicFiles(path=tmp_path / "s.xyz", shape=(2, 2, 2), format="extxyz")
    values = occupation(data)
    good = atoms_of(values, data)

    def says(text: str, atoms: Any, **settings: Any) -> None:
        write(tmp_path / "s.xyz", atoms, format="extxyz")
        own = AtomicFiles(**{"path": tmp_path / "s.xyz", "shape": (2, 2, 2), "format": "extxyz", **settings})
        with pytest.raises(DataError, match=text) as error:
            own.load(0)
        assert "\n" not in str(error.value)

    astray = good.copy()
    astray.positions[3] += [0.0, 0.0, 0.9]
    says(r"s\.xyz', structure 0: atom 3 \((Fe|Ni)\) lies on no site, .*e-11 m from the nearest", astray)
    missing = good.copy()
    del missing[5]
    says("1 of 32 sites have no atom: name 'vacancy'", missing)
    double = good.copy()
    double.positions[1] = double.positions[0] + 0.1
    says("1 sites have two atoms", double)
    says(r"has Ni, dataset.species names Fe, Cr: name every element", good, species=("Fe", "Cr"))
    says("lies on no site|have no atom|have two atoms", good, shape=(3, 2, 2))
    with pytest.raises(DataError, match=r"the name '.*s.pickle' says no format: give dataset.format = vasp, cif"):
        AtomicFiles(path=tmp_path / "s.pickle", shape=(2, 2, 2)).load(0)
    (tmp_path / "s.xyz").write_text("nonsense")
    with pytest.raises(DataError, match="cannot be read"):
        data.load(0)
