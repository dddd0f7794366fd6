"""The rooms of the plugin: imports run one way between them."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import pytest

import msvae_voxelfe

ROOT = Path(msvae_voxelfe.__file__).parent
# each uses itself and those before it
ORDER = ["materials", "elements", "voxels", "kernels", "backends", "linear", "flow", "nonlinear"]
FILES = sorted(ROOT.glob("*/*.py"))
MODULES = {f"{path.parent.name}.{path.stem}" for path in FILES}


def imported(path: Path) -> set[str]:
    """Return "room.module" of those of the plugin that a file imports, at once or when needed, or for their types."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom) and node.module]
    names = {
        dotted for node in nodes for alias in node.names for dotted in (node.module, f"{node.module}.{alias.name}")
    }
    return {name.removeprefix("msvae_voxelfe.") for name in names} & MODULES


def test_every_room_has_its_place_in_the_order() -> None:
    assert sorted(ORDER) == sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))
    assert [path.name for path in ROOT.glob("*.py")] == ["__init__.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_room_uses_itself_and_those_before_it(path: Path) -> None:
    allowed = ORDER[: ORDER.index(path.parent.name) + 1]
    assert {name.split(".")[0] for name in imported(path)} <= set(allowed)


def test_there_are_no_circles() -> None:
    graph = {f"{path.parent.name}.{path.stem}": imported(path) for path in FILES}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(MODULES)
