"""The lock of a run, which has one writer: a file that names the process and is touched while it lives.

It is created by a hard link, which only one of several processes obtains, also on shared file systems. A lock is stale
if its process is gone (same host), if it was not touched for PATIENCE seconds of the file system's own clock (another
host), or if the same job of the queueing system returns, which happens only after the job has ended.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from msvae.errors import RunError
from msvae.files.border import content_of

__all__ = ["NAME", "RunLock"]

NAME = "run.lock"
PULSE, PATIENCE = 2.0, 60.0  # seconds between touches, and without one until a lock of another host is dead
JOBS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID")


@dataclass(frozen=True)
class Owner:
    """The holder of a lock. born: start time of the process in ticks, if /proc has it. token: identifies this lock."""

    host: str
    pid: int
    born: str
    job: str
    token: str

    @classmethod
    def this(cls) -> Owner:
        """Return the current process."""
        job = next((os.environ[name] for name in JOBS if os.environ.get(name)), "")
        return cls(socket.gethostname(), os.getpid(), _born(os.getpid()), job, uuid.uuid4().hex)

    @property
    def is_gone(self) -> bool:
        """Whether its process, which runs on this host, has ended."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        return _born(self.pid) != self.born

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}" + (f" (job {self.job})" if self.job else "")


class RunLock:
    """The lock of a run directory; RunError if another process holds it.

    on_loss: called with a message, from a thread, when the directory vanished or another process took the lock.
    """

    def __init__(self, directory: Path, on_loss: Callable[[str], None] = lambda why: None) -> None:
        self.file, self.own, self.on_loss = directory / NAME, Owner.this(), on_loss
        self._take()
        self._released = threading.Event()
        self._pulse = threading.Thread(target=self._beat, daemon=True, name="run lock")
        self._pulse.start()

    def release(self) -> None:
        """Release the lock."""
        self._released.set()
        self._pulse.join()
        if _owner(self.file) == self.own:
            self.file.unlink(missing_ok=True)

    def _take(self) -> None:
        draft = self.file.with_name(f"{NAME}.{self.own.token}")
        try:
            draft.write_text(json.dumps(asdict(self.own)))
            for _ in range(3):
                try:
                    _linked(draft, self.file)
                    return
                except FileExistsError:
                    self._break(draft)
        except OSError as error:
            raise RunError(f"'{self.file}' cannot be written: {error.strerror}; give another --output") from None
        finally:
            with suppress(OSError):
                draft.unlink()
        raise RunError(f"'{self.file.parent}' is taken by several processes at once: start one of them")

    def _break(self, draft: Path) -> None:
        """Remove a stale lock; RunError if its holder is alive."""
        held = _owner(self.file)
        try:
            os.utime(draft)
            silent = draft.stat().st_mtime - self.file.stat().st_mtime  # by one clock, the file system's
        except FileNotFoundError:
            return  # it was released just now
        if not self._is_dead(held, silent):
            who = held or "an unknown process"
            raise RunError(
                f"'{self.file.parent}' is being written by {who}, last heartbeat {max(silent, 0):.0f} s ago: wait for "
                f"its end, give another --output, or, if you know that it is dead, delete '{self.file}'"
            )
        moved = self.file.with_name(f"{NAME}.dead.{self.own.token}")
        with suppress(FileNotFoundError):  # another process was faster
            os.rename(self.file, moved)
            if _owner(moved) != held:  # what it had put there meanwhile goes back
                with suppress(FileExistsError):
                    _linked(moved, self.file)
            moved.unlink()

    def _is_dead(self, held: Owner | None, silent: float) -> bool:
        if held is not None and held.host == self.own.host:
            return held.is_gone
        if held is not None and held.job and held.job == self.own.job:
            return True
        return silent > PATIENCE

    def _beat(self) -> None:
        while not self._released.wait(PULSE):
            held = _owner(self.file)
            if held == self.own:
                with suppress(OSError):
                    os.utime(self.file)
            elif held is not None or not self.file.exists():
                where = self.file.parent
                why = f"is written by {held} now" if held else "vanished, or its lock was deleted"
                self.on_loss(f"'{where}' {why}: this campaign ended; what it had acknowledged before is in its store")
                return


def _linked(draft: Path, file: Path) -> None:
    """Give a file a second name, by a copy if there are no hard links; FileExistsError if the name is taken."""
    try:
        os.link(draft, file)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        with open(file, "x") as copy:
            copy.write(draft.read_text())


def _owner(file: Path) -> Owner | None:
    """Return the holder of a lock; None if there is none or the file is damaged."""
    try:
        return Owner(**json.loads(content_of(file, most=1 << 16)))
    except (OSError, ValueError, TypeError, RecursionError, RunError):
        return None


def _born(pid: int) -> str:
    """Return the start time of a process on this host; "" if /proc does not have it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return ""
