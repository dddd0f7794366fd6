"""Files that are whole: a reader, or a restart after a crash, finds the old content or the new, never half of it."""

from __future__ import annotations

import os
from pathlib import Path

from msvae.errors import RunError

__all__ = ["write_atomically"]


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file under another name, sync it, and give it its name; RunError if that fails, with nothing left."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb", opener=_without_links) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RunError(
            f"'{path}' cannot be written: {error.strerror}; free space or permit writing, then --resume"
        ) from None


def _without_links(path: str, flags: int) -> int:
    """Open a file, but none that a link leads to: a stranger's run may hold one under any name."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)
