"""`msvae doctor`: the whole examination, in the order in which it is read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from msvae.start.doctor import folders, machine, parallel
from msvae.start.doctor.finding import Finding

__all__ = ["findings"]


def findings(folder: Path) -> Iterator[Finding]:
    """Yield everything that is found out about this installation, and about a folder for its runs."""
    yield from machine.versions()
    yield from parallel.mpi()
    yield machine.compiled()
    yield from machine.processor()
    yield machine.devices()
    yield from folders.folder(folder)
    yield from machine.loaded_plugins()
