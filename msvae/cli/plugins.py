"""`msvae plugin list`, `show`, `check` and `new`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from msvae import plugins
from msvae.cli.parameters import PluginFiles, add_files
from msvae.cli.printing import print_table, say
from msvae.dispatch import world
from msvae.errors import PluginError

__all__ = ["app"]

app = typer.Typer(help="List, show, check and start plugins.", no_args_is_help=True)


@app.command("list")
def plugin_list(plugin_files: PluginFiles = None) -> None:
    """List the plugins that loaded, and those that did not and why."""
    if world.rank() > 0:
        return
    add_files(plugin_files)
    found = plugins.registry()
    rows = [
        (e.family, e.plugin.name, " ".join(getattr(e.plugin, "kinds", ())), e.distribution, _first_line(e.plugin))
        for _, e in sorted(found.loaded.items())
    ]
    console = Console(soft_wrap=True)
    print_table(console, "Plugins", ("family", "name", "kinds", "from", "what"), rows)
    for refused in found.refused:
        say(console, f"plugin '{refused.name}' of '{refused.distribution}' did not load: {refused.reason}")


@app.command("show")
def plugin_show(name: str, plugin_files: PluginFiles = None) -> None:
    """Print the inputs, outputs and settings of a plugin."""
    if world.rank() > 0:
        return
    add_files(plugin_files)
    from msvae.study.schema import descriptions

    console = Console(soft_wrap=True)
    for entry in plugins.registry().named(name):
        plugin: Any = entry.plugin
        say(console, f"{entry.family} {name} (from {entry.distribution})\n\n{plugin.__doc__}")
        if entry.family == "campaign":
            say(console, f"tables: {', '.join(plugin.all_tables()) or 'none'}")
        elif entry.family != "searcher":
            say(console, f"kinds: {', '.join(plugin.kinds)}; dimensions: {', '.join(map(str, plugin.dimensions))}")
        for q in getattr(plugin, "computes", ()):
            say(console, f"computes: {q.name} in {q.unit}, shape {list(q.shape)}")
        settings = list(plugins.settings_of(plugin))
        said = {table: descriptions(table) for table in {table for table, *_ in settings}}
        rows = [
            (name, key.words, key.measure, key.range, default, said[table].get(name.rpartition(".")[2], ""))
            for table, name, key, default in settings
        ]
        print_table(console, "Settings", ("key", "type", "unit", "range", "default", "what"), rows)


@app.command("check")
def plugin_check(name: str, plugin_files: PluginFiles = None) -> None:
    """Run the conformance checks of a plugin, and say what a structure costs; exit code 2 if a check fails."""
    from msvae.plugins.conformance import checks, costs

    if world.rank() > 0:
        return
    add_files(plugin_files)
    console, failures = Console(soft_wrap=True), 0
    for check in (c for entry in plugins.registry().named(name) for c in checks(entry.plugin)):
        try:
            check()
            say(console, f"passed  {check}")
        except Exception as error:  # a border: a stranger's plugin may raise anything
            failures += 1
            say(console, f"FAILED  {check}: {type(error).__name__}: {error}")
    if failures:
        raise PluginError(f"plugin '{name}' breaks {failures} of its promises: see the lines above")
    for cost in (c for entry in plugins.registry().named(name) for c in costs(entry.plugin)):
        say(console, f"cost    {cost}")


@app.command("new")
def plugin_new(
    name: Annotated[str, typer.Argument(help="what studies will call it; lower case with hyphens")],
    kind: Annotated[str, typer.Option(help="solver, dataset, architecture or searcher")] = "solver",
    output: Annotated[Path, typer.Option(help="folder in which the package's folder is made")] = Path(),
) -> None:
    """Write an installable package with a plugin that works, its test and a study; change it into your own."""
    from msvae.cli.kit import write_package

    if world.rank() > 0:
        return
    console = Console(soft_wrap=True)
    for path in write_package(name, kind, output):
        say(console, str(path))
    say(console, f"next: msvae run {output / name / 'study.toml'}")


def _first_line(plugin: type) -> str:
    return (plugin.__doc__ or "").strip().splitlines()[0]
