"""The journal: what happens to a run, as lines of JSON (log.jsonl), and how far it is now (status.json).

Both are for people and programs that watch; nothing is read back from them, and a disk that is full for them does not
end a campaign.
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
        """Add to what status.json says, or replace it."""
        self.state |= {**state, "updated": now()}
        self.stage = {key: value for key, value in self.stage.items() if key not in state}
        with suppress(RunError):
            write_atomically(self.directory / "status.json", json.dumps(self.state | self.stage, indent=1).encode())

    def show_stage(self, stage: str, **state: Any) -> None:
        """Let status.json say which stage is under way and how far it is, in the place of what it said of a stage."""
        self.stage = {"stage": stage, **state}
        self.show()

    @contextmanager
    def progress(self, stage: str) -> Iterator[Report]:
        """Yield a function (done, total, text) that shows how far a stage is: to who waits, and in status.json."""
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
    """Open a file, but none that a link leads to, and no pipe that nobody reads."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


def check_failures(stage: str, made: int, reasons: Sequence[str]) -> None:
    """Raise TargetError where most of the evaluations that were made failed, with the most frequent of the reasons."""
    if len(reasons) <= MOST * made:
        return
    raise TargetError(
        f"{len(reasons)} of the first {made} evaluations of stage '{stage}' failed, {most_frequent(reasons)}; mend "
        "that, or set executor.max_failures to go on all the same"
    )


def most_frequent(reasons: Sequence[str]) -> str:
    """Return in words the most frequent of reasons, of which those are one that differ by numbers alone.

    >>> most_frequent(["no licence 1", "no mesh", "no licence 2"])
    '2 of them so: no licence 1'
    """
    kinds = [re.sub(r"[\d.]+", "#", reason) for reason in reasons]
    kind, times = Counter(kinds).most_common(1)[0]
    return f"{times} of them so: {reasons[kinds.index(kind)]}"


class Watch:
    """Counts the evaluations of a stage as they complete.

    width: how many can run at once. quiet: status.json is told of the stage by someone who knows more of it.
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
        """Take note of evaluations that have completed."""
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
        """Whether fewer evaluations have been counted than the stage is judged by."""
        return self.finished - self.before < min(FIRST, self.total)

    def check(self) -> None:
        """Raise TargetError where most of the evaluations failed: the others will too."""
        if not self.is_beginning:
            check_failures(self.stage, self.finished - self.before, self.reasons)

    @property
    def state(self) -> dict[str, Any]:
        """How far the stage is. rate: evaluations a second. utilisation: of the workers, 0 to 1."""
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
        """The state in words, beside how many are done."""
        s = self.state
        busy = f"workers {100 * s['utilisation']:.0f} % busy"
        return f"{s['failed']} failed, {s['running']} running, {s['rate']:.3g}/s, {busy}"

    def show(self, *, force: bool = False) -> None:
        """Let status.json say how far the stage is, now and then."""
        if not self.quiet and (force or time.monotonic() - self.shown > EVERY):
            self.shown = time.monotonic()
            self.journal.show_stage(**self.state)

    def end(self) -> None:
        """Take note of the end of the stage."""
        self.journal.note("stage ended", **self.state)
        self.show(force=True)
