"""`msvae solve`: properties of structures in files, without a study."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from msvae.cli.parameters import PluginFiles, Set, add_files
from msvae.cli.printing import say, say_plain
from msvae.dispatch import world

__all__ = ["WRITTEN", "solve"]

WRITTEN = "written"  # the status of a structure whose input was written, and nothing else


def solve(
    solver: Annotated[str, typer.Argument(help="a solver's name")],
    files: Annotated[list[Path], typer.Argument(help="TIFF or VTK images, .npy arrays, structures.h5 files")],
    settings: Set = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    fields: Annotated[Path | None, typer.Option(help="folder for the solver's fields (.vtu) and pictures")] = None,
    study: Annotated[Path | None, typer.Option(help="study whose [solver] is taken")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="keep and show the folder of a solver's program")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="write the input of a solver's program, and stop")] = False,
    plugin_files: PluginFiles = None,
) -> None:
    """Compute properties of structures in files; --set KEY=.. for the solver, --set dataset.KEY=.. for reading."""
    from msvae.cli.solving import Asked, solve_files

    if world.rank() > 0:
        return
    add_files(plugin_files)
    results = solve_files(solver, files, settings or [], Asked(fields, study, keep, dry_run))
    if as_json:
        say_plain(json.dumps(results, indent=1) + "\n")
    else:
        _print_results(results)
    if any(r["status"] not in ("done", WRITTEN) for r in results):
        sys.exit(1)


def _print_results(results: list[dict[str, Any]]) -> None:
    from msvae.structures.units import described

    console = Console(soft_wrap=True)
    for result in results:
        place = f"{result['file']} [{result['index']}] {result['structure']}"
        say(console, f"{place}: {result['status']} {result['message']}")
        if "folder" in result:
            say(console, f"folder: {result['folder']}")
        for key, word in result["conditions"].items():
            say(console, f"{key}: {word}")
        for name, value in result["properties"].items():
            if result["status"] == "done":
                say(console, described(name, value))
