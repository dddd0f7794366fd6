"""What is done for one structure: its input files are written, the program runs, and its output is read."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msvae import Array, Structures
from msvae_external import formulas, readers, templates, writers
from msvae_external.failures import Failure
from msvae_external.names import Names
from msvae_external.running.environment import environment_of
from msvae_external.running.launch import Command, last_words, resolved
from msvae_external.settings import OUTPUT, Case, Output, Reading

if TYPE_CHECKING:
    from msvae_external.solver import External

__all__ = ["Job", "properties_in", "run_commands"]

MEMBERS = "{{ members }}"  # an argument that stands for one argument of each structure of a batch


@dataclass(frozen=True, eq=False)
class Job:
    """The job of a solver for a batch of one."""

    solver: External
    structure: Structures

    @property
    def name(self) -> str:
        """The structure's id."""
        return self.structure.ids[0]

    @cached_property
    def nearest(self) -> Path | None:
        """The folder of the nearest structure that has been solved; None without warm_start."""
        return self.solver.folders.nearest(self.structure) if self.solver.warm_start else None

    def names(self, folder: Path, **more: Any) -> Names:
        """Return the names of its templates in a folder."""
        known = {
            "processes": self.solver.processes,
            "here": str(Path.cwd()),
            "folder": str(folder),
            "case": "",
            "nearest": self.nearest.name if self.nearest else "",
        }
        return Names(self.structure, {**known, **self.solver.variables, **more})

    def write(self, folder: Path) -> None:
        """Write the input files of every load case, and put beside them what the study names."""
        first = self.places(folder)[0][1]
        for case, place in self.places(folder):
            place.mkdir(exist_ok=True)
            names = self.names(place, **case)
            for given in self.solver.inputs:
                target = place / given.file
                target.parent.mkdir(parents=True, exist_ok=True)
                if given.format and place != first:  # a large mesh is made once
                    shutil.copy(first / given.file, target)
                elif given.format:
                    writers.write(self.structure, target, given)
                else:
                    target.write_text(templates.rendered(_text(given), names, f"input '{given.file}'"))
            self._place_files(place)
            if self.nearest is not None:
                self._place_start(self.nearest / place.relative_to(folder), place)

    def run(self, folder: Path) -> None:
        """Run the commands of every load case."""
        for case, place in self.places(folder):
            own = next((c.command for c in self.solver.cases if c.name == case.get("case")), ())
            run_commands(self.solver, place, self.names(place, **case), command=own or self.solver.command)
        self.finish(folder)

    def finish(self, folder: Path) -> None:
        """Note in a folder that the programs have finished."""
        values = self.structure.values[0] if self.solver.warm_start else None
        self.solver.folders.finish(folder, self.names(folder).numbers, values)

    def places(self, folder: Path) -> list[tuple[dict[str, Any], Path]]:
        """Return for every load case its variables, with its name, and its folder."""
        if not self.solver.cases:
            return [({}, folder)]
        return [({**case.variables, "case": case.name}, folder / case.name) for case in self.solver.cases]

    def _place_files(self, place: Path) -> None:
        """Link and copy the files that the study names into a folder."""
        for source in (*self.solver.link, *self.solver.copy):
            target = place / source.name
            try:
                if source in self.solver.link:
                    os.symlink(source.resolve(strict=True), target)
                elif source.is_dir():
                    shutil.copytree(source, target)
                else:
                    shutil.copy(source, target)
            except OSError as error:
                raise Failure(f"'{source}' cannot be put into the program's folder: {error.strerror}") from None

    def _place_start(self, source: Path, place: Path) -> None:
        """Copy what the program left behind for the nearest structure; what is not there is left out."""
        for name in self.solver.warm_start:
            if (source / name).is_file() and not (place / name).exists():
                shutil.copy(source / name, place / name)


