"""Settings say once what they are: in the annotation, for studies, for direct construction, for schema and tables."""

from __future__ import annotations

import dataclasses
import inspect
import math
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import pytest
from pydantic import Field, TypeAdapter

import msvae
from msvae.plugins import registry, settings_of
from msvae.plugins.interfaces import Campaign
from msvae.plugins.keys import Key, fault_of, keys_of
from msvae.study.schema import descriptions
from msvae.study.settings import Sections
from msvae_voxelfe.linear.elasticity import Elasticity, ElasticPhase


def tables() -> list[type[Any]]:
    """Return every class of settings: of the installed plugins, of the tables of a study, and those inside of them."""
    found = [entry.plugin for entry in registry().loaded.values()]
    found += [table for plugin in found if issubclass(plugin, Campaign) for table in plugin.all_tables().values()]
    found.append(Sections)
    every = {table for top in found for table, *_ in settings_of(top)} | set(found)
    return sorted((table for table in every if dataclasses.is_dataclass(table)), key=lambda t: t.__qualname__)


TABLES = tables()


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t.__qualname__)
def test_every_key_is_described_and_its_default_is_allowed(table: type[Any]) -> None:
    said = descriptions(table) if table is not Sections else {}
    for field in dataclasses.fields(table):
        assert table is Sections or said[field.name], f"{table.__qualname__}.{field.name} is described nowhere"
        key = keys_of(table)[field.name]
        if field.default is not dataclasses.MISSING and field.default is not None:
            assert key.fault(field.default) is None, field.name


@pytest.mark.parametrize("table", [t for t in TABLES if t is not Sections], ids=lambda t: t.__qualname__)
def test_no_number_takes_what_is_none(table: type[Any]) -> None:
    for name, key in keys_of(table).items():
        if key.words == "number":
            for value in (math.nan, math.inf, -math.inf):
                allowed = key.fault(value) is None
                assert not allowed or (math.isinf(value) and key.bounds), f"{table.__qualname__}.{name} takes {value}"


def test_a_study_and_a_class_say_the_same_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^youngs_modulus is at least 0 Pa, found -1$"):
        ElasticPhase(youngs_modulus=-1)
    with pytest.raises(msvae.StudyError, match=r"phases\[0\]\.youngs_modulus is at least 0 Pa, found -1$"):
        msvae.load_solver("elasticity", phases=[{"youngs_modulus": -1}])
    with pytest.raises(ValueError, match=r"^poissons_ratio is above -1 and below 0\.5, found 0\.5$"):
        ElasticPhase(1.0, 0.5)
    with pytest.raises(ValueError, match="tolerance is finite and above 0 and below 1"):
        Elasticity(phases=(ElasticPhase(1.0),), tolerance=math.nan)
    assert ElasticPhase(1.0, 0.3) == dataclasses.replace(ElasticPhase(2.0, 0.3), youngs_modulus=1.0)


def test_a_class_of_ones_own_is_checked_before_its_post_init() -> None:
    calls = []

    class Radius(msvae.Settings):
        def __post_init__(self) -> None:
            calls.append(self)

    radius = dataclasses.make_dataclass(
        "Radius",
        [
            ("length", Annotated[msvae.Positive, msvae.Unit("m")]),
            ("counts", Annotated[tuple[msvae.Count, ...], msvae.Ascending], dataclasses.field(default=())),
            ("share", Annotated[float, Field(gt=0, le=1)], dataclasses.field(default=0.5)),
        ],
        bases=(Radius,),
        frozen=True,
    )
    assert radius(1.0, (1, 2)) == TypeAdapter(radius).validate_python({"length": 1.0, "counts": (1, 2)})
    assert len(calls) == 2
    for arguments, sentence in [
        ({"length": 0.0}, "length is finite and above 0 m, found 0.0"),
        ({"length": math.inf}, "length is finite and above 0 m, found Infinity"),
        ({"length": 1.0, "counts": (2, 1)}, r"counts is in ascending order, found \[2, 1\]"),
        ({"length": 1.0, "counts": (10**400,)}, r"counts\[0\] is at least 1 and below"),
        ({"length": 1.0, "share": 1.5}, "share is above 0 and at most 1, found 1.5"),
    ]:
        with pytest.raises(ValueError, match=sentence.replace("finite and ", "(finite and )?")):
            radius(**arguments)
    assert len(calls) == 2
    assert TypeAdapter(radius).json_schema()["properties"]["length"]["unit"] == "m"


def test_what_is_shown_is_what_the_annotation_says() -> None:
    shown = {name: (key, default) for _, name, key, default in settings_of(Elasticity)}
    key, default = shown["phases[].youngs_modulus"]
    assert (key.words, key.measure, key.range, default) == ("number", "Pa", ">= 0", "0.0")
    assert shown["phases"][1] == "required"
    assert fault_of(Elasticity, {"phases": []}) is not None
    assert isinstance(keys_of(Elasticity)["tolerance"], Key)


def test_a_post_init_ties_two_keys() -> None:
    """A check of one key alone belongs into its annotation."""
    for table in TABLES:
        check = table.__dict__.get("__post_init__")
        if check is not None and table.__qualname__ != "PeriodicHyperelasticity":  # of phases that other solvers take
            names = {name for name in get_type_hints(table) if f"self.{name}" in inspect.getsource(check)}
            assert len(names) != 1, f"{table.__qualname__}.__post_init__ looks at '{min(names)}' alone"
