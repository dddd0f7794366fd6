"""Tables of alloys: formulas, features, and what is wrong with them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from msvae import DataError
from msvae.structures.splits import split_of
from msvae_alloys.compositions import Compositions
from msvae_alloys.elements import element_table
from msvae_alloys.formulas import amounts, formula_of

PUBLISHED = ("k", "vm", "tm", "vac", "delta", "delta_chi", "delta_s_mix", "delta_h_mix")


@pytest.mark.parametrize(
    ("formula", "found"),
    [
        ("Al0.2CoCrFeMnNi", {"Al": 0.2, "Co": 1, "Cr": 1, "Fe": 1, "Mn": 1, "Ni": 1}),
        ("(FeNi)0.9Ti.1", {"Fe": 0.9, "Ni": 0.9, "Ti": 0.1}),
        ("Fe2[Co(NiCr)2]3Fe", {"Fe": 3, "Co": 3, "Ni": 6, "Cr": 6}),
        ("Ni 3 Al0", {"Ni": 3}),
    ],
)
def test_formulas_are_read(formula: str, found: dict[str, float]) -> None:
    assert amounts(formula) == pytest.approx(found)


@pytest.mark.parametrize(
    ("formula", "says"),
    [("", "has no element"), ("fe", "found 'fe'"), ("Fe(Ni", "not closed"), ("Fe)Ni", "not opened"),
     ("2Fe", "does not follow"), ("Fe-Ni", "found '-Ni'"), ("Al0", "has no element")],
)  # fmt: skip
def test_what_is_no_formula_is_said(formula: str, says: str) -> None:
    with pytest.raises(DataError, match=says.replace("(", "\\(")):
        amounts(formula)


def test_formulas_of_compositions_read_back() -> None:
    rng = np.random.default_rng(0)
    symbols = ("Al", "Co", "Cr", "Fe", "Ni")
    for x in rng.dirichlet(np.ones(5), 50):
        back = amounts(formula_of(symbols, x.tolist()))
        total = sum(back.values())
        assert all(abs(back.get(s, 0.0) / total - v) < 2e-3 for s, v in zip(symbols, x, strict=True))


def test_the_published_features_are_those_of_the_formulas(data: Path) -> None:
    table = data / "hea" / "alloys.csv"
    alloys = Compositions(path=table, properties=("Class", *PUBLISHED), features=True).load(0)
    assert len(alloys) == 1445
    ours = [name for name in alloys.properties if name not in ("Class", *PUBLISHED)]
    for name, published in zip(ours, PUBLISHED, strict=True):
        expected = alloys.properties[published]
        np.testing.assert_allclose(alloys.properties[name], expected, rtol=1e-3, atol=1e-3, err_msg=name)


def test_price_and_density_of_a_pure_element_are_its_own() -> None:
    table = element_table(("Fe", "Ni"))
    one = np.eye(2)
    np.testing.assert_allclose(table.price(one), table.values["price"])
    np.testing.assert_allclose(table.density(one), table.values["density"])
    assert table.features(one)[:, 4:].tolist() == [[0.0, 0.0, 0.0, 0.0]] * 2


def write(path: Path, rows: list[list[str]]) -> Path:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def test_a_table_with_unknown_classes_and_another_separator_is_read(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("name;alloy;class\na;FeNi;1\nb;Fe3Ni;\n\nc;NiCr;0\n", encoding="utf-8-sig")
    found = Compositions(path=path, formula="alloy", properties=("class",)).load(0)
    assert found.specification.constituents == ("Cr", "Fe", "Ni")
    np.testing.assert_allclose(found.values, [[0, 0.5, 0.5], [0, 0.75, 0.25], [0.5, 0, 0.5]])
    np.testing.assert_array_equal(found.properties["class"], [1, np.nan, 0])


def test_a_sheet_is_read(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["alloy", "hardness"], ["FeNi", 120.5], ["FeCr", None]):
        book.active.append(row)
    book.save(tmp_path / "t.xlsx")
    found = Compositions(path=tmp_path / "t.xlsx", properties=("hardness",), units=("HV",)).load(0)
    np.testing.assert_array_equal(found.properties["hardness"], [120.5, np.nan])
    assert found.quantities[0].unit == "HV"


@pytest.mark.parametrize(
    ("rows", "settings", "says"),
    [
        ([["alloy"], ["FeNi"], ["Fe-Ni"]], {}, r"row 3: formula 'Fe-Ni'"),
        ([["alloy"], ["FeNi"], ["XxFe"]], {"features": True}, "no data of element"),
        ([["alloy", "c"], ["FeNi", "one"]], {"properties": ("c",)}, "row 2: found 'one', expected a number"),
        ([["alloy", "c"], ["FeNi"]], {}, "row 2 has 1 columns, expected 2"),
        ([["alloy"], ["FeNi"]], {"properties": ("class",)}, "has no column 'class'"),
        ([["alloy"]], {}, "has no alloys"),
        ([], {}, "is empty"),
    ],
)
def test_a_wrong_table_is_said(tmp_path: Path, rows: list[list[str]], settings: dict[str, object], says: str) -> None:
    path = write(tmp_path / "t.csv", rows)
    with pytest.raises(DataError, match=says):
        Compositions(path=path, **settings).load(0)  # type: ignore[arg-type]


@pytest.mark.parametrize("families", ["elements", "base"])
def test_families_are_on_one_side_of_a_split(data: Path, families: str) -> None:
    alloys = Compositions(path=data / "hea" / "alloys.csv", families=families).load(0)  # type: ignore[arg-type]
    sides = split_of(alloys, 0.2, 0)
    assert alloys.groups is not None
    assert not set(alloys.groups[sides.train]) & set(alloys.groups[sides.held_out])
    if families == "elements":
        kinds = [{tuple(row > 0) for row in alloys.values[side]} for side in (sides.train, sides.held_out)]
        assert not kinds[0] & kinds[1]
