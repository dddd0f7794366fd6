"""The rooms of msvae: which import which, and the picture of it in docs/architecture.md.

python tests/architecture/rooms.py    # draws the picture again
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from graphlib import TopologicalSorter
from pathlib import Path

__all__ = [
    "CORE",
    "PAGE",
    "PICTURE",
    "PLUGINS",
    "ROOT",
    "imported",
    "late",
    "neighbours",
    "picture",
    "reduced",
    "room",
    "room_of",
    "rooms",
]

ROOT = Path(__file__).parents[2]
CORE = sorted((ROOT / "msvae").rglob("*.py"))
PLUGINS = sorted((ROOT / "plugins").rglob("*.py"))
INTERFACES = ROOT / "msvae" / "plugins" / "interfaces.py"  # names the types of what a campaign is given
PAGE = ROOT / "docs" / "architecture.md"
PICTURE = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def imported(path: Path) -> set[str]:
    """Return the dotted names that a file imports; of the interfaces those that it executes."""
    found: set[str] = set()
    tree = ast.parse(path.read_text())
    if path == INTERFACES:
        tree.body = [node for node in tree.body if not isinstance(node, ast.If)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def late(path: Path) -> set[str]:
    """Return the modules of msvae that a file imports by a call with their name."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    names = [a.value for call in calls if ast.unparse(call.func).endswith("import_module") for a in call.args
             if isinstance(a, ast.Constant)]  # fmt: skip
    return {name for name in names if isinstance(name, str) and name.startswith("msvae.")}


def room(dotted: str) -> str:
    """Return the room, or the file beside the rooms, that a dotted name of msvae is in.

    >>> room("msvae.vae.model.VAE")
    'vae'
    """
    return dotted.split(".")[1]


def room_of(path: Path) -> str:
    """Return the room that a file of msvae is in, or the file's own name if it stands beside the rooms."""
    return path.relative_to(ROOT / "msvae").parts[0].removesuffix(".py")


def rooms() -> set[str]:
    """Return the folders of msvae."""
    return {path.parent.name for path in (ROOT / "msvae").glob("*/__init__.py")}


def neighbours() -> dict[str, set[str]]:
    """Return what every room, and every file beside the rooms, imports of the others."""
    found: dict[str, set[str]] = {}
    for path in CORE:
        if path != ROOT / "msvae" / "__init__.py":
            names = {room(name) for name in imported(path) if name.startswith("msvae.")}
            found.setdefault(room_of(path), set()).update(names - {room_of(path)})
    return found


def reduced(graph: Mapping[str, Iterable[str]]) -> set[tuple[str, str]]:
    """Return the arrows of a graph's transitive reduction: those that no longer way replaces. No circles are allowed.

    >>> sorted(reduced({"c": {"a", "b"}, "b": {"a"}, "a": ()}))
    [('b', 'a'), ('c', 'b')]
    """
    reached: dict[str, set[str]] = {}
    for here in TopologicalSorter(graph).static_order():
        reached[here] = {far for near in graph[here] for far in (near, *reached[near])}
    return {
        (here, near)
        for here in graph
        for near in graph[here]
        if not any(near in reached[other] for other in graph[here])
    }


def picture() -> str:
    """Return the Mermaid flowchart of the rooms, from the one that nothing imports down."""
    graph = {here: near & rooms() for here, near in neighbours().items() if here in rooms()}
    order = list(TopologicalSorter({here: sorted(near) for here, near in sorted(graph.items())}).static_order())[::-1]
    arrows = sorted(reduced(graph), key=lambda arrow: (order.index(arrow[0]), order.index(arrow[1])))
    return "\n".join(["flowchart TD", *(f"    {here} --> {near}" for here, near in arrows), ""])


if __name__ == "__main__":
    PAGE.write_text(PICTURE.sub(lambda _: f"```mermaid\n{picture()}```", PAGE.read_text()))
