"""What is known already: structures that the same solver has solved before, in this run or in others, by their ids."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from msvae.errors import RunError
from msvae.evaluation_file import read_evaluations
from msvae.evaluations import Evaluations, joined
from msvae.structures import Array

__all__ = ["File", "Known", "known_in"]

log = logging.getLogger(__name__)


class File(NamedTuple):
    """A file as it is at a moment: where another content replaces it (--force), it is another file of the same path."""

    path: str
    changed: int
    size: int

    @classmethod
    def now(cls, path: Path) -> File:
        """Return a file as it is now; FileNotFoundError if there is none."""
        state = path.stat()
        return cls(str(path.resolve()), state.st_mtime_ns, state.st_size)


class Known:
    """The solved structures of some tables of evaluations."""

    def __init__(self, tables: Sequence[Evaluations]) -> None:
        whole = joined(tables)
        ids = whole["structure"]
        order = np.argsort(ids, kind="stable")
        self.ids = ids[order]
        self.properties = {name: array[order] for name, array in whole.properties.items()}

    def find(self, structure: str) -> Mapping[str, Array] | None:
        """Return the properties of the structure with this id; None if it has not been solved."""
        k = int(np.searchsorted(self.ids, structure))
        if k == len(self.ids) or self.ids[k] != structure:
            return None
        return {name: array[k] for name, array in self.properties.items()}


@lru_cache(maxsize=2)
def known_in(files: tuple[File, ...]) -> Known:
    """Return what files of evaluations know; one that has vanished or is damaged knows nothing."""
    return Known([_solved_in(file) for file in files])


@lru_cache(maxsize=1024)
def _solved_in(file: File) -> Evaluations:
    try:
        table = read_evaluations(Path(file.path))
    except FileNotFoundError:
        return Evaluations.of([])
    except RunError as error:
        log.warning("what this file knew will be solved again: %s", error)
        return Evaluations.of([])
    return table.where(table.done)
