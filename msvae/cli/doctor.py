"""`msvae doctor`: what is installed, what the machine has, and what is wrong with it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from msvae.cli.printing import print_table, say, say_plain
from msvae.dispatch import world

__all__ = ["doctor"]


def doctor(
    folder: Annotated[Path, typer.Option(help="where runs will be written")] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Examine the installation and the machine; exit code 1 if something would stop a run.

    Example: `msvae doctor --folder /scratch/runs`.
    """
    from msvae.start.doctor import findings

    if world.rank() > 0:
        return
    found = list(findings(folder))
    wrong = [finding for finding in found if finding.state == "wrong"]
    if as_json:
        say_plain(json.dumps([dataclasses.asdict(finding) for finding in found], indent=1) + "\n")
    else:
        console = Console(soft_wrap=True)
        print_table(console, "msvae doctor", ("", "found", ""), [(f.what, f.value, f.state) for f in found])
        for finding in found:
            if finding.remedy:
                say(console, f"{finding.state}: {finding.what}: {finding.remedy}")
        say(console, f"{len(wrong)} would stop a run" if wrong else "nothing here stops a run; next: msvae study new")
    if wrong:
        raise typer.Exit(1)
