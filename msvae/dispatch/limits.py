"""Limits: a campaign ends at a clean point when a signal arrives or its wall time is over."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from msvae.errors import RunError, Stopped
from msvae.study.settings import LimitsSettings

__all__ = ["Limits", "ignored_signals", "watched"]

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # SIGUSR1 is what Slurm's --signal=USR1@300 sends before the time is over


@dataclass
class Limits:
    """The limits of one campaign. start: time.monotonic() when it began. signal: name of the one that has come.

    noticed: when it was first noticed that the campaign has to end. lost: why its run is no longer its own, if so.
    """

    settings: LimitsSettings = field(default_factory=LimitsSettings)
    start: float = field(default_factory=time.monotonic)
    signal: str = ""
    noticed: float | None = None
    lost: str = ""

    @property
    def overdue(self) -> bool:
        """Whether the campaign has to end, and the grace period of running evaluations is over."""
        if not self.reason:
            return False
        if self.noticed is None:
            self.noticed = time.monotonic()
        return time.monotonic() - self.noticed > self.settings.grace

    @property
    def reason(self) -> str:
        """Why the campaign has to end; "" if it has not."""
        if self.lost:
            return self.lost
        if self.signal:
            return f"{self.signal} came"
        allowed = self.settings.seconds
        if allowed is not None and time.monotonic() - self.start > allowed:
            return f"the {allowed:g} s of limits.walltime are over"
        return ""

    def check(self) -> None:
        """Raise Stopped if the campaign has to end; RunError if it cannot go on."""
        if self.lost:
            raise RunError(self.lost)
        if self.reason:
            raise Stopped(f"{self.reason}: the campaign ended at a clean point, go on with --resume")


@contextmanager
def watched(settings: LimitsSettings, start: float) -> Iterator[Limits]:
    """Yield limits that notice signals in the context (in a program's main thread; elsewhere only the wall time)."""
    limits = Limits(settings, start)
    if threading.current_thread() is not threading.main_thread():
        yield limits
        return

    def note(number: int, frame: FrameType | None) -> None:
        limits.signal = signal.Signals(number).name

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield limits
    finally:
        for number, handler in before.items():  # another signal may come until the process has ended
            signal.signal(number, signal.SIG_IGN if limits.signal and handler is signal.SIG_DFL else handler)


def ignored_signals() -> None:
    """Let a worker ignore these signals: its manager receives them too and ends the work cleanly."""
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
