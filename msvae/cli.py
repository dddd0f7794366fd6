"""The command line: `msvae run`, `status`, `reproduce`, `solve`, `study`, `plugin`, `report`."""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table as RichTable
from rich.text import Text

from msvae import plugins
from msvae.dispatch import world
from msvae.errors import MsvaeError, PluginError, StudyError, visible

if TYPE_CHECKING:
    from msvae.campaigns.context import Table

__all__ = ["app", "main"]

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)
study_app = typer.Typer(help="Check a study, or print the schema of one.", no_args_is_help=True)
plugin_app = typer.Typer(help="List, show and check plugins.", no_args_is_help=True)
app.add_typer(study_app, name="study")
app.add_typer(plugin_app, name="plugin")

Set = Annotated[list[str] | None, typer.Option("--set", help="key.path=value, over the study's; may be repeated")]
Trust = Annotated[bool, typer.Option("--trust", help="execute the plugin files that the run brings")]
FORMAT = warnings.formatwarning  # as it is before the command line makes it show names as they are
StudyFile = Annotated[Path, typer.Argument(help="the study's TOML file")]


def _print_version(asked: bool) -> None:
    if asked:
        found = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy"))
        sys.stdout.write(f"msvae {version('msvae')} ({found}, Python {sys.version.split()[0]})\n")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Couple variational autoencoders of microstructures to simulation codes, on any number of MPI ranks."""


def main() -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2."""
    _log_to_stderr()
    try:
        app()
    except MsvaeError as error:
        _say(Console(stderr=True, soft_wrap=True), f"msvae: {error}")
        world.leave(error.code)
        sys.exit(error.code)
    except KeyboardInterrupt:
        sys.exit(130)


@app.command()
def run(
    study: StudyFile,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the run that is there")] = False,
    force: Annotated[bool, typer.Option("--force", help="replace the run that is there")] = False,
    output: Annotated[Path | None, typer.Option(help="the run's directory; by default runs/STUDY")] = None,
    retry: Annotated[
        list[str] | None, typer.Option(help="with --resume: make evaluations of this status again; may be repeated")
    ] = None,
    settings: Set = None,
) -> None:
    """Run the campaign of a study; under `mpiexec -n N python -m mpi4py -m msvae` on N ranks.

    Exit code 75 says that a signal or the wall time ended it, and that --resume goes on with it.
    """
    from msvae.campaigns.launch import launch

    name = study.stem if study.stem != "study" else study.resolve().parent.name
    table = launch(
        study,
        output or Path("runs") / name,
        resume=resume,
        force=force,
        overrides=settings or [],
        retry=_statuses(retry or []),
    )
    if table is None:
        return
    from msvae.report.page import write_report

    page = write_report(output or Path("runs") / name, trust=True)
    _print_result(table, f"report: {page}")


@app.command()
def status(
    directory: Annotated[Path, typer.Argument(help="a run's directory")],
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="print it again every two seconds until the end")] = False,
) -> None:
    """Say how far a run is, also while it runs; from any machine that sees its directory."""
    from msvae.run.status import status_of

    while True:
        state = status_of(directory)
        if as_json:
            _say_plain(json.dumps(state, indent=1) + "\n")
        else:
            rows = [(k.replace("_", " "), str(v)) for k, v in state.items() if v is not None]
            _print_table(Console(soft_wrap=True), str(directory), ("", ""), rows)
        if not follow or state["state"] != "running":
            return
        time.sleep(2.0)


