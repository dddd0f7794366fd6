"""Heartbeats: every worker writes its state into a small file of the run; the manager notices who has stopped.

    RUN/workers/HOST-PROCESS         one record of JSON, as long as it always is, written over the last
    RUN/workers/HOST-PROCESS.fault   what Python says when a process ends by a fault, of ranks that solve together

A file, because every worker reaches the run's directory, whatever started it. A record is written whenever its worker
begins or ends something, and a thread counts it up in between; where nothing comes of that for the study's patience,
the process does not run, or its node does not. What a job that has died left there says what it was doing.
"""

from __future__ import annotations

import faulthandler
import json
import math
import os
import platform
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from msvae.errors import RunError
from msvae.files.border import opened
from msvae.structures.evaluations import Status

__all__ = ["FOLDER", "Errand", "Roll", "Sign", "busy_with", "current", "left_in", "sign_of"]

FOLDER = "workers"
SIZE, WORDS = 4096, 500  # bytes of a record, and characters of it that say what is wrong
BEATS = 6  # in the study's patience
LOOK = 1.0  # seconds between two looks at who is there


@dataclass(frozen=True)
class Errand:
    """What a worker is told with its tasks: where to give signs, the errand's number, and the seconds between signs."""

    folder: str
    number: int
    every: float | None


@dataclass(frozen=True)
class Sign:
    """What a worker says of itself.

    rank: its own, team: of the first of those that it solves with. errand: what it is doing, structure: the id of what
    it evaluates, where ranks solve together. trouble: why it cannot go on; status: that its evaluation has then.
    """

    host: str
    process: int
    rank: int = 0
    team: int = 0
    beat: int = 0
    errand: int | None = None
    structure: str = ""
    trouble: str = ""
    status: Status = "failed"

    @property
    def who(self) -> str:
        """The worker in words."""
        if not self.process:
            return "a worker that never began"
        return f"rank {self.rank} (process {self.process} on {self.host})"


class Writer:
    """Writes this process's sign, and counts it up every so many seconds, if there are some.

    A disk that is full, or a run that is gone, is not this process's affair: then there are no signs.
    """

    def __init__(self, folder: Path, every: float | None) -> None:
        self.sign, self.lock = Sign(platform.node(), os.getpid()), threading.Lock()
        self.path, self.file = folder / f"{self.sign.host}-{self.sign.process}", -1
        with suppress(OSError):
            folder.mkdir(exist_ok=True)
            self.file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
        if every is not None:
            threading.Thread(target=self._beat, args=(every,), daemon=True).start()

    def say(self, **changes: int | str | None) -> None:
        """Say something else."""
        with self.lock, suppress(OSError):
            self.sign = replace(self.sign, beat=self.sign.beat + 1, **changes)  # type: ignore[arg-type]
            short = replace(self.sign, trouble=self.sign.trouble[:WORDS])
            os.pwrite(self.file, json.dumps(asdict(short)).encode()[:SIZE].ljust(SIZE), 0)

    def _beat(self, every: float) -> None:
        while True:
            time.sleep(every)
            self.say()


@lru_cache(maxsize=1)
def _writer(folder: str, every: float | None, process: int) -> Writer:
    return Writer(Path(folder), every)


def sign_of(errand: Errand) -> Writer:
    """Return what writes this process's sign."""
    return _writer(errand.folder, errand.every, os.getpid())


_errand: Errand | None = None


def current() -> Errand | None:
    """Return the errand that this process is on."""
    return _errand


@contextmanager
def busy_with(errand: Errand | None, structure: str = "", **place: int) -> Iterator[None]:
    """Say meanwhile what this process does. structure: the id, where ranks evaluate it together; place: their ranks.

    A process that ends by a fault meanwhile, or by os._exit, leaves word of that.
    """
    global _errand  # noqa: PLW0603 - what is called in between does not know of errands
    _errand = errand
    if errand is None:
        yield
        return
    writer = sign_of(errand)
    writer.say(errand=errand.number, structure=structure, trouble="", **place)
    try:
        room = structure and writer.file >= 0  # where there is room for it
        with _last_will(writer.path.with_name(f"{writer.path.name}.fault")) if room else nullcontext():
            yield
    finally:
        writer.say(errand=None if not structure else errand.number, structure="", trouble="")


@contextmanager
def _last_will(path: Path) -> Iterator[None]:
    before, was_on = os._exit, faulthandler.is_enabled()
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644), "wb", buffering=0) as file:

        def leave(code: int) -> None:
            file.write(f"os._exit({code}) was called".encode())
            before(code)

        faulthandler.enable(file)
        os._exit = leave  # type: ignore[assignment]
        try:
            yield
        finally:
            os._exit = before
            faulthandler.disable()
            if was_on:
                faulthandler.enable()


