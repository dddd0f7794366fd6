"""The command line as a whole."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer
from rich.console import Console

from msvae.cli import plugins as plugin_commands
from msvae.cli import runs, studies
from msvae.cli.doctor import doctor
from msvae.cli.exporting import export
from msvae.cli.printing import log_to_stderr, say
from msvae.cli.serving import serve
from msvae.cli.solve import solve
from msvae.dispatch import world
from msvae.errors import MsvaeError

__all__ = ["app", "main"]

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)


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
    log_to_stderr()
    try:
        app()
    except MsvaeError as error:
        say(Console(stderr=True, soft_wrap=True), f"msvae: {error}")
        world.leave(error.code)
        world.finish()
        sys.exit(error.code)
    except SystemExit:
        world.finish()
        raise
    except KeyboardInterrupt:
        sys.exit(130)


runs.add_to(app)
app.command()(solve)
app.command()(serve)
app.command()(export)
app.command()(doctor)
app.add_typer(studies.app, name="study")
app.add_typer(plugin_commands.app, name="plugin")
