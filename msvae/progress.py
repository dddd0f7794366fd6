"""Progress: a bar on a terminal, a line now and then in a log file."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from msvae.errors import visible

__all__ = ["Report", "stage_progress"]

Report = Callable[[int, int, str], None]
EVERY = 60.0  # seconds between two lines where there is no terminal
log = logging.getLogger(__name__)


@contextmanager
def stage_progress(title: str) -> Iterator[Report]:
    """Yield a function (done, total, text) that shows how far a stage is."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(title)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}", markup=False),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(visible(title), total=None, text="")
        yield lambda done, total, text: progress.update(task, completed=done, total=total, text=visible(text))


def _lines(title: str) -> Report:
    begin = last = time.monotonic()
    first: int | None = None

    def report(done: int, total: int, text: str) -> None:
        nonlocal last, first
        now = time.monotonic()
        first = done if first is None else first  # what was done before, as by the run that is resumed, took no time
        if done == total or now - last > EVERY:
            left = f", {(now - begin) / (done - first) * (total - done):.0f} s left" if first < done < total else ""
            log.info("%s %d/%d%s %s", title, done, total, left, text)
            last = now

    return report
