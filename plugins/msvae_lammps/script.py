"""A group's own LAMMPS input script as a solver: variables go in, thermodynamic output and variables come out."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from msvae import (
    Crystal,
    Finite,
    PluginError,
    Properties,
    Quantity,
    Rule,
    Seconds,
    Settings,
    Solver,
    Specification,
    Structures,
    without_mpi,
)
from msvae_lammps import child
from msvae_lammps.interaction import Atoms, atoms_of, elements
from msvae_lammps.program import Failure, lower_triangular, sentence

__all__ = ["LammpsScript", "Output"]

OWN = ("structure", "elements", "folder")  # variables that the script is given
QUIT = re.compile(r"^\s*quit\b|\bquit\s*[\"']?\s*$", re.MULTILINE)
Names = Rule(
    "names of letters, digits and _, with values without quotes and line ends",
    lambda given: all(re.fullmatch(r"\w+", k) and not re.search(r"[\"'\n\r]", str(v)) for k, v in given.items()),
)


@dataclass(frozen=True)
class Output(Settings):
    """A value that a script leaves behind.

    name, unit: of the property. thermo: a keyword of LAMMPS's thermodynamic output, such as "pe". variable: name of an
        equal-style variable, instead. factor: that turns LAMMPS's number into the unit.
    """

    name: Annotated[str, Field(pattern=r"^\w+$")]
    unit: str
    thermo: Annotated[str, Field(pattern=r"^\w*$")] = ""
    variable: Annotated[str, Field(pattern=r"^\w*$")] = ""
    factor: Finite = 1.0

    def __post_init__(self) -> None:
        if bool(self.thermo) == bool(self.variable):
            raise ValueError("an output of a script is a thermo keyword or a variable: give one of them")

    @property
    def source(self) -> tuple[str, str]:
        """What kind of value it is, and its name in LAMMPS."""
        return ("thermo", self.thermo) if self.thermo else ("variable", self.variable)


@dataclass(frozen=True)
class LammpsScript(Solver):
    """Properties of an occupation that an input script of LAMMPS computes.

    The script finds the structure as ${structure}, a data file (atom_style atomic, angstrom), the elements of its types
    as ${elements}, and its own folder as ${folder}; there potentials are found too. "vacancy" is no atom.

    script: the file. outputs: what it leaves behind. variables: others that it is given, by name.
    crystal: CIF or POSCAR file of the unit cell. basis: sites of a unit cell with right angles, in fractions of it.
    child: run it in a process of its own, in a new folder, where a crash or a `quit` loses one structure; without, it
        runs in this process, which costs less, and is refused if it says `quit`.
    timeout: after which a process of its own is ended.
    """

    name = "lammps-script"
    kinds = ("occupation",)
    dimensions = (3,)
    computes: ClassVar[tuple[Quantity, ...]] = (Quantity("outputs"),)  # a study says which
    script: Path
    outputs: Annotated[tuple[Output, ...], Field(min_length=1)]
    variables: Annotated[Mapping[str, str | Finite], Names] = field(default_factory=dict)
    basis: tuple[tuple[Finite, Finite, Finite], ...] = ()
    crystal: Path | None = None
    child: bool = True
    timeout: Seconds = 3600.0

    def __post_init__(self) -> None:
        names = [output.name for output in self.outputs]
        taken = sorted({name for name in names if names.count(name) > 1} | {*self.variables} & {*OWN})
        if taken:
            raise ValueError(f"'{taken[0]}' stands for two things: give outputs and variables other names")
        quantities = tuple(Quantity(output.name, output.unit, spacing_exponent=0) for output in self.outputs)
        object.__setattr__(self, "computes", quantities)

    @classmethod
    def example(cls) -> LammpsScript:
        energy = Output("energy", "J", variable="energy_per_atom", factor=1.602176634e-19)
        return cls(Path(__file__).with_name("example.in"), (energy, Output("pressure", "Pa", "press", factor=1e5)))

    def misfit(self, specification: Specification) -> str | None:
        if not self.script.is_file():
            return f"script '{self.script}' is not a file: give the path of a LAMMPS input script"
        reason = super().misfit(specification)
        return reason or Crystal.misfit(specification, basis=self.basis, file=self.crystal)

    def evaluate(self, structures: Structures) -> Properties:
        crystal = self._crystal(structures.specification)
        values = np.full((len(structures), len(self.outputs)), np.nan)
        failures = {}
        for k in range(len(structures)):
            try:
                values[k] = self._values(structures[k], crystal)
            except Failure as error:
                failures[k] = str(error)
        factors = [output.factor for output in self.outputs]
        return Properties({o.name: values[:, j] * factors[j] for j, o in enumerate(self.outputs)}, failures)

    def _crystal(self, specification: Specification) -> Crystal:
        return Crystal.of(specification, basis=self.basis, file=self.crystal)

    def _values(self, structure: Structures, crystal: Crystal) -> list[float]:
        """Return the values of the outputs in LAMMPS's units."""
        names = elements(structure.specification.constituents)
        with tempfile.TemporaryDirectory(prefix="msvae-lammps-") as folder:
            data = Path(folder, "structure.data")
            data.write_text(data_file(atoms_of(structure, crystal), len(names)))
            script = self.script.resolve()
            own = zip(OWN, (str(data), " ".join(names), str(script.parent)), strict=True)
            variables = {**{k: str(v) for k, v in self.variables.items()}, **dict(own)}
            sources = [output.source for output in self.outputs]
            run = _in_a_child if self.child else _here
            values = run(
                {"script": str(script), "variables": variables, "outputs": sources}, Path(folder), self.timeout
            )
        lost = [o.name for o, value in zip(self.outputs, values, strict=True) if not np.isfinite(value)]
        if lost:
            raise Failure(f"'{lost[0]}' is not a finite number at the end of the script")
        return values


