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
        temporary.unlink(missing_ok=True)  # what a dead process of this number left, or a link that leads elsewhere
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RunError(
            f"'{path}' cannot be written: {error.strerror}; free space or permit writing, then --resume"
        ) from None
