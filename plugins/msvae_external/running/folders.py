"""The folders that a program works in: one for each structure, which are kept or not, and found again.

    SCRATCH/KEY/ID/           KEY: of everything that decides what the program does, ID: the structure's
    SCRATCH/KEY/ID/CASE/      with load cases

A folder has another name while its program runs, so that what stands under an id is complete.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from msvae import Array, MsvaeError, Structures
from msvae_external.failures import Failure

__all__ = ["FINISHED", "VALUES", "Folders", "Keep"]

FINISHED = "finished.json"  # in a folder whose programs have ended as they should, with what formulas need
VALUES = "values.npy"
MOST = 20  # folders of failures that a process keeps of one solver
Keep = Literal["failure", "always", "never"]
_failures: Counter[Path] = Counter()  # that this process has kept, by the folder they are in


@dataclass(frozen=True)
class Folders:
    """The folders of a solver. scratch: where they are, None for the system's folder of temporary files."""

    scratch: Path | None
    key: str
    keep: Keep

    @property
    def root(self) -> Path:
        """The folder that all of them are in."""
        if self.scratch is None:
            return Path(tempfile.gettempdir(), f"msvae-external-{os.getuid()}", self.key)
        return Path(os.path.expandvars(self.scratch)).expanduser().resolve() / self.key

    def of(self, name: str) -> Path:
        """Return the folder that is kept of a structure, whether it is there or not."""
        return self.root / name

    def finished(self, name: str) -> dict[str, Any] | None:
        """Return what formulas need of a structure whose programs have finished, None if there is no such folder."""
        try:
            return dict(json.loads((self.of(name) / FINISHED).read_text()))
        except (OSError, ValueError):
            return None

    def new(self, name: str) -> Path:
        """Make a folder to work in; Failure where none can be made."""
        try:
            if self.scratch is None:  # a place that others could have made
                self.root.parent.mkdir(mode=0o700, exist_ok=True)
                found = self.root.parent.lstat()
                if found.st_uid != os.getuid() or not self.root.parent.is_dir() or self.root.parent.is_symlink():
                    raise Failure(f"'{self.root.parent}' belongs to another user: give scratch, a folder of your own")
            self.root.mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.root))
        except OSError as error:
            raise Failure(f"no folder can be made in '{self.root}': {error.strerror}; give scratch") from None

    @contextmanager
    def work(self, name: str) -> Iterator[Path]:
        """Yield a new folder, which is kept or removed; a Failure says where it is kept."""
        folder = self.new(name)
        try:
            yield folder
        except (Failure, MsvaeError, OSError) as error:  # the last of a disk that is full
            status = error.status if isinstance(error, Failure) else "failed"
            if self.keep == "never" or (self.keep == "failure" and _failures[self.root] >= MOST):
                shutil.rmtree(folder, ignore_errors=True)
                raise Failure(str(error), status) from None
            _failures[self.root] += 1
            raise Failure(f"{error}; its folder is kept: {self.settle(folder, name)}", status) from None
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if self.keep == "always":
            self.settle(folder, name)
        else:
            shutil.rmtree(folder, ignore_errors=True)

    def settle(self, folder: Path, name: str) -> Path:
        """Give a folder the name that it is kept under, in place of an older one, and return its path."""
        place = self.of(name)
        for _ in range(3):  # another process may settle the same structure
            if place.exists():
                old = Path(tempfile.mkdtemp(prefix="old-", dir=self.root))
                with suppress(OSError):
                    os.rename(place, old / name)
                shutil.rmtree(old, ignore_errors=True)
            with suppress(OSError):
                os.rename(folder, place)
                return place
        return folder

    def finish(self, folder: Path, names: Mapping[str, Any], values: Array | None) -> None:
        """Note in a folder that its programs have finished. values: kept to find the nearest structure."""
        if values is not None:
            np.save(folder / VALUES, values, allow_pickle=False)
        (folder / FINISHED).write_text(json.dumps(dict(names)))

    def nearest(self, structure: Structures) -> Path | None:
        """Return the finished folder of the structure with the fewest other voxels (of fields: the least distance)."""
        best, least = None, np.inf
        for place in sorted(self.root.glob(f"*/{VALUES}")) if self.root.is_dir() else ():
            try:
                values = np.load(place, allow_pickle=False)
            except (OSError, ValueError, EOFError):
                continue
            if values.shape == structure.values[0].shape and (place.parent / FINISHED).is_file():
                distance = float(np.abs(values.astype(float) - structure.values[0]).sum())
                if distance < least:
                    best, least = place.parent, distance
        return best
