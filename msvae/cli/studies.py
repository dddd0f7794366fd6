"""`msvae study check` and `schema`."""

from __future__ import annotations

import json

import typer

from msvae.cli.parameters import Set, StudyFile
from msvae.cli.printing import say_plain
from msvae.dispatch import world

__all__ = ["app"]

app = typer.Typer(help="Check a study, or print the schema of one.", no_args_is_help=True)


@app.command("check")
def study_check(study: StudyFile, settings: Set = None) -> None:
    """Validate a study and print it with every default written out."""
    from msvae.study import Study

    if world.rank() == 0:
        say_plain(Study.load(study, settings or []).frozen())


@app.command("schema")
def study_schema() -> None:
    """Print the JSON schema of a whole study, with every key of every plugin described; for editors and validators."""
    from msvae.study.schema import schema

    if world.rank() == 0:
        say_plain(json.dumps(schema(), indent=1) + "\n")
