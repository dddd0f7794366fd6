"""What is read of files: numbers in texts and tables, arrays, fields on meshes, formulas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import meshio
import numpy as np
import pytest

from msvae_external.failures import Failure
from msvae_external.formulas import evaluated, holds
from msvae_external.readers import read
from msvae_external.settings import Reading

DAT = """
 stresses (elem, integ.pnt.,sxx,syy,szz,sxy,sxz,syz) for set EALL and time  0.5000000E+00

         1   1  1.000000E+00  2.000000E+00  3.000000E+00  4.000000E+00  5.000000E+00  6.000000E+00
         1   2  3.000000E+00  2.000000E+00  3.000000E+00  4.000000E+00  5.000000E+00 -6.000000E+00

 displacements (vx,vy,vz) for set TOP and time  0.5000000E+00

         7  1.000000E-03  0.000000E+00  0.000000E+00

 stresses (elem, integ.pnt.,sxx,syy,szz,sxy,sxz,syz) for set EALL and time  0.1000000E+01

         1   1  5.000000E+00  2.000000E+00  3.000000E+00  4.000000E+00  5.000000E+00  6.000000E+00
         1   2  7.000000E+00  2.000000E+00  3.000000E+00  4.000000E+00  5.000000E+00 -6.000000E+00

 internal energy density (elem, integ.pnt.,eneinternal) for set EALL and time  0.1000000E+01

         1   1  8.000000E+00

 total force (fx,fy,fz) for set LEFT and time  0.1000000E+01

        1.500000E+00  2.500000E+00  3.500000E+00
