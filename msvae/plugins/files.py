"""Plugin files: the Python file that a study names, with the modules it imports from its folder.

The name of the imported module contains a hash of the file and its helpers, so that changed content is another plugin.
Helpers are the modules and packages in its folder that it imports, directly or indirectly. They are found by parsing
the source, not by importing it; an import by a computed name is not detected.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from msvae.errors import PluginError

__all__ = ["digest_of", "helpers_of", "import_file", "module_name"]

PREFIX = "msvae_file_"  # of the names of modules that were imported from files


def module_name(path: Path) -> str:
    """Return the module name under which a plugin file is imported."""
    return f"{PREFIX}{path.stem}_{_digest(path)}"


def digest_of(module: str) -> str | None:
    """Return the first 16 hex digits of the SHA-256 of a module's plugin file and its helpers; None for others."""
    return module.rpartition("_")[2] if module.startswith(PREFIX) else None


def helpers_of(path: Path) -> list[Path]:
    """Return the files below a plugin file's folder that it imports, directly or indirectly, without itself."""
    folder, found, left = path.parent, {path}, [path]
    while left:
        for file in _imported(left.pop(), folder):
            if file not in found:
                found.add(file)
                left.append(file)
    return sorted(found - {path})


def import_file(path: Path) -> ModuleType:
    """Import a file as a module named by its content, without registering it; PluginError if that fails."""
    name = module_name(path)
    if not path.is_file():
        raise PluginError("there is no such file")
    specification = importlib.util.spec_from_file_location(name, path)
    if specification is None or specification.loader is None:
        raise PluginError("its name does not end in .py")
    module = importlib.util.module_from_spec(specification)
    _make_way_for(path)
    sys.modules[name] = module  # so that its classes can be pickled
    specification.loader.exec_module(module)
    return module


def _digest(path: Path) -> str:
    if not path.is_file():
        return hashlib.sha256(b"").hexdigest()[:16]
    digest = hashlib.sha256(path.read_bytes())
    for helper in helpers_of(path):
        digest.update(helper.relative_to(path.parent).as_posix().encode() + b"\0" + helper.read_bytes())
    return digest.hexdigest()[:16]


def _imported(path: Path, folder: Path) -> Iterator[Path]:
    """Yield the files in a folder that a file imports; none if it cannot be parsed as Python."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [(folder, alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = path.parents[node.level - 1] if 0 < node.level <= len(path.parents) else folder
            base = node.module.split(".") if node.module else []
            names = [(start, [*base, alias.name]) for alias in node.names]
        else:
            continue
        for start, parts in names:
            if start.is_relative_to(folder):
                yield from _files_of(start, parts)


def _files_of(folder: Path, parts: list[str]) -> Iterator[Path]:
    """Yield the files that importing a dotted name from a folder executes."""
    for part in parts:
        if (folder / f"{part}.py").is_file():
            yield folder / f"{part}.py"
            return
        folder = folder / part
        if not folder.is_dir():
            return
        if (folder / "__init__.py").is_file():
            yield folder / "__init__.py"


def _make_way_for(path: Path) -> None:
    """Make a plugin file's helpers importable, now and later, in place of another file's helpers of the same name."""
    folder = path.parent
    tops = {helper.relative_to(folder).parts[0].removesuffix(".py") for helper in helpers_of(path)}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name.split(".")[0] in tops and file is not None and not Path(file).is_relative_to(folder):
            del sys.modules[name]
    if tops:
        sys.path[:] = [str(folder), *(entry for entry in sys.path if entry != str(folder))]
