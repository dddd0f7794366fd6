"""One command of a program in its folder, by a guard that ends it with its time and with this process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from msvae_external.failures import Failure
from msvae_external.running import guard
from msvae_external.settings import OUTPUT

__all__ = ["Command", "last_words", "resolved"]

MOST = 1 << 25  # bytes of a program's standard output that are kept
LAST_LINES, LAST_BYTES = 4, 600
LEAVING = 10.0  # seconds that a guard has to end a program


@dataclass(frozen=True)
class Command:
    """A command to run. arguments: of which the first is the program. timeout: s. success: exit codes that are none of
    a failure."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    timeout: float
    success: tuple[int, ...] = (0,)

    @property
    def name(self) -> str:
        """The program, as messages call it."""
        return Path(self.arguments[0]).name

    def run(self, folder: Path) -> None:
        """Run it in a folder, where its output is left in a file; Failure unless it ends as it should."""
        what, _, more = self._guarded(folder).partition(" ")
        said = last_words(folder / OUTPUT)
        wrote = f"; it wrote: {said}" if said else ""
        if what == "error":
            raise Failure(f"'{self.arguments[0]}' cannot be started: {more}")
        if what == "timeout":
            took = f"took longer than timeout = {self.timeout:g} s"
            raise Failure(f"'{self.name}' {took} and was ended{wrote}", "timeout")
        if what != "code":
            raise Failure(f"'{self.name}' was ended from outside{wrote}", "crashed")
        if int(more) < 0:
            raise Failure(f"'{self.name}' was ended by {_signal(-int(more))}{wrote}", "crashed")
        if int(more) not in self.success:
            raise Failure(f"'{self.name}' ended with exit code {more}{wrote}")

    def _guarded(self, folder: Path) -> str:
        """Return what the guard of the program says of it."""
        own = [sys.executable, "-I", "-S", guard.__file__, str(os.getpid()), repr(self.timeout), OUTPUT, str(MOST)]
        environment = b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in self.environment.items())
        try:
            process = subprocess.Popen([*own, *self.arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       cwd=folder, start_new_session=True)  # fmt: skip
        except (OSError, ValueError) as error:  # of arguments that are too long, or have a zero byte
            return f"error {error}"
        try:
            return process.communicate(environment)[0].decode(errors="replace")
        except BaseException:
            process.terminate()
            try:
                process.wait(LEAVING)
            except subprocess.TimeoutExpired:
                process.kill()
            raise


def resolved(program: str, environment: Mapping[str, str]) -> str:
    """Return the path of a program, which the study may give from the current directory; as it is if there is none."""
    if os.sep in program:
        return os.path.abspath(program) if os.path.exists(program) else program  # a link has a meaning of its own
    return shutil.which(program, path=environment.get("PATH", os.defpath)) or program


def last_words(path: Path) -> str:
    """Return the last lines of a file in one, "" if there are none."""
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - LAST_BYTES, 0))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return " | ".join(line.strip() for line in [line for line in lines if line.strip()][-LAST_LINES:])


def _signal(number: int) -> str:
    try:
        return f"{signal.Signals(number).name} ({signal.strsignal(number)})"
    except ValueError:
        return f"signal {number}"
