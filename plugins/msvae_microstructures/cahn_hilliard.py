"""Frames of spinodal decompositions, each simulation a group: for models of how a microstructure evolves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from msvae import (
    Array,
    Count,
    DataError,
    Dataset,
    Grid,
    Positive,
    Quantity,
    Share,
    Specification,
    Structures,
    Unit,
)
from msvae_microstructures import processes
from msvae_microstructures.simulated import Ordered

PARAMETERS = ("height", "gradient")
Range = Annotated[tuple[Positive, Positive], Ordered]


@dataclass(frozen=True)
class CahnHilliard(Dataset):
    """Concentrations of a two-phase mixture while it separates, on a periodic unit square or cube.

    The parameters are those of Mechanical MNIST Cahn-Hilliard (github.com/elejeune11/Mechanical-MNIST-Cahn-Hilliard):
    free energy height c^2 (1 - c)^2, mobility 1, noise U(-.05, .05) on a coarse grid.

    simulations: number of them. frames: of each, at equal steps of time from first to duration. A simulation
        is a group: its frames never stand on both sides of a split. The property "time" is each frame's; "height" and
        "gradient" are its simulation's.
    shape: of the grid.
    mean: mean concentrations, one drawn for each simulation; noise_grid: likewise, cells along an axis of its noise.
    height: range of the energy's factor. gradient: range of the gradient energy's factor.
    first, duration: times of the first and the last frame.
    """

    name = "cahn-hilliard"
    kinds = ("field",)

    simulations: Count = 100
    frames: Count = 10
    shape: Annotated[
        tuple[Annotated[int, Field(ge=4, lt=2**31), Unit("voxels")], ...], Field(min_length=2, max_length=3)
    ] = (64, 64)
    mean: Annotated[tuple[Share, ...], Field(min_length=1)] = (0.5, 0.63, 0.75)
    noise_grid: Annotated[tuple[Count, ...], Field(min_length=1)] = (4, 6, 8)
    height: Range = (70.0, 100.0)
    gradient: Range = (0.01, 0.025)
    first: Positive = 5e-4
    duration: Positive = 0.025

    def __post_init__(self) -> None:
        if self.first > self.duration:
            raise ValueError(f"first is not after duration, found {self.first:g} and {self.duration:g}")

    def load(self, seed: int) -> Structures:
        children = np.random.SeedSequence(seed).spawn(self.simulations)
        runs = [self._evolution(np.random.default_rng(child)) for child in children]
        values = np.concatenate([frames for frames, _ in runs])
        groups = np.repeat(np.arange(self.simulations), self.frames)
        specification = Specification("field", 1, Grid.of(self.shape, 1 / max(self.shape)), ("concentration",))
        parameters = np.repeat([own for _, own in runs], self.frames, axis=0).T
        known = {"time": np.tile(self.times, self.simulations), **dict(zip(PARAMETERS, parameters, strict=True))}
        return Structures(values[:, None], specification, known, tuple(map(Quantity, known)), groups)

    def advance(self, structures: Structures, from_time: float, to_time: float) -> Structures:
        """Return structures of one time as they are at a later one, by their own height and gradient."""
        if to_time < from_time:
            raise ValueError(f"a simulation runs forward in time, found {from_time:g} to {to_time:g}")
        rows = [
            processes.spinodal(c[0].astype(np.float64), [to_time - from_time], height=height, gradient=gradient)
            for c, height, gradient in self._frames(structures)
        ]
        known = {**structures.properties, "time": np.full(len(structures), to_time)}
        values = np.stack(rows) if rows else structures.values
        return Structures(values, structures.specification, known, structures.quantities, structures.groups)

    def energies(self, structures: Structures) -> Array:
        """Return the free energy (n,) of each structure, per volume."""
        found = [
            processes.spinodal_energy(c[0].astype(np.float64), height=height, gradient=gradient)
            for c, height, gradient in self._frames(structures)
        ]
        return np.array(found, dtype=np.float64)

    @staticmethod
    def _frames(structures: Structures) -> Iterator[tuple[Array, float, float]]:
        """Yield each frame with its height and gradient; DataError if structures do not have them."""
        lacking = [name for name in PARAMETERS if name not in structures.properties]
        if lacking:
            raise DataError(f"the structures have no property '{lacking[0]}', which a simulation of them needs")
        height, gradient = (structures.properties[name].tolist() for name in PARAMETERS)
        yield from zip(structures.values, height, gradient, strict=True)

    @property
    def times(self) -> Array:
        """The frames' times, in units of the mobility's."""
        return np.linspace(self.first, self.duration, self.frames) if self.frames > 1 else np.array([self.duration])

    @classmethod
    def example(cls, n: int, seed: int) -> Structures:
        simulated = cls(simulations=-(-n // 2), frames=2, shape=(16, 16), duration=2e-3).load(seed)
        return simulated[np.arange(n)]

    def _evolution(self, rng: np.random.Generator) -> tuple[Array, tuple[float, float]]:
        """Return the frames (frames, *shape) of a simulation, and its height and gradient."""
        cells = int(rng.choice(self.noise_grid))
        noise = rng.uniform(-0.05, 0.05, (cells,) * len(self.shape))
        places = np.ix_(*(np.arange(n) * cells // n for n in self.shape))
        start = float(rng.choice(self.mean)) + noise[places]
        height, gradient = float(rng.uniform(*self.height)), float(rng.uniform(*self.gradient))
        return processes.spinodal(start, self.times, height=height, gradient=gradient), (height, gradient)
