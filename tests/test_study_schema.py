"""The schema of studies: public validators accept what msvae accepts, and refuse what it refuses."""

from __future__ import annotations

import copy
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from msvae import MsvaeError, Study
from msvae.study.schema import schema

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted(ROOT.glob("examples/*/*.toml"))
STUDIES = [path for path in EXAMPLES if path.name != "pyproject.toml"]


@cache
def validator() -> jsonschema.Draft202012Validator:
    jsonschema.Draft202012Validator.check_schema(schema())
    return jsonschema.Draft202012Validator(schema())


def tables_of(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text())


@pytest.mark.parametrize("path", STUDIES, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_every_example_is_valid(path: Path) -> None:
    assert [error.message for error in validator().iter_errors(tables_of(path))] == []


def test_a_study_that_is_frozen_is_valid(tmp_path: Path) -> None:
    frozen = Study.load(ROOT / "examples" / "demo" / "study.toml").frozen()
    assert validator().is_valid(tomllib.loads(frozen))


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ((), "campain", "label"),
        ((), "campaign", "labels"),
        (("solver",), "tolerence", 1e-3),
        (("dataset",), "count", "many"),
        (("training",), "epochs", 0),
        (("training",), "epoch", 3),
        (("design",), "budget", -1),
        (("executor",), "isolation", "jail"),
    ],
)
def test_a_mistake_is_refused_by_both(tmp_path: Path, table: tuple[str, ...], key: str, value: Any) -> None:
    study = copy.deepcopy(tables_of(ROOT / "examples" / "demo" / "study.toml"))
    place = study
    for name in table:
        place = place.setdefault(name, {})
    place[key] = value
    assert not validator().is_valid(study)
    text = json.dumps(value) if isinstance(value, str) else str(value)
    with pytest.raises(MsvaeError):
        Study.load(ROOT / "examples" / "demo" / "study.toml", [f"{'.'.join((*table, key))}={text}"])


def test_every_key_is_described_and_a_plugin_of_a_file_is_accepted() -> None:
    found = schema()
    tables = {k: t for k, t in found["$defs"].items() if k.endswith("Settings") or k in ("Target", "Constraint")}
    for name, table in tables.items():
        silent = [k for k, v in table["properties"].items() if "description" not in v]
        assert not silent, f"{name} says nothing of {silent}"
    solver = next(c for c in found["properties"]["solver"]["anyOf"] if c["title"] == "Elasticity")
    assert "material of each phase" in solver["properties"]["phases"]["description"]
    own = {
        "campaign": "label",
        "plugin_files": ["mine.py"],
        "solver": {"name": "nobody-else-has-this-name", "anything": 3},
    }
    assert validator().is_valid(own)
    assert not validator().is_valid({"campaign": "label", "solver": {"name": "elasticity", "anything": 3}})
