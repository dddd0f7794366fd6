"""Known results: structures that the same solver has solved before, in this run or in others, by their ids."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from msvae.errors import RunError
from msvae.files.evaluations import read_evaluations
from msvae.structures.evaluations import Evaluation, Evaluations, joined

__all__ = ["File", "Known", "known_in"]

log = logging.getLogger(__name__)


class File(NamedTuple):
    """A version of a file: new content at the same path (--force) is another version."""

    path: str
    changed: int
    size: int

    @classmethod
    def now(cls, path: Path) -> File:
        """Return the present version of a file; FileNotFoundError if there is none."""
        state = path.stat()
        return cls(str(path.resolve()), state.st_mtime_ns, state.st_size)


class Known:
    """The solved structures of some tables of evaluations."""

    def __init__(self, tables: Sequence[Evaluations]) -> None:
        whole = joined(tables)
        self.table = whole.where(np.argsort(whole["structure"], kind="stable"))

    def find(self, structure: str) -> Evaluation | None:
        """Return the evaluation of the structure with this id; None if it has not been solved."""
        ids = self.table["structure"]
        k = int(np.searchsorted(ids, structure))
        return None if k == len(ids) or ids[k] != structure else next(iter(self.table.where(np.array([k]))))


@lru_cache(maxsize=2)
def known_in(files: tuple[File, ...]) -> Known:
    """Return the known results of files of evaluations; a missing or damaged file has none."""
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
