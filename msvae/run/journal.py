"""The journal of a run: its events as lines of JSON (log.jsonl), and its current progress (status.json).

Both are for people and programs that monitor a run. Nothing is read back from them, and failing to write them (a full
disk) does not end a campaign.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from msvae.errors import RunError, TargetError
from msvae.files.atomic import write_atomically
from msvae.progress import Report, stage_progress
from msvae.structures.evaluations import Evaluations

__all__ = ["FIRST", "Journal", "Watch", "check_failures", "most_frequent", "now"]

EVERY = 2.0  # seconds between two states of status.json
FIRST, MOST = 20, 0.5  # evaluations of a stage, and the part of them that fails, after which it is given up
SPOKEN = 100  # failures of a stage that are logged one by one


def now() -> str:
    """Return the time in UTC, ISO 8601."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


class Journal:
    """The journal of a run's directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state: dict[str, Any] = {"host": platform.node(), "process": os.getpid(), "started": now()}
        self.stage: dict[str, Any] = {}  # what is said of the stage that is under way, and forgotten with it

    def note(self, event: str, **values: Any) -> None:
        """Add a line to log.jsonl."""
        line = json.dumps({"time": now(), "event": event, **values})
        with suppress(OSError), open(self.directory / "log.jsonl", "a", encoding="utf-8", opener=_in_place) as file:
            file.write(line + "\n")

    def show(self, **state: Any) -> None:
        """Add entries to status.json, or replace them."""
        self.state |= {**state, "updated": now()}
        self.stage = {key: value for key, value in self.stage.items() if key not in state}
        with suppress(RunError):
            write_atomically(self.directory / "status.json", json.dumps(self.state | self.stage, indent=1).encode())

    def show_stage(self, stage: str, **state: Any) -> None:
        """Write the current stage and its progress to status.json, replacing the previous stage."""
        self.stage = {"stage": stage, **state}
        self.show()

    @contextmanager
    def progress(self, stage: str) -> Iterator[Report]:
        """Yield a function (done, total, text) that shows the progress of a stage, on screen and in status.json."""
        start = shown = time.monotonic()
        first: int | None = None
        self.show_stage(stage)

        with stage_progress(stage) as report:

            def both(done: int, total: int, text: str) -> None:
                nonlocal first, shown
                report(done, total, text)
                first, moment = done if first is None else first, time.monotonic()
                if moment - shown > EVERY or done == total:
                    shown = moment
                    left = round((moment - start) / (done - first) * (total - done), 1) if done > first else None
                    self.show_stage(stage, steps=total, steps_done=done, doing=text, seconds_left=left)

            yield both


def _in_place(path: str, flags: int) -> int:
    """Open a file without following links and without blocking on a pipe that has no reader."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


def check_failures(stage: str, made: int, reasons: Sequence[str]) -> None:
    """Raise TargetError, with the most frequent reason, if most of the evaluations failed."""
    if len(reasons) <= MOST * made:
        return
    raise TargetError(
        f"{len(reasons)} of the first {made} evaluations of stage '{stage}' failed, {most_frequent(reasons)}; mend "
        "that, or set executor.max_failures to go on all the same"
    )


def most_frequent(reasons: Sequence[str]) -> str:
    """Return the most frequent reason in words; reasons that differ only in numbers count as one.

    >>> most_frequent(["no licence 1", "no mesh", "no licence 2"])
    '2 of them so: no licence 1'
    """
    kinds = [re.sub(r"[\d.]+", "#", reason) for reason in reasons]
    kind, times = Counter(kinds).most_common(1)[0]
    return f"{times} of them so: {reasons[kinds.index(kind)]}"


class Watch:
    """Counts the evaluations of a stage as they complete.

    width: how many can run at once. quiet: the caller writes the stage's progress to status.json instead.
    """

    def __init__(
        self, journal: Journal, stage: str, *, total: int, before: Evaluations, width: int, quiet: bool = False
    ) -> None:
        self.journal, self.stage, self.total, self.width, self.quiet = journal, stage, total, width, quiet
        self.before = self.finished = len(before)
        self.failed = int((~before.done).sum())
        self.cached, self.busy, self.reasons = 0, 0.0, list[str]()
        self.start = self.shown = time.monotonic()
        journal.note("stage started", stage=stage, evaluations=total, known=len(before))

    def count(self, table: Evaluations) -> None:
        """Count completed evaluations."""
        failed = ~table.done
        for k in failed.nonzero()[0][: max(0, SPOKEN - self.failed)]:
            row = {name: table[name][k].item() for name in ("index", "attempts", "rank")}
            row |= {name: str(table[name][k]) for name in ("structure", "status", "message")}
            self.journal.note("evaluation failed", stage=self.stage, **row)
        self.reasons += [str(message) for message in table["message"][failed]]
        self.finished += len(table)
        self.failed += int(failed.sum())
        self.cached += int(table["cached"].sum())
        self.busy += float(table["cost"].sum())

    @property
    def is_beginning(self) -> bool:
        """Whether too few evaluations have been counted to judge the stage."""
        return self.finished - self.before < min(FIRST, self.total)

    def check(self) -> None:
        """Raise TargetError if most of the evaluations failed, because the others would fail too."""
        if not self.is_beginning:
            check_failures(self.stage, self.finished - self.before, self.reasons)

    @property
    def state(self) -> dict[str, Any]:
        """The progress of the stage. rate: evaluations per second. utilisation: of the workers, 0 to 1."""
        elapsed = max(time.monotonic() - self.start, 1e-9)
        rate = (self.finished - self.before) / elapsed
        left = self.total - self.finished
        return {
            "stage": self.stage,
            "evaluations": self.total,
            "done": self.finished - self.failed,
            "failed": self.failed,
            "cached": self.cached,
            "running": min(self.width, left),
            "rate": round(rate, 4),
            "seconds_left": round(left / rate, 1) if rate and left else (0.0 if not left else None),
            "utilisation": round(min(1.0, self.busy / (elapsed * self.width)), 4),
        }

    @property
    def text(self) -> str:
        """The state in words, apart from the number done."""
        s = self.state
        busy = f"workers {100 * s['utilisation']:.0f} % busy"
        return f"{s['failed']} failed, {s['running']} running, {s['rate']:.3g}/s, {busy}"

    def show(self, *, force: bool = False) -> None:
        """Write the stage's progress to status.json at intervals."""
        if not self.quiet and (force or time.monotonic() - self.shown > EVERY):
            self.shown = time.monotonic()
            self.journal.show_stage(**self.state)

    def end(self) -> None:
        """Record the end of the stage."""
        self.journal.note("stage ended", **self.state)
        self.show(force=True)
