"""The evaluations of a stage: append-only HDF5 segments, written by one process, each complete or absent.

A segment is built in memory, written under another name, synced and renamed. A reader, or a restart after kill -9,
therefore finds every acknowledged evaluation and never a partial file. Segments are merged like the digits of a
counter: BASE adjacent segments of one size become one of the next size, a file `FIRST-LAST.h5` that replaces all
segments with numbers in that range.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from msvae.errors import RunError
from msvae.files.atomic import write_atomically
from msvae.files.border import fitting
from msvae.files.evaluations import evaluations_to_bytes, read_evaluations
from msvae.structures import Quantity
from msvae.structures.evaluations import Evaluations, joined

__all__ = ["EvaluationStore", "Writer"]

BASE = 16
PAUSE = 0.5  # seconds between two segments, so that cheap evaluations do not wait for the disk
MOST = 5000  # rows that are kept back at most, and
BYTES = 1 << 20  # of their properties
SMALL = 1 << 18  # bytes of a file that is kept in memory once it has been read


class EvaluationStore:
    """The segments of one stage in a directory.

    origin: written with every row: the solver's version, the study's digest.
    """

    def __init__(
        self, directory: Path, quantities: Sequence[Quantity] = (), origin: Mapping[str, str] | None = None
    ) -> None:
        self.directory = directory
        self.units = {q.name: q.unit for q in quantities}
        self.origin = {} if origin is None else dict(origin)
        self._next: int | None = None

    def append(self, table: Evaluations) -> None:
        """Acknowledge evaluations: when this returns, they are on disk. RunError if they cannot be written."""
        if not len(table):
            return
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"'{self.directory}' cannot be created: {error.strerror}; give another --output") from None
        if self._next is None:
            segments = self._segments()
            self._next = segments[-1][1] + 1 if segments else 0
        number = self._next
        self._write(table.stamped(self.units, self.origin), number, number)
        self._next = number + 1
        self._merge(number + 1)

    def load(self) -> Evaluations:
        """Return every acknowledged evaluation, sorted by index, keeping the last one of each index.

        RunError naming the file if one cannot be read.
        """
        table = self._load(0)
        with fitting(self.directory, "ordering the evaluations"):
            return table.latest()

    def arrived(self) -> Evaluations:
        """Return every acknowledged evaluation in the order in which they arrived."""
        return self._load(0)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold the evaluations at this moment."""
        return tuple(path for _, _, path in self._segments())

    def _load(self, first: int) -> Evaluations:
        for attempt in range(3):
            try:
                tables = [_table(path) for start, _, path in self._segments() if start >= first]
            except FileNotFoundError:  # merged by the writer after we listed it: list again
                if attempt == 2:
                    raise RunError(f"files vanish from '{self.directory}' while it is read: try again") from None
                continue
            with fitting(self.directory, "joining the evaluations"):
                return joined(tables)
        raise AssertionError

    def _write(self, table: Evaluations, first: int, last: int) -> None:
        write_atomically(self.directory / f"{first:08d}-{last:08d}.h5", evaluations_to_bytes(table))

    def _segments(self) -> list[tuple[int, int, Path]]:
        """Return (first, last, path), in order, of the segments that no merged segment replaces."""
        found = []
        for path in self.directory.glob("*.h5") if self.directory.is_dir() else ():
            match = re.fullmatch(r"(\d{8})-(\d{8})\.h5", path.name)
            if match:
                found.append((int(match[1]), int(match[2]), path))
        found.sort(key=lambda s: (s[0], -s[1]))
        kept: list[tuple[int, int, Path]] = []
        for segment in found:
            if not kept or segment[0] > kept[-1][1]:
                kept.append(segment)
        return kept

    def _merge(self, count: int) -> None:
        """Merge the last segments if a digit of the counter is full once `count` segments are written."""
        size = 1
        while count % (size * BASE) == 0:
            size *= BASE
        if size == 1:
            return
        first = count - size
        segments = [s for s in self._segments() if s[0] >= first]
        if len(segments) > 1:
            self._write(self._load(first), first, count - 1)
            for _, _, path in segments:
                path.unlink(missing_ok=True)


class Writer:
    """Appends evaluations to a store, at once or together with others that arrive within half a second.

    acknowledged: called with the written evaluations.
    """

    def __init__(self, store: EvaluationStore, acknowledged: Callable[[Evaluations], None]) -> None:
        self.store, self.acknowledged = store, acknowledged
        self.waiting: list[Evaluations] = []
        self.last = 0.0

    def add(self, table: Evaluations) -> None:
        """Add evaluations."""
        if len(table):
            self.waiting.append(table)

    def write_if_due(self) -> None:
        """Write pending evaluations, unless others have just been written."""
        rows = sum(map(len, self.waiting))
        size = sum(array.nbytes for table in self.waiting for array in table.properties.values())
        if time.monotonic() - self.last >= PAUSE or rows >= MOST or size >= BYTES:
            self.write()

    def write(self) -> None:
        """Write pending evaluations."""
        if self.waiting:
            table, self.waiting = joined(self.waiting), []
            self.store.append(table)
            self.last = time.monotonic()
            self.acknowledged(table)


def _table(path: Path) -> Evaluations:
    """Return the table in a file, which no writer changes once it is there: a small one is read once."""
    found = path.lstat()
    if found.st_size > SMALL:
        return read_evaluations(path)
    kept = _small_table(path, found.st_ino, found.st_size, found.st_mtime_ns)
    return kept.where(np.arange(len(kept)))  # a copy, which its reader may change


@lru_cache(maxsize=256)
def _small_table(path: Path, inode: int, size: int, changed: int) -> Evaluations:
    return read_evaluations(path)