@app.command()
def reproduce(
    directory: Annotated[Path, typer.Argument(help="a run's directory")],
    output: Annotated[Path | None, typer.Option(help="where to run it again; by default DIRECTORY-reproduced")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with a reproduction that was ended")] = False,
    trust: Trust = False,
    settings: Set = None,
) -> None:
    """Run a run's study again, and compare: exit code 2 if the results differ."""
    from msvae.campaigns.reproduce import reproduce as again

    place = output or directory.with_name(f"{directory.name}-reproduced")
    table = again(directory, place, overrides=settings or [], resume=resume, trust=trust)
    if table is not None:
        _print_result(table)


@app.command()
def report(directory: Annotated[Path, typer.Argument(help="a run's directory")], trust: Trust = False) -> None:
    """Draw the figures of a run and write its report.html."""
    from msvae.report.page import write_report

    if world.rank() == 0:
        _say(Console(soft_wrap=True), str(write_report(directory, trust=trust)))


@app.command()
def solve(
    solver: Annotated[str, typer.Argument(help="a solver's name")],
    files: Annotated[list[Path], typer.Argument(help="TIFF or VTK images, .npy arrays, structures.h5 files")],
    settings: Set = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    fields: Annotated[Path | None, typer.Option(help="folder for the solver's fields (.vtu) and pictures")] = None,
) -> None:
    """Compute properties of structures in files; --set KEY=.. for the solver, --set dataset.KEY=.. for reading."""
    from msvae.solve import solve_files

    if world.rank() > 0:
        return
    results = solve_files(solver, files, settings or [], fields)
    if as_json:
        _say_plain(json.dumps(results, indent=1) + "\n")
    else:
        _print_results(results)
    if any(r["status"] != "done" for r in results):
        sys.exit(1)


@study_app.command("check")
def study_check(study: StudyFile, settings: Set = None) -> None:
    """Validate a study and print it with every default written out."""
    from msvae.study import Study

    if world.rank() == 0:
        _say_plain(Study.load(study, settings or []).frozen())


@study_app.command("schema")
def study_schema() -> None:
    """Print the JSON schema of a whole study, with every key of every plugin described; for editors and validators."""
    from msvae.study_schema import schema

    if world.rank() == 0:
        _say_plain(json.dumps(schema(), indent=1) + "\n")


@plugin_app.command("list")
def plugin_list() -> None:
    """List the plugins that loaded, and those that did not and why."""
    if world.rank() > 0:
        return
    found = plugins.registry()
    rows = [
        (e.family, e.plugin.name, " ".join(e.plugin.kinds), e.distribution, _first_line(e.plugin))
        for _, e in sorted(found.loaded.items())
    ]
    console = Console(soft_wrap=True)
    _print_table(console, "Plugins", ("family", "name", "kinds", "from", "what"), rows)
    for refused in found.refused:
        _say(console, f"plugin '{refused.name}' of '{refused.distribution}' did not load: {refused.reason}")


@plugin_app.command("show")
def plugin_show(name: str) -> None:
    """Print what a plugin takes and gives, and its settings."""
    if world.rank() > 0:
        return
    console = Console(soft_wrap=True)
    for entry in plugins.registry().named(name):
        plugin: Any = entry.plugin
        _say(console, f"{entry.family} {name} (from {entry.distribution})\n\n{plugin.__doc__}")
        _say(console, f"kinds: {', '.join(plugin.kinds)}; dimensions: {', '.join(map(str, plugin.dimensions))}")
        for q in getattr(plugin, "computes", ()):
            _say(console, f"computes: {q.name} in {q.unit}, shape {list(q.shape)}")
        _print_table(console, "Settings", ("key", "type", "default"), list(plugins.settings_of(plugin)))


@plugin_app.command("check")
def plugin_check(name: str) -> None:
    """Run the conformance checks of a plugin; exit code 1 if one fails."""
    from msvae.testing import checks

    if world.rank() > 0:
        return
    console, failures = Console(soft_wrap=True), 0
    for check in (c for entry in plugins.registry().named(name) for c in checks(entry.plugin)):
        try:
            check()
            _say(console, f"passed  {check}")
        except Exception as error:  # a border: a stranger's plugin may raise anything
            failures += 1
            _say(console, f"FAILED  {check}: {type(error).__name__}: {error}")
    if failures:
        raise PluginError(f"plugin '{name}' breaks {failures} of its promises: see the lines above")


def _statuses(asked: list[str]) -> list[str]:
    from msvae.evaluations import STATUSES

    unknown = set(asked) - set(STATUSES[1:])
    if unknown:
        raise StudyError(f"--retry {min(unknown)}: expected one of {', '.join(STATUSES[1:])}")
    return asked


def _print_result(table: Table, *more: str) -> None:
    console = Console(soft_wrap=True)
    if table.heading:
        _say(console, table.heading)
    _print_table(console, table.title, table.columns, table.rows)
    for note in (*table.notes, *more):
        _say(console, note)


def _print_results(results: list[dict[str, Any]]) -> None:
    from msvae.units import described

    console = Console(soft_wrap=True)
    for result in results:
        place = f"{result['file']} [{result['index']}] {result['structure']}"
        _say(console, f"{place}: {result['status']} {result['message']}")
        for key, word in result["conditions"].items():
            _say(console, f"{key}: {word}")
        for name, value in result["properties"].items():
            if result["status"] == "done":
                _say(console, described(name, value))


def _print_table(console: Console, title: str, columns: Any, rows: Any) -> None:
    table = RichTable(title=_shown(title, "table.title"))
    for column in columns:
        table.add_column(_shown(column), overflow="fold")
    for row in rows:
        table.add_row(*map(_shown, row))
    (console if console.is_terminal else Console(width=140)).print(table)


def _shown(text: str, style: str = "") -> Text:
    """Return a text as it is, whoever it is from: nothing in it is obeyed, by the terminal or by rich."""
    return Text(visible(text), style)


def _say(console: Console, text: str) -> None:
    console.print(_shown(text), highlight=False)


def _say_plain(text: str) -> None:
    """Write what a program reads."""
    sys.stdout.write(visible(text))


def _warning(*arguments: Any, **more: Any) -> str:
    return visible(FORMAT(*arguments, **more))


class _Visible(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


def _first_line(plugin: type) -> str:
    return (plugin.__doc__ or "").strip().splitlines()[0]


def _log_to_stderr() -> None:
    handler = RichHandler(console=Console(stderr=True, soft_wrap=True), show_path=False, show_level=False, markup=False)
    handler.setFormatter(_Visible("%(message)s"))
    handler.addFilter(lambda record: record.name.startswith("msvae") or record.levelno >= logging.WARNING)
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.INFO)  # plugins log too, under names of their own
    warnings.formatwarning = _warning
