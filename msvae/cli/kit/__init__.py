"""`msvae plugin new`: an installable package of a plugin that works, to be changed into one's own.

The four files beside this one are the plugins; a new package has one of them under its own name, with a test, a study
that runs as it is, and a page that says how to go on.
"""

from __future__ import annotations

import keyword
import re
import sys
from importlib.resources import files
from pathlib import Path
from string import Template

from msvae import plugins
from msvae.errors import PluginError
from msvae.files.atomic import write_atomically

__all__ = ["KINDS", "write_package"]

KINDS = ("solver", "dataset", "architecture", "searcher")
WELL_FORMED = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def write_package(name: str, kind: str, parent: Path) -> list[Path]:
    """Write the package NAME below a folder and return its files; PluginError for a name that is not free."""
    _check(name, kind)
    module, folder = name.replace("-", "_"), parent / name
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PluginError(f"'{folder}' is there already: give another name, or another folder with --output")
    names = {"name": name, "module": module, "kind": kind, "class_name": _camel(name)}
    source = files("msvae.cli.kit").joinpath(f"{kind}.py").read_text()
    source = re.sub(r"\bMine\b", names["class_name"], source)
    contents = {
        f"{module}.py": source.replace('name = "mine"', f'name = "{name}"'),
        f"test_{module}.py": _filled("test", names),
        "pyproject.toml": _filled("pyproject", names),
        "study.toml": _filled(f"study-{kind}", names),
        "README.md": _filled("readme", names),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in contents.items():
        write_atomically(folder / file, text.encode())
    return [folder / file for file in contents]


def _check(name: str, kind: str) -> None:
    """Raise PluginError for a name that no plugin or no module may have."""
    if kind not in KINDS:
        raise PluginError(f"--kind {kind}: expected one of {', '.join(KINDS)}")
    if not WELL_FORMED.fullmatch(name):
        raise PluginError(
            f"'{name}' is no name of a plugin: use lower-case letters, digits and hyphens, as in my-solver"
        )
    module = name.replace("-", "_")
    if keyword.iskeyword(module) or module in sys.stdlib_module_names or module == "msvae":
        raise PluginError(f"'{name}' is the name of a module of Python: choose another, such as my-{name}")
    taken = plugins.registry().loaded.get((kind, name))
    if taken is not None:
        raise PluginError(f"a {kind} of '{taken.distribution}' is called '{name}': choose another name")


def _camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("-"))


def _filled(page: str, names: dict[str, str]) -> str:
    return Template(files("msvae.cli.kit").joinpath(f"{page}.txt").read_text()).substitute(names)