def _here(request: Mapping[str, Any], folder: Path, timeout: float) -> list[float]:
    """Run a script in this process."""
    text = Path(request["script"]).read_text(errors="replace")
    if QUIT.search(text):
        raise Failure("the script says quit, which would end this process: set child = true, or remove it")
    try:
        return child.outputs_of(request["script"], request["variables"], request["outputs"])
    except ImportError as error:
        raise PluginError(f"LAMMPS cannot be used ({error}): install msvae[lammps]") from None
    except Exception as error:  # a border: LAMMPS raises Exception itself
        raise Failure(sentence(str(error))) from None


def _in_a_child(request: Mapping[str, Any], folder: Path, timeout: float) -> list[float]:
    """Run a script in a process of its own, in a folder of its own."""
    place, answer = folder / "request.json", folder / "answer.json"
    place.write_text(json.dumps({**request, "answer": str(answer)}))
    environment = without_mpi(os.environ)
    environment.setdefault("LAMMPS_POTENTIALS", request["variables"]["folder"])
    try:
        done = subprocess.run(
            [sys.executable, child.__file__, str(place)],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", cwd=folder,
            env=environment, timeout=timeout, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Failure(f"the script took longer than timeout = {timeout:g} s") from None
    if not answer.is_file():
        raise Failure(_how_it_ended(done.returncode, done.stderr))
    found = json.loads(answer.read_text())
    if "error" in found:
        raise Failure(sentence(found["error"]))
    return [float(value) for value in found["values"]]


def _how_it_ended(code: int, stderr: str) -> str:
    if code < 0:
        return f"the script's process was ended by {signal.Signals(-code).name}"
    last = " | ".join(line.strip() for line in stderr.splitlines()[-2:])
    return f"the script ended its process before its end, with exit code {code}, as quit does" + (
        f": {last}" if last else ""
    )


def data_file(atoms: Atoms, species: int) -> str:
    """Return a data file of LAMMPS (read_data, atom_style atomic)."""
    lower, turn = lower_triangular(atoms.box)
    (lx, _, _), (xy, ly, _), (xz, yz, lz) = lower.tolist()
    tilts = [f"{xy!r} {xz!r} {yz!r} xy xz yz"] if any((xy, xz, yz)) else []
    edges = [f"0 {length!r} {axis}lo {axis}hi" for axis, length in zip("xyz", (lx, ly, lz), strict=True)]
    rows = _rows(atoms.species.tolist(), (atoms.positions @ turn).tolist())
    head = ["# occupation", "", f"{len(rows)} atoms", f"{species} atom types", "", *edges, *tilts, "", "Atoms # atomic"]
    return "\n".join([*head, "", *rows, ""])


def _rows(species: Sequence[int], positions: Sequence[Sequence[float]]) -> list[str]:
    return [f"{k} {s} {x!r} {y!r} {z!r}" for k, (s, (x, y, z)) in enumerate(zip(species, positions, strict=True), 1)]
