"""`msvae study new`, `check` and `schema`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from msvae.cli.parameters import PluginFiles, Set, StudyFile, add_files
from msvae.cli.printing import say, say_plain
from msvae.dispatch import world
from msvae.errors import StudyError

__all__ = ["app"]

app = typer.Typer(help="Write a first study, check one, or print the schema of one.", no_args_is_help=True)


@app.command("new")
def study_new(
    source: Annotated[
        str, typer.Argument(help="a folder of TIFF or PNG, one image, .npy, HDF5, a table; or a campaign's name")
    ] = "",
    campaign: Annotated[str | None, typer.Option(help="label, train, generate or inverse-design")] = None,
    solver: Annotated[str | None, typer.Option(help="a solver's name; see `msvae plugin list`")] = None,
    property_name: Annotated[str | None, typer.Option("--property", help="what is to be learnt or reached")] = None,
    output: Annotated[Path, typer.Option(help="the study that is written")] = Path("study.toml"),
    spacing: Annotated[float | None, typer.Option(min=1e-15, max=1e6, help="edge length of a voxel in m")] = None,
    threshold: Annotated[float | None, typer.Option(help="grey value above which a voxel is phase 1")] = None,
    dimensions: Annotated[int | None, typer.Option(min=2, max=3, help="2: pages are images; 3: slices")] = None,
    array: Annotated[str | None, typer.Option(help="name of the array in an HDF5 file")] = None,
    force: Annotated[bool, typer.Option("--force", help="replace the study that is there")] = False,
    plugin_files: PluginFiles = None,
) -> None:
    """Look at data, say what is seen, and write a commented study that runs as it is.

    Examples: `msvae study new slices/ --property stiffness`; `msvae study new inverse-design` (from nothing).
    """
    from msvae.start.first_study import CAMPAIGNS, Wanted, first_study
    from msvae.start.look import SIMULATED, look
    from msvae.start.seen import Asked

    if world.rank() > 0:
        return
    if output.exists() and not force:
        raise StudyError(f"'{output}' is there already: give another --output, or replace it by --force")
    add_files(plugin_files)
    console = Console(soft_wrap=True)
    if source in ("", *CAMPAIGNS):
        seen, campaign = SIMULATED, campaign or source or None
    else:
        seen = look(Path(source), Asked(spacing, threshold, dimensions, array))
    for sentence in seen.said:
        say(console, sentence)
    text = first_study(seen, Wanted(campaign, solver, property_name))
    for line in text.splitlines()[len(seen.said) :]:
        if not line.startswith("#"):
            break
        say(console, line.removeprefix("# "))
    _write(text, output, source)
    say(console, f"written: {output}; next: msvae run {output} --dry-run, then msvae run {output}")


def _write(text: str, output: Path, source: str) -> None:
    """Write a study; StudyError where that fails, or the name of its data is no text."""
    from msvae.files.atomic import write_atomically

    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(output, text.encode())
    except OSError as error:
        raise StudyError(f"'{output}' cannot be written: {error.strerror}; give another --output") from None
    except UnicodeEncodeError:
        raise StudyError(f"the name of '{source}' is no text in UTF-8, as a study is: rename it") from None


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
