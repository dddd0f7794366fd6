"""Crystals: unit cells of any shape with their sites, from the studies' settings or from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from msvae import Crystal, DataError, Grid, Specification

HEXAGONAL = (
    "hcp\n1.0\n3.2 0 0\n-1.6 2.7712813 0\n0 0 5.2\nMg\n2\nDirect\n0.333333 0.666667 0.25\n0.666667 0.333333 0.75\n"
)


def specification(channels: int, spacing: float | tuple[float, ...]) -> Specification:
    return Specification("occupation", channels, Grid.of((2, 3, 4), spacing), ("Mg", "Al"))


@pytest.mark.parametrize(("channels", "nearest", "neighbours"), [(1, 1.0, 6), (2, 0.75**0.5, 8), (4, 0.5**0.5, 12)])
def test_cubic_crystals_have_their_nearest_neighbours(channels: int, nearest: float, neighbours: int) -> None:
    places = Crystal.cubic(channels, 3e-10).positions((3, 3, 3)).reshape(-1, 3) / 3e-10
    middle = places[np.abs(places - 1).max(axis=1) < 1e-9][0]
    apart = np.sort(np.linalg.norm(places - middle, axis=1))[1:]
    np.testing.assert_allclose(apart[:neighbours], nearest)
    assert apart[neighbours] > 1.1 * nearest


def test_a_file_gives_cell_and_sites_in_its_order(tmp_path: Path) -> None:
    pytest.importorskip("ase")
    (tmp_path / "POSCAR").write_text(HEXAGONAL)
    crystal = Crystal.read(tmp_path / "POSCAR")
    assert crystal.lengths == pytest.approx((3.2e-10, 3.2e-10, 5.2e-10), rel=1e-6)
    positions = crystal.positions((1, 1, 2))
    assert positions.shape == (2, 1, 1, 2, 3)
    apart = np.linalg.norm(positions[1, 0, 0, 0] - positions[0, 0, 0, 0])
    assert apart == pytest.approx((3.2**2 / 3 + 2.6**2) ** 0.5 * 1e-10, rel=1e-5)
    box = crystal.box((2, 3, 4))
    assert np.linalg.det(box) == pytest.approx(24 * 3.2**2 * 3**0.5 / 2 * 5.2e-30, rel=1e-5)


def test_the_same_crystal_comes_from_a_cif(tmp_path: Path) -> None:
    io = pytest.importorskip("ase.io")
    (tmp_path / "POSCAR").write_text(HEXAGONAL)
    io.write(tmp_path / "mg.cif", io.read(tmp_path / "POSCAR"))
    first, second = Crystal.read(tmp_path / "POSCAR"), Crystal.read(tmp_path / "mg.cif")
    assert second.lengths == pytest.approx(first.lengths, rel=1e-6)
    np.testing.assert_allclose(
        np.abs(np.linalg.det(second.box((1, 1, 1)))), np.linalg.det(first.box((1, 1, 1))), rtol=1e-5
    )
    np.testing.assert_allclose(second.sites, first.sites, atol=1e-5)


def test_the_edges_are_exactly_the_spacing_of_the_grid(tmp_path: Path) -> None:
    pytest.importorskip("ase")
    (tmp_path / "POSCAR").write_text(HEXAGONAL)
    spacing = (3.2e-10, 3.2e-10, 5.2001e-10)  # rounded
    crystal = Crystal.of(specification(2, spacing), file=tmp_path / "POSCAR")
    assert crystal.lengths == pytest.approx(spacing, rel=1e-14)


def test_what_does_not_fit_is_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("ase")
    (tmp_path / "POSCAR").write_text(HEXAGONAL)
    with pytest.raises(DataError, match=r"structures have 3 sites in a unit cell, basis names 0"):
        Crystal.of(specification(3, 3e-10))
    with pytest.raises(DataError, match=r"structures have 2 sites in a unit cell, basis names 1"):
        Crystal.of(specification(2, 3e-10), basis=[(0.0, 0.0, 0.0)])
    with pytest.raises(DataError, match=r"has 2 sites in a unit cell, the structures have 4"):
        Crystal.of(specification(4, 3e-10), file=tmp_path / "POSCAR")
    with pytest.raises(DataError, match=r"has edges of 3.2e-10, 3.2e-10, 5.2e-10 m, the grid a spacing of 3e-10"):
        Crystal.of(specification(2, 3e-10), file=tmp_path / "POSCAR")
    (tmp_path / "flat").write_text(HEXAGONAL.replace("0 0 5.2", "0 0 0"))
    with pytest.raises(DataError, match=r"has no unit cell with sites in it|cannot be read as a crystal"):
        Crystal.read(tmp_path / "flat")
    with pytest.raises(DataError, match="cannot be read as a crystal: FileNotFoundError"):
        Crystal.read(tmp_path / "absent.cif")
