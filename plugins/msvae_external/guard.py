"""One run of a program: it ends with its time, with whoever asked for it, and leaves no process behind.

    python guard.py PARENT SECONDS OUTPUT MOST PROGRAM ARGUMENT...    # the program's environment as JSON to its input

The program's standard output and error go to the file OUTPUT: the first MOST bytes, and the last ones. What became
of it is written to standard output, as JSON: code (negative for a signal), seconds over its time (timeout), or why it
could not be started (error). It imports nothing of msvae, so that it starts fast.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

TAIL = 1 << 16  # bytes at the end of a long output that are kept
PIECE = 1 << 16
GLANCE = 0.2  # seconds between two looks, where the kernel does not tell of an end
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # of <linux/prctl.h>


class Ended(Exception):  # noqa: N818 - no error
    """Whoever asked for the program is gone, or wants no more of it."""


class Output:
    """The file of a program's output, of bounded length."""

    def __init__(self, path: str, most: int) -> None:
        self.file, self.left, self.tail, self.lost = open(path, "ab"), most, b"", 0  # noqa: SIM115 - until close

    def add(self, piece: bytes) -> None:
        """Write what fits, and keep the end of the rest."""
        self.file.write(piece[: self.left])
        rest = piece[self.left :]
        self.left -= len(piece) - len(rest)
        self.lost += len(rest)
        self.tail = (self.tail + rest)[-TAIL:]

    def close(self) -> None:
        """Write the end of what did not fit."""
        if self.lost:
            self.file.write(b"\n... %d bytes are left out ...\n" % (self.lost - len(self.tail)) + self.tail)
        self.file.close()


def descendants(process: int) -> list[int]:
    """Return the processes that a process has started, and theirs."""
    found: list[int] = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{process}/task"):
            with suppress(OSError):
                children = Path(f"/proc/{process}/task/{task}/children").read_text().split()
                for child in map(int, children):
                    found += [child, *descendants(child)]
    return found


def end_all() -> None:
    """End every process that was started from here, those that left their parents too."""
    for _ in range(100):
        left = descendants(os.getpid())
        for process in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not left:
            return
        time.sleep(0.01)


def watched(program: subprocess.Popen[bytes], reader: int, output: Output, seconds: float) -> dict[str, Any]:
    """Return what becomes of a program; its output is taken meanwhile."""
    last = time.monotonic() + seconds
    process = os.pidfd_open(program.pid) if hasattr(os, "pidfd_open") else None
    while program.poll() is None:
        left = last - time.monotonic()
        if left <= 0:
            return {"timeout": seconds}
        ready = select.select([reader] + ([] if process is None else [process]), [], [], min(left, GLANCE))[0]
        if reader in ready:
            piece = os.read(reader, PIECE)
            output.add(piece)
            if not piece:  # it has closed its output and goes on
                time.sleep(GLANCE / 10)
    return {"code": program.returncode}


def drained(reader: int, output: Output) -> None:
    """Take what is left in a pipe that nobody writes to any more."""
    os.set_blocking(reader, False)
    with suppress(BlockingIOError):
        while piece := os.read(reader, PIECE):
            output.add(piece)


def main() -> None:
    parent, seconds, place, most, *arguments = sys.argv[1:]
    environment = json.load(sys.stdin)
    signal.signal(signal.SIGTERM, _leave)
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        library.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        library.prctl(PR_SET_CHILD_SUBREAPER, 1)
    if os.getppid() != int(parent):
        return
    output = Output(place, int(most))
    reader, writer = os.pipe()
    answer: dict[str, Any] = {}
    try:
        program = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer, env=environment, start_new_session=True,
            preexec_fn=_die_with_guard,  # noqa: PLW1509 - there is one thread
        )  # fmt: skip
        os.close(writer)
        answer = watched(program, reader, output, float(seconds))
    except OSError as error:
        answer = {"error": error.strerror or str(error)}
    except Ended:
        pass
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        end_all()
        drained(reader, output)
        output.close()
        sys.stdout.write(json.dumps(answer))


def _die_with_guard() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _leave(*_: Any) -> None:
    raise Ended


if __name__ == "__main__":
    main()
