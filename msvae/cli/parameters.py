"""Parameters that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Set", "StudyFile", "Trust"]

Set = Annotated[list[str] | None, typer.Option("--set", help="key.path=value, over the study's; may be repeated")]
Trust = Annotated[bool, typer.Option("--trust", help="execute the plugin files that the run brings")]
StudyFile = Annotated[Path, typer.Argument(help="the study's TOML file")]
