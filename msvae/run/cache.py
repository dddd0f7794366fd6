"""The cache: evaluations that runs share, addressed by content - a structure's id, and a key of solver and settings.

    CACHE/KEY/WRITER/*.h5    KEY: of solver, settings and version; WRITER: of the run that writes there alone

Every run writes into a folder of its own and reads those of all, so that runs need no lock.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msvae.errors import StudyError
from msvae.run.provenance import origin
from msvae.run.store import EvaluationStore
from msvae.structures import Quantity
from msvae.structures.evaluations import Evaluations
from msvae.study import Study

__all__ = ["Cache", "solver_key"]


class Cache:
    """The part of a cache that belongs to a study's solver."""

    def __init__(self, study: Study, run: Path, quantities: tuple[Quantity, ...]) -> None:
        assert study.cache.path is not None
        self.folder = Path(study.cache.path) / solver_key(study)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not os.access(self.folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except (OSError, ValueError) as error:  # ValueError: of a name with a zero byte
            why = error.strerror if isinstance(error, OSError) else error
            raise StudyError(
                f"{study.source.at(['cache', 'path'])}: '{self.folder}' cannot be created or written to: {why}; name a "
                "folder that can be, or leave it out"
            ) from None
        writer = hashlib.sha256(f"{socket.gethostname()}:{run.resolve()}".encode()).hexdigest()[:16]
        self.store = EvaluationStore(self.folder / writer, quantities)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that exist at this moment."""
        writers = sorted(p for p in self.folder.iterdir() if p.is_dir()) if self.folder.is_dir() else []
        return tuple(file for writer in writers for file in EvaluationStore(writer).files)

    def add(self, table: Evaluations) -> None:
        """Add newly solved evaluations that the cache does not have yet."""
        self.store.append(table.where(table.done & ~table["cached"]))


def solver_key(study: Study) -> str:
    """Return the key of a solver: a hash of its version, its settings, and the files and folders they name.

    16 hex digits.
    """
    settings = study.tables["solver"]
    files = {text: _digest(Path(text)) for text in _texts(settings) if _exists(text)}
    text = json.dumps({"settings": settings, "files": files, "origin": origin(study.need_solver())}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _texts(value: Any) -> Iterator[str]:
    """Yield every string in nested plain values."""
    if isinstance(value, str):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(item)


def _exists(text: str) -> bool:
    try:
        return Path(text).is_file() or (os.sep in text and Path(text).is_dir())  # a word may be a folder's name too
    except (OSError, ValueError):  # too long a name, or one that cannot be
        return False


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file's content, or of the names and contents of a folder's files."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(file.relative_to(path).as_posix().encode() + b"\0" + _digest(file).encode())
    return digest.hexdigest()
