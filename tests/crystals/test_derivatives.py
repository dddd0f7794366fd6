"""Derivative structures: their numbers are the published ones, and none is there twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from msvae import Crystal, DataError, Structures
from msvae_crystals.derivatives import DerivativeStructures, occupations, superlattices
from msvae_crystals.short_range_order import shells_of
from msvae_crystals.symmetry import operations, primitive

FCC = ((0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0))
BCC = ((-0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.5, 0.5, -0.5))
CUBE = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
HCP = Crystal(((3.2, 0, 0), (-1.6, 1.6 * 3**0.5, 0), (0, 0, 5.2)), ((1 / 3, 2 / 3, 0.25), (2 / 3, 1 / 3, 0.75)))
ORIGIN = ((0.0, 0.0, 0.0),)


@pytest.mark.parametrize(
    ("crystal", "numbers"),
    [
        (Crystal(CUBE, ORIGIN), [1, 3, 3, 9, 5, 13, 7, 24, 14, 23]),
        (Crystal(FCC, ORIGIN), [1, 2, 3, 7, 5, 10, 7, 20, 14, 18]),
        (Crystal(BCC, ORIGIN), [1, 2, 3, 7, 5, 10, 7, 20, 14, 18]),
        (HCP, [1, 3, 5, 11, 7, 19, 11, 34]),
    ],
    ids=["sc", "fcc", "bcc", "hcp"],
)
def test_numbers_of_superlattices_are_the_published_ones(crystal: Crystal, numbers: list[int]) -> None:
    """Hart and Forcade 2008, table IV; hcp: Phys. Rev. B 80 (2009) 014120, table IV."""
    assert [len(superlattices(crystal, n)) for n in range(1, len(numbers) + 1)] == numbers


@pytest.mark.parametrize("vectors", [FCC, BCC])
def test_numbers_of_binary_structures_are_the_published_ones(vectors: tuple[tuple[float, float, float], ...]) -> None:
    """Hart and Forcade 2008, table IV, without those that an exchange of species gives; with them Ferreira 1991."""
    crystal = Crystal((vectors[0], vectors[1], vectors[2]), ORIGIN)

    def number(n: int, exchange: bool) -> int:
        return sum(len(occupations(s, crystal, 2, exchange=exchange)) for s in superlattices(crystal, n))

    assert [number(n, True) for n in range(2, 9)] == [2, 3, 12, 14, 50, 52, 229]
    assert [number(n, False) for n in range(1, 5)] == [2, 2, 6, 19]


@pytest.mark.parametrize(("channels", "order"), [(1, 48), (2, 96), (4, 192)])
def test_cubic_crystals_have_their_operations_and_primitive_cells(channels: int, order: int) -> None:
    crystal = Crystal.cubic(channels, 3e-10)
    assert len(operations(crystal)) == order
    assert abs(np.linalg.det(primitive(crystal))) == pytest.approx(1 / channels)
    positions = np.array(crystal.sites)
    for operation in operations(crystal)[::7]:
        moved = positions @ operation.rotation + operation.translation
        np.testing.assert_allclose(moved, positions[operation.to] + operation.cells, atol=1e-9)


def counts_of_pairs(structures: Structures, crystal: Crystal) -> list[tuple[int, ...]]:
    """Return a fingerprint of each structure that no symmetry changes: pairs of equal species in ten shells."""
    shells = shells_of(crystal, structures.specification.grid.shape, 10)
    flat = structures.values.reshape(len(structures), -1).astype(int)
    return [tuple(int((v[a] * v[b]).sum()) for a, b in shells) for v in flat]


def test_structures_on_the_cubic_grid_are_those_on_the_primitive_one(tmp_path: Path) -> None:
    """One energy per atom each, whatever the grid: here the pairs of a shell per site."""
    pytest.importorskip("ase")
    (tmp_path / "POSCAR").write_text("fcc\n3.56\n0 .5 .5\n.5 0 .5\n.5 .5 0\nNi\n1\nDirect\n0 0 0\n")
    cubic = DerivativeStructures(cells=(3, 3))
    small = DerivativeStructures(cells=(3, 3), crystal=tmp_path / "POSCAR")
    first, second = cubic.load(0), small.load(0)
    assert len(first) == len(second) == 6
    assert first.values[0].size > second.values[0].size

    def per_site(structures: Structures, crystal: Crystal) -> list[tuple[float, ...]]:
        size = structures.values[0].size
        return sorted(tuple(round(n / size, 9) for n in counts) for counts in counts_of_pairs(structures, crystal))

    assert per_site(first, cubic.parent()) == per_site(second, small.parent())
    assert len(set(per_site(first, cubic.parent()))) == 6


def test_the_first_structures_are_the_pure_ones_and_l1_0_and_l1_1() -> None:
    structures = DerivativeStructures(cells=(1, 2)).load(0)
    assert structures.fractions[:, 0].tolist() == [1.0, 0.0, 0.5, 0.5]
    nearest = sorted(counts[0] / structures.values[0].size for counts in
                     counts_of_pairs(structures, Crystal.cubic(4, 3.56e-10))[2:])  # fmt: skip
    assert nearest == [4 / 2, 6 / 2]  # of an atom's 12 neighbours 4 are its like in L1_0, 6 in L1_1


def test_too_many_sites_are_one_sentence() -> None:
    with pytest.raises(DataError, match=r"dataset.cells = \[1, 5\] needs 60 x 60 x 60 cells, 864000 sites"):
        DerivativeStructures(cells=(1, 5)).load(0)
    with pytest.raises(DataError, match=r"20 sites can hold 2 species in 1048576 ways"):
        DerivativeStructures(cells=(20, 20), lattice="sc").load(0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_numbers_are_those_of_icet() -> None:
    tools = pytest.importorskip("icet.tools")
    build = pytest.importorskip("ase.build")
    found = list(tools.enumerate_structures(build.bulk("Ni", a=3.56), range(1, 6), ["Fe", "Ni"]))
    own = [sum(len(occupations(s, crystal, 2, exchange=False)) for s in superlattices(crystal, n))
           for crystal in [Crystal(FCC, ORIGIN)] for n in range(1, 6)]  # fmt: skip
    assert [sum(len(atoms) == n for atoms in found) for n in range(1, 6)] == own
