"""One run of a program: it ends with its time, with whoever asked for it, and leaves no process behind.

    python guard.py PARENT SECONDS OUTPUT MOST PROGRAM ARGUMENT...

The program's environment comes to its input, as NAME=VALUE and a zero byte for each variable.
The program's standard output and error go to the file OUTPUT: the first MOST bytes, and the last ones. What became
of it is written to standard output: "code NUMBER" (negative for a signal), "timeout", "error WHY" if it could not be
started, or nothing if it was not wanted any more. It imports little and nothing of msvae, so that it starts fast.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from contextlib import suppress

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
    with suppress(OSError):  # one has ended meanwhile
        for task in os.listdir(f"/proc/{process}/task"):
            with open(f"/proc/{process}/task/{task}/children") as file:
                for child in map(int, file.read().split()):
                    found += [child, *descendants(child)]
    return found


def end_all() -> None:
    """End every process that was started from here, those that left their parents too."""
    for _ in range(100):
        left = descendants(os.getpid())
        for process in left:
            with suppress(OSError):  # it has ended, or is not ours any more
                os.kill(process, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not left:
            return
        time.sleep(0.01)


def started(arguments: list[str], environment: dict[bytes, bytes], writer: int) -> int:
    """Start a program and return its process; OSError if it cannot be."""
    reason, teller = os.pipe()  # that closes by itself when the program begins
    process = os.fork()
    if process == 0:
        try:
            os.setsid()
            _tell_kernel(PR_SET_PDEATHSIG, signal.SIGKILL)
            for number in (signal.SIGPIPE, signal.SIGTERM):  # Python ignores the first
                signal.signal(number, signal.SIG_DFL)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(writer, 1)
            os.dup2(writer, 2)
            os.execve(arguments[0], arguments, environment)
        except BaseException as error:
            os.write(teller, str(getattr(error, "errno", None) or 0).encode())
        finally:
            os._exit(127)
    os.close(teller)
    why = os.read(reason, 100)
    os.close(reason)
    if why:
        raise OSError(int(why), os.strerror(int(why)))
    return process


def watched(process: int, reader: int, output: Output, seconds: float) -> str:
    """Return what becomes of a program; its output is taken meanwhile."""
    last = time.monotonic() + seconds
    sign = [os.pidfd_open(process)] if hasattr(os, "pidfd_open") else []
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return f"code {os.waitstatus_to_exitcode(status)}"
        left = last - time.monotonic()
        if left <= 0:
            return "timeout"
        if reader in select.select([reader, *sign], [], [], min(left, GLANCE))[0]:
            piece = os.read(reader, PIECE)
            output.add(piece)
            if not piece:  # it has closed its output and goes on
                time.sleep(GLANCE / 10)


def drained(reader: int, output: Output) -> None:
    """Take what is left in a pipe that nobody writes to any more."""
    os.set_blocking(reader, False)
    with suppress(BlockingIOError):
        while piece := os.read(reader, PIECE):
            output.add(piece)


def main() -> None:
    parent, seconds, place, most, *arguments = sys.argv[1:]
    given = sys.stdin.buffer.read().split(b"\0")[:-1]
    environment = dict(pair.split(b"=", 1) for pair in given)
    signal.signal(signal.SIGTERM, _leave)
    _tell_kernel(PR_SET_PDEATHSIG, signal.SIGTERM)
    _tell_kernel(PR_SET_CHILD_SUBREAPER, 1)
    if os.getppid() != int(parent):
        return
    output, answer = Output(place, int(most)), ""
    reader, writer = os.pipe()
    try:
        process = started(arguments, environment, writer)
        os.close(writer)
        answer = watched(process, reader, output, float(seconds))
    except OSError as error:
        answer = f"error {error.strerror or error}"
    except Ended:
        pass
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        end_all()
        drained(reader, output)
        output.close()
        sys.stdout.write(answer)


def _tell_kernel(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value)


def _leave(*_: object) -> None:
    raise Ended


if __name__ == "__main__":
    main()