"""


def found(folder: Path, text: str | None = None, **keys: Any) -> Any:
    if text is not None:
        (folder / "out").write_text(text)
    return read(folder, Reading("a", "out", **keys), {}).tolist()


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"pattern": r"k = (\S+)"}, 0.25),
        ({"pattern": r"k = (\S+)", "rows": "first"}, 2.0),
        ({"pattern": r"k = (\S+)", "rows": "all"}, [2.0, 0.25]),
        ({"pattern": r"k = (\S+)", "rows": "sum", "factor": 1e3}, 2250.0),
        ({"pattern": r"^x (\S+) (\S+)$"}, [1.0, -3.5]),
    ],
)
def test_patterns(tmp_path: Path, keys: dict[str, Any], expected: Any) -> None:
    assert found(tmp_path, "k = 2\nk = 2.5D-01\nx 1 -3.5\n", **keys) == expected


@pytest.mark.parametrize(
    ("text", "column", "rows", "expected"),
    [
        ("t,load\n0,1\n1,3\n", ("load",), None, 3.0),
        ("t,load\n0,1\n1,3\n", ("load", "t"), "all", [[1.0, 0.0], [3.0, 1.0]]),
        ("# t load\n0 1\n\n1 3\n", ("load",), "mean", 2.0),
        ("0;1\n1;3\n", ("1",), "all", [1.0, 3.0]),
    ],
)
def test_columns(tmp_path: Path, text: str, column: tuple[str, ...], rows: Any, expected: Any) -> None:
    assert found(tmp_path, text, column=column, rows=rows) == expected


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"table": "stresses"}, [6.0, 2.0, 3.0, 4.0, 5.0, 0.0]),
        ({"table": "stresses", "column": ("syz", "sxx"), "rows": "last"}, [-6.0, 7.0]),
        ({"table": "stresses", "column": ("sxx",), "times": "all"}, [2.0, 6.0]),
        ({"table": "displacements", "set": "top"}, [1e-3, 0.0, 0.0]),
        ({"table": "internal energy density", "rows": "sum"}, 8.0),
        ({"table": "total force"}, [1.5, 2.5, 3.5]),
    ],
)
def test_tables_of_calculix(tmp_path: Path, keys: dict[str, Any], expected: Any) -> None:
    assert found(tmp_path, DAT, **keys) == expected
    with pytest.raises(Failure, match=r"there are: displacements of TOP, .*, stresses of EALL"):
        found(tmp_path, table="strains")


def test_json_and_hdf5(tmp_path: Path) -> None:
    assert found(tmp_path, '{"a/b": [{"c": 2}, {"c": [1, 2]}]}', pointer="/a~1b/1/c") == [1.0, 2.0]
    with h5py.File(tmp_path / "out", "w") as file:
        file["results/stress"] = np.arange(6.0).reshape(3, 2)
    assert found(tmp_path, dataset="results/stress", rows="mean") == [2.0, 3.0]
    assert found(tmp_path, dataset="results/stress")[2] == [4.0, 5.0]
    with pytest.raises(Failure, match="'results' is a group"):
        found(tmp_path, dataset="results")


def test_a_field_is_averaged_over_the_volume(tmp_path: Path) -> None:
    """A linear field on distorted cells: its mean is its value at the centre of a brick of any partition."""
    points = np.array([[x, y, z] for z in (0, 2.0) for y in (0, 1.0) for x in (0, 1.0, 4.0)])
    cells = np.array([[0, 1, 4, 3, 6, 7, 10, 9], [1, 2, 5, 4, 7, 8, 11, 10]])
    mesh = meshio.Mesh(points, [("hexahedron", cells)], {"x": points[:, 0]}, {"k": [np.array([[1.0, 0], [2.0, 4]])]})
    meshio.write(tmp_path / "mesh.vtu", mesh)
    (tmp_path / "mesh.vtu").rename(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "out.vtu")
    assert read(tmp_path, Reading("a", "out.vtu", field="k"), {}).tolist() == pytest.approx([1.75, 3.0])
    assert float(read(tmp_path, Reading("a", "out.vtu", field="x"), {})) == pytest.approx(2.0)
    with pytest.raises(Failure, match="there is no field 'q'"):
        read(tmp_path, Reading("a", "out.vtu", field="q"), {})


def test_a_function_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_reader.py").write_text(
        "def lines(folder, names): return [len((folder / 'out').read_text().split()), names['E']]\n"
        "def broken(folder, names): return 1 / 0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "out").write_text("a b c")
    assert read(tmp_path, Reading("a", function="own_reader:lines"), {"E": 2.0}).tolist() == [3.0, 2.0]
    with pytest.raises(Failure, match="'own_reader:broken' raised ZeroDivisionError"):
        read(tmp_path, Reading("a", function="own_reader:broken"), {})


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("(a + 1)[0] * -2", -4.0),
        ("a @ a.T", 5.0),
        ("mean(b, 0)[1:]", [3.0]),
        ("sum(b) / maximum(a) ** 2", 2.5),
        ("array(a, b[-1])", [[1.0, 2.0], [3.0, 4.0]]),
        ("trace(inverse(b))", -2.5),
        ("column(a) * a", [[1.0, 2.0], [2.0, 4.0]]),
    ],
)
def test_formulas(formula: str, expected: Any) -> None:
    names = {"a": [1.0, 2.0], "b": [[1.0, 2.0], [3.0, 4.0]]}
    assert evaluated(formula, names).tolist() == pytest.approx(np.array(expected))


@pytest.mark.parametrize(
    "formula",
    ["__import__('os')", "a.__class__", "open('x')", "(lambda: 1)()", "[x for x in a]", "a if b else c", "f'{a}'",
     "a[b]", "sqrt(x=1)", "9 ** 9 ** 9 ** 99999999999", "a := 1", "a; b", "().__class__", "'a' * 9", "(" * 300,
     "a" * 3000],
)  # fmt: skip
def test_what_is_no_arithmetic_is_no_formula(formula: str) -> None:
    assert not holds(formula)


def test_a_formula_without_a_value_is_a_failure() -> None:
    for formula, says in (("a + q", "there is no 'q'"), ("inverse(a)", "two-dimensional"), ("a[7]", "out of bounds")):
        with pytest.raises(Failure, match=says):
            evaluated(formula, {"a": [1.0, 2.0]})
    assert np.isinf(evaluated("9 ** 9 ** 9", {}))
