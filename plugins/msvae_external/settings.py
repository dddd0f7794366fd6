"""The tables of [solver] for a program: its input files, its load cases, and what is read of its output."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import Field

from msvae import Finite, Natural, Positive, Quantity, Rule, Settings
from msvae_external import formulas, templates

__all__ = ["OUTPUT", "Arguments", "Case", "Input", "Inside", "Message", "Output", "Reading", "Values", "Words"]

OUTPUT = "output.txt"  # what a program writes to its standard output and error, in its folder
SOURCES = ("pattern", "table", "column", "dataset", "pointer", "field", "function", "formula")
ENDINGS = {
    "tiff": (".tif", ".tiff"),
    "vti": (".vti",),
    "damask": (".vti",),
    "gmsh": (".msh",),
    "exodus": (".e", ".exo"),
}


def _is_inside(name: str) -> bool:
    """Return whether a name is that of a file in the folder of a program, and nothing else."""
    path = PurePosixPath(name)
    return (
        bool(re.fullmatch(r"[\w.+ /-]{1,200}", name))
        and bool(path.name)
        and not path.is_absolute()
        and ".." not in path.parts
    )


def _is_plain(values: Mapping[str, object]) -> bool:
    return all(templates.NAME.fullmatch(k) and templates.is_plain(v) for k, v in values.items())


def _is_expression(text: str, groups: int = 0) -> bool:
    try:
        return re.compile(text).groups >= groups
    except (re.error, RecursionError, OverflowError):
        return False


Name = Annotated[str, Field(pattern=r"^[A-Za-z]\w*$")]
Inside = Annotated[
    str, Rule("the name of a file in the folder of the program: no absolute path, no '..' and no line end", _is_inside)
]
Words = Annotated[str, Rule("a text without line ends", lambda text: not re.search(r"[\0\r\n]", text))]
Arguments = tuple[str, ...]
Values = Annotated[
    Mapping[str, bool | int | Finite | str],
    Rule("names of letters, digits and _, with numbers or words without quotes and line ends", _is_plain),
]
Pattern = Annotated[
    str, Rule("a regular expression with a group for every number", lambda text: not text or _is_expression(text, 1))
]
Message = Annotated[str, Rule("a regular expression", _is_expression)]
Formula = Annotated[str, Rule("a formula of names, numbers, + - * / ** @, .T, [] and known functions", formulas.holds)]
Function = Annotated[str, Field(pattern=r"^(\w+(\.\w+)*:\w+)?$")]
Pointer = Annotated[str, Field(pattern=r"^(/.*)?$")]
Format = Literal[
    "", "raw", "npy", "tiff", "vti", "vtkhdf", "damask", "dream3d", "abaqus", "gmsh", "exodus", "lammps"
]  # fmt: skip
Take = Literal["last", "first", "all", "mean", "sum", "minimum", "maximum"]


@dataclass(frozen=True)
class Input(Settings):
    """What is written into the program's folder: a template with names put in, or the structure in a format.

    file: its name in the folder of the program.
    text: the template, in the study; or template: the file with it. In it {{ }} and {% %} are those of Jinja2, and
        names are those that `msvae plugin show external` lists.
    format: of the structure, instead: "raw" (bytes of phases or float32, last axis fastest), "npy", "tiff", "vti",
        "vtkhdf", "damask" (grid of DAMASK), "dream3d" (HDF5), "abaqus" (voxels as elements, for CalculiX and Abaqus;
        sets of phases and faces), "gmsh" (mesh 2.2, with groups of phases and faces), "exodus" (needs
        `msvae[exodus]`), "lammps" (atoms of an occupation).
    periodic: "abaqus" with equations that tie opposite faces to a reference node for each axis, whose displacements are
        those of the mean displacement gradient times the edge.
    empty: phases, such as pores, of which "abaqus" has no elements.
    factor: that turns m into the program's unit of length; files of "tiff", "vti" and "lammps" have units of their own.
    crystal: for "lammps", the CIF or POSCAR file of the unit cell. basis: of one with right angles, instead.
    """

    file: Inside
    text: str = ""
    template: Path | None = None
    format: Format = ""
    periodic: bool = False
    empty: tuple[Natural, ...] = ()
    factor: Positive = 1.0
    crystal: Path | None = None
    basis: tuple[tuple[Finite, Finite, Finite], ...] = ()

    def __post_init__(self) -> None:
        given = [bool(self.text), self.template is not None, bool(self.format)]
        if sum(given) != 1:
            raise ValueError(f"input '{self.file}' is a text, a template or a structure in a format: give one of them")
        allowed = ENDINGS.get(self.format, ())
        if allowed and not self.file.endswith(allowed):
            raise ValueError(f"input '{self.file}' of format {self.format} has an ending of {' or '.join(allowed)}")


@dataclass(frozen=True)
class Case(Settings):
    """A load case: a run of the program with other values, in a folder of its own.

    name: of the case, in templates as `case`, and of its folder. variables: that its templates are given.
    command: arguments, in place of the solver's.
    """

    name: Name
    variables: Values = field(default_factory=dict)
    command: Arguments = ()


@dataclass(frozen=True)
class Reading(Settings):
    """Numbers that a run of the program leaves behind, for formulas. One of the keys says how they are found.

    name: in formulas. file: where they stand, by default what the program writes to its standard output and error.
    pattern: a regular expression with a group for every number; its last match counts, or all, by rows.
    column: names or numbers, from 0, of columns of a table with commas, semicolons, tabs or spaces; or of "table".
    table: heading of a table in a .dat file of CalculiX, such as "stresses". set: of which, where it has several.
    dataset: path of an array in an HDF5 file. pointer: JSON pointer of a number or a list.
    field: of a .vtu file, averaged over the volume of its cells.
    function: "module:function", which is given the folder and the names, and returns numbers.
    rows: which rows of a table, of an array or of matches: the "last" or "first", "all", or their "mean", "sum",
        "minimum" or "maximum". By default the last match or row, the mean of "table", and all of "dataset".
    times: of "table", the "last" or "all", which come first in the shape.
    factor: that turns the program's number into the unit.
    """

    name: Name
    file: Inside = OUTPUT
    pattern: Pattern = ""
    column: tuple[str, ...] = ()
    table: str = ""
    set: str = ""
    dataset: str = ""
    pointer: Pointer = ""
    field: str = ""
    function: Function = ""
    rows: Take | None = None
    times: Literal["last", "all"] = "last"
    factor: Finite = 1.0

    def __post_init__(self) -> None:
        given = [key for key in SOURCES if getattr(self, key, "") and not (key == "column" and self.table)]
        if len(given) != 1:
            raise ValueError(
                f"'{self.name}' is found by one of {', '.join(SOURCES)}: found {' and '.join(given) or 'none'}"
            )

    @property
    def source(self) -> str:
        """The key that says how it is found."""
        return next(key for key in SOURCES if getattr(self, key, ""))


@dataclass(frozen=True)
class Output(Reading):
    """A property that a run of the program leaves behind, or that a formula makes of readings.

    name, unit: of the property. shape: sizes, or the letters "d" (dimensions) and "v" (Voigt components).
    formula: of readings, earlier outputs, names of the structure, of variables and of load cases: numbers,
        + - * / ** @, .T, [0, 1:3], and sqrt, exp, log, log10, abs, sin, cos, tan, mean(x, axis), sum, minimum, maximum,
        array(x, y), column, inverse, diagonal, trace, norm. With load cases a reading is an array whose first axis is
        theirs.
    The other keys are those of a reading.
    """

    unit: str = "1"
    shape: tuple[int | Literal["d", "v"], ...] = ()
    formula: Formula = ""

    @property
    def quantity(self) -> Quantity:
        """The property, as a solver declares it."""
        return Quantity(self.name, self.unit, self.shape)