def left_in(folder: Path) -> dict[str, str]:
    """Return the structures that ranks were solving together when their job died: why, if one of them has left word.

    The ids of structures and "", or what the process said when it ended.
    """
    found: dict[str, str] = {}
    for path, sign in _signs(folder):
        if sign.structure:
            fault = path.with_name(f"{path.name}.fault")
            said = _content(fault).decode(errors="replace")
            first = next((line for line in said.splitlines() if line.strip()), "")
            found[sign.structure] = found.get(sign.structure) or (first and f"{sign.who}: {first}")
    return found


def _signs(folder: Path) -> list[tuple[Path, Sign]]:
    """Return the signs that a folder holds, but for those that are being written or are none."""
    found = []
    for path in folder.glob("*"):
        if path.suffix != ".fault":
            with suppress(ValueError, TypeError):
                found.append((path, Sign(**json.loads(_content(path)))))
    return found


def _content(path: Path) -> bytes:
    """Return the first bytes of a sign; none where it is no file of ours."""
    try:
        with opened(path, links=False) as file:
            return file.read(SIZE)
    except (OSError, RunError):
        return b""


@dataclass
class Roll:
    """Who works for a campaign, and who does not any more; read from a folder of the run.

    patience: seconds of silence after which a worker is lost; None if silence is no sign. timeout: seconds of one
    evaluation by ranks together, after which they are. sends: whether errands are sent to one worker each, as over MPI,
    which has them even if it never begins. on_loss: called for whoever is lost.
    """

    folder: Path
    patience: float | None = None
    timeout: float | None = None
    sends: bool = False
    on_loss: Callable[[Sign], None] = lambda sign: None
    lost: dict[str, Sign] = field(default_factory=dict)
    _seen: dict[str, tuple[int, float]] = field(default_factory=dict)  # the last beat of each, and when it was new
    _solving: dict[str, tuple[str, float]] = field(default_factory=dict)  # the structure of each, and since when
    _taken: set[int] = field(default_factory=set)
    _sent: dict[int, float] = field(default_factory=dict)  # when errands were found to run that nobody has taken
    _looked: float = -math.inf
    _errands: int = 0

    @property
    def lost_teams(self) -> int:
        """How many of those that take tasks are lost."""
        return len({sign.team or sign.rank or sign.process for sign in self.lost.values()})

    @property
    def why(self) -> str:
        """Why one of the lost is."""
        sign = next(iter(self.lost.values()))
        return f"{sign.who} {sign.trouble or f'was silent for {self.patience:g} s'}"

    def errand(self) -> Errand:
        """Return a new errand."""
        self._errands += 1
        return Errand(str(self.folder), self._errands, None if self.patience is None else self.patience / BEATS)

    def look(self, *, force: bool = False) -> bool:
        """Look who is there, if it is time to; return whether it was."""
        now = time.monotonic()
        if now - self._looked < LOOK and not force:
            return False
        self._looked, self._taken = now, set()
        for path, sign in _signs(self.folder):
            beat, since = self._seen.get(path.name, (-1, now))
            since = since if beat == sign.beat else now
            self._seen[path.name] = (sign.beat, since)
            if sign.errand is not None:
                self._taken.add(sign.errand)
            structure, begun = self._solving.get(path.name, ("", now))
            begun = begun if structure == sign.structure else now
            self._solving[path.name] = sign.structure, begun
            if self.timeout is not None and sign.structure and now - begun > self.timeout:
                why = f"took longer than the {self.timeout:g} s of executor.timeout"
                sign = replace(sign, trouble=sign.trouble or why, status="timeout")
            if sign.trouble or (self.patience is not None and now - since > self.patience):
                self.lost[path.name] = sign
            else:
                self.lost.pop(path.name, None)
        return True

    def lost_with(self, errand: int, *, begun: bool) -> Sign | None:
        """Return the sign of a lost worker that was on this errand; None if there is none.

        begun: whether the errand waits no longer for a worker.
        """
        found = next((sign for sign in self.lost.values() if sign.errand == errand), None)
        if found is not None or self.patience is None or not self.sends or not begun or errand in self._taken:
            self._sent.pop(errand, None)
            return found
        if time.monotonic() - self._sent.setdefault(errand, time.monotonic()) < self.patience:
            return None
        silent = Sign("an unknown host", 0, team=-errand, errand=errand)
        return self.lost.setdefault(f"errand {errand}", silent)

    def close(self) -> None:
        """Delete the signs: the campaign has ended in good order."""
        shutil.rmtree(self.folder, ignore_errors=True)
