"""The names that templates and formulas find: what is known of a structure, as plain numbers, words and tuples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from msvae import Structures
from msvae_external import templates

__all__ = ["KNOWN", "Names"]

LATENTS = "latents"


class Names(Mapping[str, Any]):
    """Names and values of one structure; a value is made when it is asked for.

    structure: a batch of one. given: further names, of the study and of the load case.
    """

    def __init__(self, structure: Structures, given: Mapping[str, Any]) -> None:
        self.structure, self.given = structure, dict(given)
        self._properties = {q.name: structure.properties[q.name][0] for q in structure.quantities}

    def __getitem__(self, name: str) -> Any:
        if name in self.given:
            return self.given[name]
        if name in KNOWN:
            return _of_structure(self, name)
        return _plain(self._properties[name])

    def __iter__(self) -> Iterator[str]:
        yield from {**self.given, **KNOWN, **self._properties}

    def __len__(self) -> int:
        return len({**self.given, **KNOWN, **self._properties})

    def __contains__(self, name: object) -> bool:
        return name in self.given or name in KNOWN or name in self._properties

    def properties(self) -> dict[str, Any]:
        """Return what is known of the structure, by name, whatever characters the name has."""
        return {name: _plain(value) for name, value in self._properties.items() if name != LATENTS}

    @property
    def numbers(self) -> dict[str, Any]:
        """What a formula may need later, when the structure is not there any more: JSON can keep it."""
        kept = ("id", "dimensions", "shape", "spacing", "lengths", "volume", "voxels", "fractions", LATENTS)
        values = {name: self[name] for name in kept if name in self}
        return {**values, **{n: _plain(v) for n, v in self._properties.items() if templates.NAME.fullmatch(n)}}


def _latents(names: Names) -> Any:
    return _plain(names._properties[LATENTS]) if LATENTS in names._properties else ()


KNOWN: Mapping[str, Callable[[Names], Any]] = {
    "id": lambda n: n.structure.ids[0],
    "kind": lambda n: n.structure.specification.kind,
    "dimensions": lambda n: n.structure.specification.grid.dimensions,
    "shape": lambda n: n.structure.specification.grid.shape,
    "spacing": lambda n: n.structure.specification.grid.spacing,
    "lengths": lambda n: n.structure.specification.grid.lengths,
    "volume": lambda n: math.prod(n.structure.specification.grid.lengths),
    "voxels": lambda n: math.prod(n.structure.specification.grid.shape),
    "constituents": lambda n: tuple(
        templates.text_of(name, f"constituent {k}") for k, name in enumerate(n.structure.specification.constituents)
    ),
    "fractions": lambda n: _plain(n.structure.fractions[0]),
    "values": lambda n: _plain(n.structure.values[0]),
    "labels": lambda n: _plain(n.structure.labels[0]),
    "flat": lambda n: _plain(n.structure.values[0].ravel()),
    "latents": _latents,
    "properties": lambda n: n.properties(),
}


def _of_structure(names: Names, name: str) -> Any:
    return KNOWN[name](names)


def _plain(array: Any) -> Any:
    """Return an array as numbers in nested tuples: objects of numpy can write files."""
    return _tuples(array.tolist())


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
