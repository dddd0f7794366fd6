"""A folder for runs: whether it can be written, how fast, and whether it locks and renames as runs need it."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import h5py

from msvae.start.doctor.finding import Finding

__all__ = ["folder"]

WRITTEN = 32 * 2**20  # bytes whose writing is timed
SLOW = 20.0  # MB/s below which a run waits for its disk
FREE = 1.0  # GiB that a run should find


def folder(path: Path) -> Iterator[Finding]:
    """Yield what a folder allows; it, or the nearest existing folder above it, is tried with files that go again."""
    place = next(place for place in (path.resolve(), *path.resolve().parents) if place.is_dir())
    try:
        with tempfile.TemporaryDirectory(prefix=".msvae-", dir=place) as probe:
            yield _speed(place, Path(probe))
            yield _locks(Path(probe))
    except OSError as error:
        yield Finding("folder", f"'{place}' cannot be written: {error.strerror or error}", "wrong",
                      "give another --output, or free some space")  # fmt: skip
        return
    free = shutil.disk_usage(place).free / 2**30
    few = free < FREE
    yield Finding("free space", f"{free:.1f} GiB in '{place}'", "note" if few else "fine",
                  "a run may fill it: free some space, or give another --output" if few else "")  # fmt: skip


def _speed(place: Path, probe: Path) -> Finding:
    block, start = os.urandom(1 << 20), time.perf_counter()
    with open(probe / "speed", "wb") as file:
        for _ in range(WRITTEN // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    rate = WRITTEN / 1e6 / (time.perf_counter() - start)
    slow = rate < SLOW
    return Finding("write speed", f"{rate:.0f} MB/s to '{place}'", "note" if slow else "fine",
                   "a faster file system (scratch) saves time: give it with --output" if slow else "")  # fmt: skip


def _locks(probe: Path) -> Finding:
    """Return whether HDF5 can lock a file, and hard links and renames, on which a run's own lock rests, work."""
    try:
        with h5py.File(probe / "lock.h5", "w") as file:
            file["x"] = 1
        with h5py.File(probe / "lock.h5", "r+") as file:
            file["y"] = 2
    except OSError as error:
        return Finding("file locking", f"HDF5 cannot lock: {str(error)[:120]}", "wrong",
                       "export HDF5_USE_FILE_LOCKING=FALSE; msvae has one writer per run anyway")  # fmt: skip
    (probe / "a").touch()
    os.replace(probe / "a", probe / "b")
    try:
        os.link(probe / "b", probe / "c")
    except OSError:
        return Finding("file locking", "HDF5 locks; without hard links a run's lock is safe on one host only", "note",
                       "start one job at a time on a run in this folder")  # fmt: skip
    return Finding("file locking", "HDF5 locks, hard links and renames work")
