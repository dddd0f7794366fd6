"""Time and memory of a structure in a plugin, on the structures of the conformance checks."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

from msvae.plugins.conformance.promises import cases, example_structures, networks
from msvae.plugins.interfaces import Architecture, Campaign, Dataset, Plugin, Searcher, Solver

__all__ = ["Cost", "costs", "peak_memory"]

REPEATS, COUNT = 5, 4  # the first repetition, which imports and compiles, does not count
UNIT = 1 if sys.platform == "darwin" else 1024  # bytes, of what the system counts memory in


@dataclass(frozen=True)
class Cost:
    """What was run, on which structures; seconds of each, and by how many MiB the process grew at its peak."""

    what: str
    seconds: float
    growth: float

    def __str__(self) -> str:
        return f"{self.what}: {1e3 * self.seconds:.3g} ms a structure, {self.growth:.0f} MiB at most"


def costs(plugin: type[Plugin | Campaign | Searcher]) -> Iterator[Cost]:
    """Yield what a structure of every kind and number of dimensions costs; nothing for campaigns and searchers."""
    if issubclass(plugin, Dataset):
        yield _cost("example", lambda: plugin.example(COUNT, seed=1))
    elif issubclass(plugin, Solver):
        solver = plugin.example()
        for kind, d in cases(plugin):
            structures = example_structures(kind, d, COUNT)
            place = " x ".join(map(str, structures.specification.grid.shape)) or "a point"
            yield _cost(f"evaluate ({kind}, {place})", lambda given=structures: solver.evaluate(given))  # type: ignore[misc]
    elif issubclass(plugin, Architecture):
        for kind, d in cases(plugin):
            yield _cost(f"encode and decode, with gradients ({kind}, {d}D)", _step(plugin, kind, d))


def _cost(what: str, work: Callable[[], object]) -> Cost:
    before, seconds = peak_memory(), []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return Cost(what, median(seconds[1:]) / COUNT, (peak_memory() - before) / 2**20)


def peak_memory() -> int:
    """Return the largest memory that the process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT


def _step(plugin: type[Architecture], kind: Any, d: int) -> Callable[[], None]:
    import torch

    encoder, decoder, specification, sites = networks(plugin, kind, d)
    grid = specification.grid.shape

    def step() -> None:
        encoder(torch.zeros(COUNT, 2, *grid)).square().sum().backward()
        decoder(torch.zeros(COUNT, 4, *sites)).square().sum().backward()

    return step
