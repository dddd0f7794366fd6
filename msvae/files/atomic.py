"""Atomic writes: a reader, or a restart after a crash, finds the old or the new content, never a part of it."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from msvae.errors import RunError

__all__ = ["write_atomically"]


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file under another name, sync and rename it; on failure remove it and raise RunError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb", opener=_without_links) as file:
            file.truncate()
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if not path.parent.is_dir():
            raise RunError(f"'{path}' cannot be written: its folder vanished") from None
        temporary.unlink(missing_ok=True)
        raise RunError(
            f"'{path}' cannot be written: {error.strerror}; free some space or allow writing, then --resume"
        ) from None


def _without_links(path: str, flags: int) -> int:
    """Open a file unless it is a symbolic or hard link, which an untrusted run may contain under any name."""
    descriptor = os.open(path, flags & ~os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(descriptor)
        raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
    return descriptor
