"""Frames at other times than that of a given one: decoded, with its mass, and with a free energy that never rises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from msvae import Array, Dataset, Quantity, Simulator, Structures
from msvae_evolution.campaign import Evolve
from msvae_evolution.codes import Code
from msvae_evolution.dynamics.fitting import parameters_of
from msvae_evolution.dynamics.latent import LatentDynamics
from msvae_evolution.series import TIME

__all__ = ["RELAXED", "Forecaster"]

RELAXED = "relaxed"  # the share of the last step that the simulator ran on
SMALL = 1e-3  # of a step, from which on the simulator is tried for a free energy that does not rise


@dataclass(frozen=True, eq=False)
class Forecaster:
    """A model's code, its dynamics, and the simulator of the data set, if it has one."""

    code: Code
    dynamics: LatentDynamics
    settings: Evolve
    dataset: Dataset

    @property
    def simulator(self) -> Simulator | None:
        """The data set, if it simulates."""
        return self.dataset if isinstance(self.dataset, Simulator) else None

    def forward(self, given: Structures, times: Sequence[float], *, seed: int | None = None) -> list[Structures]:
        """Return frames (n) at increasing times after that of given ones (n): expected ones, or samples by a seed.

        Mass is that of the given frame; the free energy is at most that of the frame before.
        """
        fields, time, before, found = self._fields(given), _time(given), given, []
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        for end in times:
            for a, b in zip(way := self.dynamics.way(time, end), way[1:], strict=False):
                fields = self._step(fields, a, b, given, generator)
                before = self._settled(fields, before, a, b)
            time = end
            found.append(before)
        return found

    def earlier(self, given: Structures, time: float, *, seed: int | None = None) -> Structures:
        """Return frames (n) at an earlier time, as the dynamics propose them, with the mass of the given ones."""
        fields = self._fields(given)
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        for a, b in zip(way := self.dynamics.way(_time(given), time), way[1:], strict=False):
            fields = self._step(fields, a, b, given, generator)
        return self._decoded(fields, given, time)

    def between(self, first: Structures, last: Structures, time: float) -> Structures:
        """Return frames (n) at a time between two: from the first forward and from the last backward, weighed."""
        start, end = _time(first), _time(last)
        share = float(np.log(time / start) / np.log(end / start))
        ahead, back = self._fields(first), self._fields(last)
        for a, b in zip(way := self.dynamics.way(start, time), way[1:], strict=False):
            ahead = self.dynamics.step(ahead, a, b, parameters_of(first, self.settings))
        for a, b in zip(way := self.dynamics.way(end, time), way[1:], strict=False):
            back = self.dynamics.step(back, a, b, parameters_of(last, self.settings))
        return self._decoded((1 - share) * ahead + share * back, first, time)

    def _fields(self, structures: Structures) -> Tensor:
        return self.dynamics.standardised(self.code.encode(structures))

    def _step(
        self, fields: Tensor, start: float, end: float, given: Structures, generator: torch.Generator | None
    ) -> Tensor:
        parameters = parameters_of(given, self.settings)
        if generator is None:
            return self.dynamics.step(fields, start, end, parameters)
        return self.dynamics.sample(fields, start, end, parameters, generator)

    def _decoded(self, fields: Tensor, given: Structures, time: float) -> Structures:
        """Return decoded frames with the mass of given ones, at a time."""
        rows = self.dynamics.plain(fields)
        with torch.no_grad():  # one at a time, so that a frame does not depend on the others
            decoded = torch.cat([self.code.values(row[None]) for row in rows])[:, None]
        values = _with_mass(decoded.double().numpy(), given)
        known = {**given.properties, TIME: np.full(len(given), time)}
        return Structures(values, given.specification, known, given.quantities, given.groups)

    def _settled(self, fields: Tensor, before: Structures, start: float, end: float) -> Structures:
        """Return decoded frames after the simulator has run on for a share of the step, with a lower free energy."""
        found, simulator = self._decoded(fields, before, end), self.simulator
        if simulator is None:
            return found
        share = max(self.settings.relaxation, SMALL)
        if self.settings.relaxation:
            found = _advanced(simulator, found, end - share * (end - start), end)
        shares = np.full(len(found), self.settings.relaxation)
        ceiling = simulator.energies(before)
        while len(high := np.flatnonzero(simulator.energies(found) > ceiling)):
            if share >= 1:  # the simulator's own frame, whose free energy is lower
                found = _replaced(found, high, simulator.advance(before[high], start, end))
                shares[high] = 1.0
                break
            later = _advanced(simulator, found[high], end - share * (end - start), end)
            found, shares[high] = _replaced(found, high, later), shares[high] + share
            share *= 2
        return found.with_properties({RELAXED: np.minimum(shares, 1.0)}, (Quantity(RELAXED),))


def _time(structures: Structures) -> float:
    return float(structures.properties[TIME][0])


def _at(structures: Structures, time: float) -> Structures:
    """Return the same frames with another time."""
    known = {**structures.properties, TIME: np.full(len(structures), time)}
    return replace(structures, properties=known)


def _advanced(simulator: Simulator, structures: Structures, start: float, end: float) -> Structures:
    """Return what the simulator makes of frames that are taken to be of an earlier time."""
    return simulator.advance(_at(structures, start), start, end)


def _replaced(structures: Structures, rows: Array, others: Structures) -> Structures:
    """Return frames of which some rows are other ones."""
    values = np.array(structures.values)
    values[rows] = others.values
    return replace(structures, values=values)


def _with_mass(values: Array, given: Structures) -> Array:
    """Return frames (n, channels, *grid) with the mean of given ones in single precision, to its last digit."""
    axes = tuple(range(2, values.ndim))
    target = given.values.mean(axis=axes, keepdims=True, dtype=np.float64)
    return np.asarray(values + target - values.mean(axis=axes, keepdims=True))
