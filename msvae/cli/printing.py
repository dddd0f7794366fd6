"""Output to the terminal: literal text, whatever its source, and tables."""

from __future__ import annotations

import logging
import sys
import warnings
from typing import Any

from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table as RichTable
from rich.text import Text

from msvae.errors import visible

__all__ = ["log_to_stderr", "print_table", "say", "say_plain"]

FORMAT = warnings.formatwarning  # as it is before the command line makes it show names as they are


def print_table(console: Console, title: str, columns: Any, rows: Any) -> None:
    table = RichTable(title=shown(title, "table.title"))
    for column in columns:
        table.add_column(shown(column), overflow="fold")
    for row in rows:
        table.add_row(*map(shown, row))
    (console if console.is_terminal else Console(width=140)).print(table)


def shown(text: str, style: str = "") -> Text:
    """Return a text that is shown literally: neither the terminal nor rich interprets anything in it."""
    return Text(visible(text), style)


def say(console: Console, text: str) -> None:
    console.print(shown(text), highlight=False)


def say_plain(text: str) -> None:
    """Write output for programs."""
    sys.stdout.write(visible(text))


def _warning(*arguments: Any, **more: Any) -> str:
    return visible(FORMAT(*arguments, **more))


class _Shown(RichHandler):
    """The handler that the command line adds to the root logger."""


class _Visible(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


def log_to_stderr() -> None:
    """Show log messages once, however often this is called."""
    root = logging.getLogger()
    for earlier in [handler for handler in root.handlers if isinstance(handler, _Shown)]:
        root.removeHandler(earlier)
    handler = _Shown(console=Console(stderr=True, soft_wrap=True), show_path=False, show_level=False, markup=False)
    handler.setFormatter(_Visible("%(message)s"))
    handler.addFilter(lambda record: record.name.startswith("msvae") or record.levelno >= logging.WARNING)
    root.addHandler(handler)
    root.setLevel(logging.INFO)  # plugins log too, under names of their own
    warnings.formatwarning = _warning
