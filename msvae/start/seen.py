"""What a look at data has found, and what somebody asked for beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msvae.plugins.interfaces import Dataset
from msvae.study import load_plugin
from msvae.study.source import Source

__all__ = ["Asked", "Key", "Seen", "dataset_of"]


@dataclass(frozen=True)
class Asked:
    """Options of a look at data; None where the data are to say it.

    spacing: edge length of a voxel in m. threshold: grey value above which a voxel is phase 1. dimensions: 2 for pages
    that are images of their own, 3 for slices of a volume. array: of an HDF5 file.
    """

    spacing: float | None = None
    threshold: float | None = None
    dimensions: int | None = None
    array: str | None = None


@dataclass(frozen=True)
class Key:
    """A value of a key of the study, and the comment behind it."""

    value: Any
    comment: str = ""


@dataclass(frozen=True)
class Seen:
    """What was seen. said: sentences for the user. dataset: keys of the study's table [dataset].

    known: properties that come with the data. architecture: that fits them; the study's default where None.
    """

    said: tuple[str, ...]
    dataset: Mapping[str, Key]
    known: tuple[str, ...] = ()
    architecture: str | None = None

    def plugin(self) -> Dataset:
        """Return the data set as the study will have it."""
        return dataset_of({name: key.value for name, key in self.dataset.items()})


def dataset_of(table: Mapping[str, Any]) -> Dataset:
    """Return the data set of a table of keys."""
    plain = {key: str(value) if isinstance(value, Path) else value for key, value in table.items()}
    return load_plugin(Dataset, plain, Source("study new", ""))
