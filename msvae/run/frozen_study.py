"""The study that a run keeps; files that it names are copied beside it and named without folders."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from msvae.errors import RunError, StudyError
from msvae.files.border import fitting, holds, read_toml
from msvae.part.settings import PartSettings
from msvae.plugins.files import helpers_of
from msvae.study import Study

__all__ = ["mesh_sources", "own_study", "plugin_sources", "with_file_names"]


def plugin_sources(study: Study) -> dict[str, Path]:
    """Return a study's plugin files and the modules they import from their folder, by their names in a run.

    StudyError if two of them would have the same path.
    """
    sources: dict[str, Path] = {}
    for k, file in enumerate(study.plugin_files):
        path = (Path(study.source.name).parent / file).resolve()
        for source in (path, *helpers_of(path)):
            name = source.relative_to(path.parent).as_posix()
            if sources.setdefault(name, source) != source and sources[name].read_bytes() != source.read_bytes():
                raise StudyError(
                    f"{study.source.at(['plugin_files', k])}: '{source}' and '{sources[name]}' have one name, and a "
                    "run keeps both in one folder: rename one of them"
                )
    return sources


def mesh_sources(study: Study) -> list[Path]:
    """Return the file with the part's mesh, if there is one; StudyError if it does not exist."""
    part = study.find(PartSettings)
    if part is None or part.file is None:
        return []
    source = (Path(study.source.name).parent / part.file).resolve()
    if not source.is_file():
        raise StudyError(f"{study.source.at(['part', 'file'])}: '{source}' does not exist")
    return [source]


def own_study(run: Path, *, trust: bool) -> Study:
    """Return the study that a run keeps; RunError if it has plugin files and is not trusted, or names other files."""
    frozen = run / "study.toml"
    tables = read_toml(frozen, "a study")
    files = tables.get("plugin_files", [])
    if not isinstance(files, list):
        raise RunError(f"'{frozen}': plugin_files is a list of files, found {files!r}")
    names = [str(file) for file in files]
    if names and not trust:
        raise RunError(
            f"'{run}' brings plugin files ({', '.join(names)}), which would be executed: read them, and then "
            "say --trust, or Run.open(..., trust=True)"
        )
    for name in names:
        if not re.fullmatch(r"plugins/[^/\\]+\.py", name) or not holds(run, run / name):
            raise RunError(f"'{frozen}' names the plugin file '{name}', which is not in the run: refused")
    with fitting(run, "reading the study"):
        return Study.load(frozen)


def with_file_names(study: Study) -> Study:
    """Return the study with its plugin files and mesh named without folders, as in a run."""
    part, more = study.find(PartSettings), study.more
    if part is not None and part.file is not None:
        more = {**more, "part": dataclasses.replace(part, file=Path(part.file).name)}
    return dataclasses.replace(study, plugin_files=tuple(Path(f).name for f in study.plugin_files), more=more)