def run_commands(solver: External, place: Path, names: Mapping[str, Any], *, command: Sequence[str]) -> None:
    """Run a command and what follows it in a folder; Failure if one does not end as it should."""
    environment = environment_of(solver.setup, solver.environment)
    for k, arguments in enumerate((command, *solver.steps)):
        given = [*solver.launcher, *arguments] if k == 0 else arguments
        texts = _arguments(given, names)
        texts[0] = resolved(texts[0], environment)
        Command(tuple(texts), environment, solver.timeout, solver.success).run(place)


def properties_in(solver: External, folder: Path, numbers: Mapping[str, Any]) -> dict[str, Array]:
    """Return the properties that finished programs left in a folder; Failure where one is not there.

    numbers: what formulas know of the structure.
    """
    places: list[tuple[Case | None, Path]] = [(case, folder / case.name) for case in solver.cases]
    places = places or [(None, folder)]
    known: dict[str, Any] = {**numbers, **_plain(solver.variables), **_stacked(solver.cases)}
    for place in (place for _, place in places):
        _check_messages(solver, place / OUTPUT)
    found: dict[str, Array] = {}
    for reading in (*solver.readings, *solver.outputs):
        if isinstance(reading, Output) and reading.formula:
            value = formulas.evaluated(reading.formula, known) * reading.factor
        else:
            value = _read(reading, places, known)
        known[reading.name] = value
        if isinstance(reading, Output):
            found[reading.name] = _shaped(value, reading, int(numbers["dimensions"]))
    return found


def _read(reading: Reading, places: Sequence[tuple[Case | None, Path]], known: Mapping[str, Any]) -> Array:
    """Return the numbers of a reading; of several load cases with a first axis that is theirs."""
    values = []
    for case, place in places:
        try:
            values.append(readers.read(place, reading, {**known, **(case.variables if case else {})}))
        except Failure as error:
            said = last_words(place / OUTPUT)
            of_case = f" of case {case.name}" if case else ""
            raise Failure(f"{error}{of_case}" + (f"; it wrote: {said}" if said else ""), error.status) from None
    if len({value.shape for value in values}) > 1:
        raise Failure(f"'{reading.name}' has other shapes in other load cases: {[value.shape for value in values]}")
    return np.stack(values) if places[0][0] is not None else values[0]


def _shaped(value: Array, output: Output, dimensions: int) -> Array:
    """Return a value in the shape of its property; Failure if it has other numbers, or one is not finite."""
    sizes = output.quantity.resolve(dimensions).sizes
    plain = [n for n in value.shape if n != 1]
    if plain != [n for n in sizes if n != 1]:
        raise Failure(
            f"'{output.name}' has the shape {list(value.shape)} in the program's output, {list(sizes)} in the study"
        )
    if not np.isfinite(value).all():
        raise Failure(f"'{output.name}' is not a finite number", "invalid")
    return value.reshape(sizes)


def _check_messages(solver: External, output: Path) -> None:
    """Raise Failure if a program says what the study calls an error."""
    text = output.read_text(errors="replace") if solver.errors and output.is_file() else ""
    for pattern in solver.errors:
        match = re.search(pattern, text, re.MULTILINE)
        if match:
            line = text[text.rfind("\n", 0, match.start()) + 1 :].split("\n", 1)[0].strip()
            raise Failure(f"it wrote what solver.errors names: {line[:300]}")


def _arguments(given: Sequence[str], names: Mapping[str, Any]) -> list[str]:
    """Return arguments with names put in, each by itself: no shell ever sees them."""
    found: list[str] = []
    for argument in given:
        if argument == MEMBERS and "members" in names:
            found += names["members"]
        else:
            found.append(templates.rendered(argument, names, f"argument '{argument}'"))
    return found


def _text(given: Any) -> str:
    if given.template is None:
        return str(given.text)
    try:
        return str(given.template.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"template '{given.template}' cannot be read: {error}") from None


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if not isinstance(value, str)}


def _stacked(cases: Sequence[Case]) -> dict[str, Any]:
    """Return the numbers that every load case has, as arrays of all of them."""
    numbers = [_plain(case.variables) for case in cases]
    names = set.intersection(*(set(n) for n in numbers)) if numbers else set()
    return {name: [n[name] for n in numbers] for name in names}
