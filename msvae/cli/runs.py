"""`msvae run`, `status`, `reproduce`, `reread`, `report`, `merge` and `archive`: campaigns and their results."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from msvae.cli.parameters import Set, StudyFile, Trust
from msvae.cli.printing import print_table, say, say_plain
from msvae.dispatch import world
from msvae.errors import StudyError

if TYPE_CHECKING:
    from msvae.run.table import Table

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the commands about runs."""
    for command in (run, status, reproduce, reread, report, merge, archive):
        app.command()(command)


def run(
    study: StudyFile,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the run that is there")] = False,
    force: Annotated[bool, typer.Option("--force", help="replace the run that is there")] = False,
    output: Annotated[Path | None, typer.Option(help="the run's directory; by default runs/STUDY")] = None,
    retry: Annotated[
        list[str] | None, typer.Option(help="with --resume: make evaluations of this status again; may be repeated")
    ] = None,
    with_report: Annotated[bool, typer.Option("--report/--no-report", help="write report.html at the end")] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say what would be done and how long it takes, and stop")
    ] = False,
    settings: Set = None,
) -> None:
    """Run the campaign of a study; under `mpiexec -n N python -m mpi4py -m msvae` on N ranks.

    Exit code 75 means that a signal or the wall time ended it; continue with --resume.
    """
    from msvae.campaigns.launch import launch

    name = study.stem if study.stem != "study" else study.resolve().parent.name
    folder = output or Path("runs") / name
    if dry_run:
        _rehearse(study, folder, settings or [])
        return
    table = launch(
        study,
        folder,
        resume=resume,
        force=force,
        overrides=settings or [],
        retry=_statuses(retry or []),
    )
    if table is None:
        return
    if with_report:
        from msvae.report.page import write_report

        _print_result(table, f"report: {write_report(folder, trust=True)}")
    else:
        _print_result(table, f"run: {folder}")


def _rehearse(study: Path, folder: Path, settings: list[str]) -> None:
    from msvae.start.estimate.rehearsal import rehearse

    plan = rehearse(study, folder, overrides=settings)
    if plan is not None:
        _print_result(plan, f"nothing was kept; next: msvae run {study}")


def status(
    directory: Annotated[Path, typer.Argument(help="a run's directory")],
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="print it again every two seconds until the end")] = False,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="exit with 0 if it is done, 75 stopped, 76 lost, 1 failed, 3 running")
    ] = False,
) -> None:
    """Show the progress of a run, also while it runs, from any machine that sees its directory."""
    from msvae.run.status import CODES, status_of

    while True:
        state = status_of(directory)
        if as_json:
            say_plain(json.dumps(state, indent=1) + "\n")
        else:
            rows = [(k.replace("_", " "), str(v)) for k, v in state.items() if v is not None]
            print_table(Console(soft_wrap=True), str(directory), ("", ""), rows)
        if not follow or state["state"] != "running":
            if exit_code:
                raise typer.Exit(CODES.get(state["state"], 1))
            return
        time.sleep(2.0)


def reproduce(
    directory: Annotated[Path, typer.Argument(help="a run's directory, or an archive of one")],
    output: Annotated[Path | None, typer.Option(help="where to run it again; by default DIRECTORY-reproduced")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with a reproduction that was ended")] = False,
    trust: Trust = False,
    settings: Set = None,
) -> None:
    """Run a run's study again, and compare: exit code 2 if the results differ."""
    from msvae.campaigns.reproduce import reproduce as again

    inputs: list[str] = []
    name = directory.name if directory.is_dir() else directory.stem
    place = output or directory.with_name(f"{name}-reproduced")
    if directory.is_file():
        directory, inputs = _unpacked(directory, resume=resume)
    table = again(directory, place, overrides=settings or [], inputs=inputs, resume=resume, trust=trust)
    if table is not None:
        _print_result(table)


def reread(
    directory: Annotated[Path, typer.Argument(help="a run's directory")],
    study: Annotated[Path | None, typer.Option(help="study with other outputs, in place of the run's own")] = None,
    output: Annotated[Path | None, typer.Option(help="where the results go; by default DIRECTORY-reread")] = None,
    trust: Trust = False,
    settings: Set = None,
) -> None:
    """Read what the solver's program left behind again, with other outputs, without solving."""
    from msvae.campaigns.reread import reread as again

    place = output or directory.with_name(f"{directory.name}-reread")
    table = again(directory, place, study=study, overrides=settings or [], trust=trust)
    if table is not None:
        _print_result(table, f"run: {place}")


def _unpacked(archive: Path, *, resume: bool) -> tuple[Path, list[str]]:
    """Unpack an archive beside itself, on rank 0, and return the run's directory and the settings of its inputs."""
    from msvae.archive.packing import inputs_of, unpack

    folder = archive.with_name(f"{archive.stem}-unpacked")
    if not (resume and folder.is_dir()):
        world.agreed_once(lambda: unpack(archive, folder))
    return folder, inputs_of(folder)


def archive(
    directory: Annotated[Path, typer.Argument(help="directory of a finished run")],
    output: Annotated[Path | None, typer.Option(help="the archive; by default DIRECTORY.zip")] = None,
    license_name: Annotated[str, typer.Option("--license", help="of the archive: a URL or an SPDX identifier")] = (
        "https://creativecommons.org/licenses/by/4.0/"
    ),
    trust: Trust = False,
) -> None:
    """Pack a run with its inputs into one file (Workflow Run RO-Crate) that `msvae reproduce` repeats elsewhere."""
    from msvae.archive.packing import pack

    if world.rank() == 0:
        place = output or directory.resolve().with_suffix(".zip")
        say(Console(soft_wrap=True), str(pack(directory, place, trust=trust, license_name=license_name)))


def report(directory: Annotated[Path, typer.Argument(help="a run's directory")], trust: Trust = False) -> None:
    """Draw the figures of a run and write its report.html."""
    from msvae.report.page import write_report

    if world.rank() == 0:
        say(Console(soft_wrap=True), str(write_report(directory, trust=trust)))


def merge(
    directories: Annotated[list[Path], typer.Argument(help="directories of runs that differ in their seed")],
    output: Annotated[Path | None, typer.Option(help="JSON file for the numbers")] = None,
    trust: Trust = False,
) -> None:
    """Merge replicates of a push-forward, as an array of jobs makes them, into one result with one interval."""
    from msvae.campaigns.push_forward.merging import merged
    from msvae.files.atomic import write_atomically

    if world.rank() > 0:
        return
    table, plain = merged(directories, trust=trust)
    if output is not None:
        write_atomically(output, json.dumps(plain, indent=1).encode())
    _print_result(table)


def _statuses(asked: list[str]) -> list[str]:
    from msvae.structures.evaluations import STATUSES

    unknown = set(asked) - set(STATUSES[1:])
    if unknown:
        raise StudyError(f"--retry {min(unknown)}: expected one of {', '.join(STATUSES[1:])}")
    return asked


def _print_result(table: Table, *more: str) -> None:
    console = Console(soft_wrap=True)
    if table.heading:
        say(console, table.heading)
    print_table(console, table.title, table.columns, table.rows)
    for note in (*table.notes, *more):
        say(console, note)
