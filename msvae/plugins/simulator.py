"""What a data set of a process in time may offer: its simulator, for models that learn how structures evolve."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from msvae.structures import Array, Structures

__all__ = ["Simulator"]


@runtime_checkable
class Simulator(Protocol):
    """A data set that simulates how a structure of its own goes on; the parameters of each are among its properties."""

    def advance(self, structures: Structures, from_time: float, to_time: float) -> Structures:
        """Return structures of one time as they are at a later one; ValueError if it is earlier."""

    def energies(self, structures: Structures) -> Array:
        """Return the free energy (n,) of each structure, per volume, which never rises along a simulation."""
