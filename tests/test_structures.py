"""Structures of every kind, their ids, their properties, and what is refused."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msvae import DataError, Grid, Quantity, Specification, Structures
from msvae.files.structures import read_structures, structures_to_bytes
from msvae.plugins.conformance import example_structures
from msvae.structures import KINDS, Kind


def cases() -> list[tuple[Kind, int]]:
    return [(kind, d) for kind in KINDS for d in ((0,) if kind == "composition" else (2, 3))]


@pytest.mark.parametrize(("kind", "dimensions"), cases())
def test_every_kind_survives_a_file_bit_for_bit(kind: Kind, dimensions: int, tmp_path: Path) -> None:
    structures = example_structures(kind, dimensions, 3)
    structures = structures.with_properties({"p": np.arange(6.0).reshape(3, 2)}, [Quantity("p", "Pa", (2,))])
    path = tmp_path / "s.h5"
    path.write_bytes(structures_to_bytes(structures))
    again = read_structures(path)
    assert again.ids == structures.ids
    assert again.specification == structures.specification
    assert again.quantity("p").unit == "Pa"
    np.testing.assert_array_equal(again.properties["p"], structures.properties["p"])
    assert read_structures(path, np.array([1])).ids == structures.ids[1:2]


def test_ids_depend_on_values_and_grid_and_nothing_else() -> None:
    labels = np.array([[[0, 1], [1, 0]], [[0, 1], [1, 0]], [[1, 1], [1, 0]]])
    structures = Structures.from_labels(labels, 1e-6)
    assert structures.ids[0] == structures.ids[1] != structures.ids[2]
    assert len(structures.ids[0]) == 16
    assert Structures.from_labels(labels, 2e-6).ids[0] != structures.ids[0]
    known = structures.with_properties({"p": np.ones(3)}, [Quantity("p")])
    assert known.ids == structures.ids


def test_values_cannot_be_written_to() -> None:
    structures = example_structures("phases", 2, 1)
    with pytest.raises(ValueError, match="read-only"):
        structures.values[0] = 1


def test_fractions_are_those_of_the_voxels() -> None:
    structures = Structures.from_labels([[[0, 1], [2, 2]]])
    np.testing.assert_allclose(structures.fractions, [[0.25, 0.25, 0.5]])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Structures.from_labels([[[0.5, 1.0]]]), "integers"),
        (lambda: Structures.from_labels(np.zeros((0, 4, 4), dtype=int)), "at least one"),
        (lambda: Structures.from_labels([[[0, 3]]], phases=2), "from 0 to 1"),
        (lambda: Structures([[[[np.nan]]]], Specification("phases", 1, Grid.of((1, 1)), ("a", "b"))), "integers"),
        (lambda: Structures([[np.nan]], Specification("composition", 1, Grid(), ("Fe",))), "sum to 1"),
        (lambda: Structures.from_labels([[[0, 1]]], spacing=0.0), "positive length"),
        (lambda: Structures.from_labels([[[0, 1]]], spacing=[1.0]), "needs 2 spacings"),
        (lambda: Grid.of((0, 2)), "at least one point"),
        (lambda: Specification("voxels", 1, Grid.of((2, 2)), ("a",)), "one of phases"),  # type: ignore[arg-type]
        (lambda: Specification("composition", 2, Grid(), ("Fe",)), "name each"),
        (lambda: Structures(np.ones((1, 2)), Specification("composition", 2, Grid(), ("Fe", "Ni"))), "sum to 1"),
        (lambda: Structures(np.zeros((1, 3)), Specification("phases", 1, Grid.of((2,)), ("a", "b"))), "shape"),
        (lambda: example_structures("phases", 2, 2).with_properties({"p": [1.0]}, [Quantity("p")]), "shape"),
        (lambda: example_structures("occupation", 2, 2).labels, "one channel"),
    ],
)
def test_what_cannot_be_a_structure_is_refused_in_one_sentence(make: Any, says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_quantity_resolves_its_shape_and_reads_its_scaling_from_its_unit() -> None:
    stiffness = Quantity("stiffness", "Pa", ("v", "v"))
    assert stiffness.resolve(2).sizes == (3, 3)
    assert stiffness.resolve(3).size == 36
    with pytest.raises(DataError, match="resolve"):
        _ = stiffness.sizes
    scalings = {"m": 1, "m^2": 2, "1/m": -1, "1/m^2": -2, "Pa": 0, "W/m/K": 0, "1": 0}
    assert {unit: Quantity("q", unit).scaling for unit in scalings} == scalings
    assert Quantity("energy", "J", spacing_exponent=3).scaling == 3


def test_a_damaged_file_of_structures_is_refused(tmp_path: Path) -> None:
    content = structures_to_bytes(example_structures("phases", 2, 2))
    for name, piece in (("cut.h5", content[: len(content) // 2]), ("empty.h5", b""), ("text.h5", b"hello")):
        (tmp_path / name).write_bytes(piece)
        with pytest.raises(DataError, match=name):
            read_structures(tmp_path / name)
    assert io.BytesIO(content).read(4) == b"\x89HDF"


@pytest.mark.parametrize("unit", ["", "  ", None])
def test_a_missing_unit_is_refused(unit: str) -> None:
    with pytest.raises(DataError, match=r"'stress' has the unit .*: give an SI unit, or '1' for a pure number"):
        Quantity("stress", unit)
