"""Parameters that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msvae import plugins

__all__ = ["PluginFiles", "Set", "StudyFile", "Trust", "add_files"]

Set = Annotated[list[str] | None, typer.Option("--set", help="key.path=value, over the study's; may be repeated")]
Trust = Annotated[bool, typer.Option("--trust", help="execute the plugin files that the run brings")]
StudyFile = Annotated[Path, typer.Argument(help="the study's TOML file")]
PluginFiles = Annotated[
    list[Path] | None, typer.Option("--plugin", help="a file with plugins of your own, as a study's plugin_files")
]


def add_files(plugin_files: list[Path] | None) -> None:
    """Load plugin files that a command names; PluginError if one does not load."""
    for path in plugin_files or ():
        plugins.add_file(path.resolve())
