"""`msvae export`: designs, parts and other structures of a run for other programs, and its evaluations."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import typer
from rich.console import Console

from msvae.cli.parameters import Trust
from msvae.cli.printing import say
from msvae.dispatch import world
from msvae.errors import RunError

if TYPE_CHECKING:
    from msvae.structures.evaluations import Evaluations

__all__ = ["export"]

MADE = {  # by a campaign, in the order of what is looked for; the data set itself is structures.h5
    "best_design.h5": "design", "front.h5": "front", "part.h5": "part", "generated.h5": "generated",
    "traversals.h5": "traversal",
}  # fmt: skip


def export(
    directory: Annotated[Path, typer.Argument(help="a run's directory")],
    format_: Annotated[
        Literal["tif", "vti", "stl", "3mf", "npy"], typer.Option("--format", help="of the structures")
    ] = "tif",
    output: Annotated[Path | None, typer.Option(help="folder; by default DIRECTORY-export")] = None,
    phase: Annotated[int, typer.Option(help="whose surface stl and 3mf have", min=0)] = 0,
    dataset: Annotated[bool, typer.Option("--dataset", help="the data set's structures too")] = False,
    trust: Trust = False,
) -> None:
    """Write what a run has made as TIFF, VTI, STL, 3MF or .npy, and its evaluations as CSV."""
    from msvae.files.atomic import write_atomically
    from msvae.run.directory import Run

    if world.rank() > 0:
        return
    run = Run.open(directory, trust=trust)
    folder = output or directory.resolve().with_name(f"{directory.resolve().name}-export")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"'{folder}' cannot be made: {error.strerror}; give another --output") from None
    made = [(run.path / file, name) for file, name in MADE.items()]
    made += [(run.path / "structures.h5", "structure")] if dataset else []
    written = [
        path for file, name in made if file.is_file() for path in _structures(file, name, folder, format_, phase)
    ]
    if len(run.evaluations):
        written.append(folder / "evaluations.csv")
        write_atomically(written[-1], _table(run.evaluations))
    if not written:
        raise RunError(f"'{directory}' has no structures that its campaign made, and no evaluations: see --dataset")
    console = Console(soft_wrap=True)
    for path in written:
        say(console, str(path))


def _structures(file: Path, name: str, folder: Path, format_: str, phase: int) -> list[Path]:
    """Write every structure of a file and return where they are."""
    from msvae.files.atomic import write_atomically
    from msvae.files.structures import read_structures
    from msvae.part.export import export as write

    structures = read_structures(file)
    paths = []
    for k in range(len(structures)):
        path = folder / (f"{name}.{format_}" if len(structures) == 1 else f"{name}-{k:04d}.{format_}")
        if format_ == "npy":
            buffer = io.BytesIO()
            np.save(buffer, structures.values[k], allow_pickle=False)
            write_atomically(path, buffer.getvalue())
        else:
            write(structures[k], path, phase=phase)
        paths.append(path)
    return paths


def _table(table: Evaluations) -> bytes:
    """Return evaluations as CSV; a property's column has its unit."""
    columns: dict[str, Any] = {}
    for name, values in table.flat().items():
        unit = table.units.get(name.partition("[")[0])
        columns[name if unit is None else f"{name} ({unit})"] = values.tolist()
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue().encode()
