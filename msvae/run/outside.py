"""Paths, executors, programs and servers outside a run that its study names; refused if the run is not trusted."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msvae.errors import RunError
from msvae.files.border import holds
from msvae.study import Study, parse_assignment

__all__ = ["check_acting", "check_outside", "named_paths"]

Key = tuple[str, ...]
PLUGINS = ("dataset", "architecture", "solver")
ACTS = (  # what a text names, its form, and what would be done
    ("a program", re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*"), "which would be executed"),  # "module:name"
    ("a server", re.compile(r"\w+://.*", re.DOTALL), "to which structures would be sent"),
)
OTHERS = ("cache", "path"), ("design", "start_from"), ("part", "file")  # keys that are paths, though not by their type


def check_outside(study: Study, run: Path, overrides: Sequence[str] = ()) -> None:
    """Raise RunError if a study names a file outside its run, or what acts: a program, or a server.

    overrides: "key.path=value" from the user, whose values are trusted.
    """
    check_acting(study, run, overrides)
    own = _own(overrides)
    for key, path in named_paths(study):
        if any(key[: len(mine)] == mine for mine in own) or _is_inside(key, path, run):
            continue
        raise RunError(
            f"'{run}' names '{path}' as {'.'.join(key)}, which is not data of the run and would be read or written: "
            f"add --trust, or --set {'.'.join(key)}=..."
        )
    engine = study.executor.name
    if (":" in engine or engine == "parsl") and ("executor", "name") not in own:
        raise RunError(
            f"'{run}' names an executor of its own, '{engine}', which would be executed: add --trust, or "
            "--set executor.name='serial'"
        )


def check_acting(study: Study, run: Path, overrides: Sequence[str] = ()) -> None:
    """Raise RunError if a study names what acts: a program, what a solver executes, or a server."""
    own = _own(overrides)
    for key, name, what, act in _acting(study):
        if not any(key[: len(mine)] == mine for mine in own):
            raise RunError(
                f"'{run}' names {what} as {'.'.join(key)}, '{name}', {act}: add --trust, or --set {'.'.join(key)}=..."
            )


def _own(overrides: Sequence[str]) -> list[Key]:
    """Return the keys that the user has set."""
    return [tuple(parse_assignment(text)[0]) for text in overrides]


def _is_inside(key: Key, path: str, run: Path) -> bool:
    """Return whether a path leads to data in the run; a mesh stands beside the study, others are taken from here.

    A solver's input files do not count as data: some potentials are programs.
    """
    return key[0] != "solver" and holds(run, run / path if key == ("part", "file") else Path(path))


def named_paths(study: Study) -> Iterator[tuple[Key, str]]:
    """Yield the keys of a study whose values are paths, and those values."""
    if study.cache.path is not None:
        yield ("cache", "path"), study.cache.path
    if study.training.start_from:
        yield ("training", "start_from"), study.training.start_from
    for table, plugin in _tables(study).items():
        for key, value in _texts(plugin, (table,)):
            if isinstance(value, Path) or key[:2] in OTHERS:
                yield key[:2], str(value)
            else:  # a text of several words can have a path among them
                yield from ((key[:2], part) for part in dict.fromkeys([value, *value.split()]) if _leads_away(part))


def _tables(study: Study) -> dict[str, Any]:
    """Return the tables of plugins and of the campaign, by name."""
    return {name: getattr(study, name) for name in PLUGINS} | {study.campaign.table: study.campaign, **study.more}


def _acting(study: Study) -> Iterator[tuple[Key, str, str, str]]:
    """Yield keys whose values name programs or servers, those values, what they are, and what is done."""
    solver, (program, _, executed) = study.solver, ACTS[0]
    for name in solver.executes if solver is not None else ():
        if getattr(solver, name):
            first = next((str(text) for _, text in _texts(getattr(solver, name), ())), "")
            yield ("solver", name), first, program, executed
    for table, plugin in _tables(study).items():
        for key, value in _texts(plugin, (table,)):
            for what, form, act in ACTS:
                if isinstance(value, str) and form.fullmatch(value):
                    yield key[:2], value, what, act


def _texts(value: Any, key: Key) -> Iterator[tuple[Key, str | Path]]:
    """Yield every text and path in settings, with its keys."""
    if isinstance(value, (str, Path)):
        yield key, value
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _texts(getattr(value, field.name), (*key, field.name))
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _texts(item, (*key, str(name)))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item, key)


def _leads_away(text: str) -> bool:
    """Return whether a text may be a path that leads away: absolute, upwards, or existing."""
    path = Path(text)
    try:
        there = os.path.lexists(path) if os.sep in text else path.is_file()
        return there or path.is_absolute() or ".." in path.parts
    except (OSError, ValueError):  # too long for a path, or none
        return False
