"""Newton's method along a path of prescribed displacements, with steps that shrink where it fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from msvae import Array
from msvae_voxelfe.elements.quadratic import Block, solve_constrained

Equilibrium = Callable[[Array], tuple[Array, Array] | None]
SHORTEST = 2**-8  # of an asked step: a step that fails at this length is given up
NEWTON = 12


@dataclass(frozen=True, eq=False)
class Path:
    """Prescribed displacements: unknowns, and their values for a load of 1."""

    unknowns: Array
    values: Array


@dataclass(frozen=True, eq=False)
class State:
    """A load, the displacements (size,) in equilibrium with it, the internal forces, and Newton's iterations so far.

    residual: largest force left on a free unknown. correction: estimate of the largest change of a displacement, and
    energy: of the change of energy, that would make it vanish.
    """

    load: float
    u: Array
    forces: Array
    iterations: int
    residual: float = 0.0
    correction: float = 0.0
    energy: float = 0.0


class NotConvergedError(RuntimeError):
    """Newton's method failed at the shortest step."""


def follow(
    block: Block, equilibrium: Equilibrium, path: Path, loads: Sequence[float], tolerance: float
) -> Iterator[State]:
    """Yield the state at each of the loads; NotConvergedError where there is none to be found.

    equilibrium: returns internal forces and stiffness band for displacements, or None where they are inadmissible.
    """
    start = equilibrium(np.zeros(block.size))
    assert start is not None
    states = [State(0.0, np.zeros(block.size), start[0], 0)]
    for goal in loads:
        step = goal - states[-1].load
        while states[-1].load != goal:
            reach = states[-1].load + step
            load = goal if abs(goal - reach) < 1e-12 * abs(goal) else reach
            found = _newton(block, equilibrium, path, states, load, tolerance)
            if found is not None:
                states = [*states[-2:], found]
                step = goal - load if abs(goal - load) < 1.5 * abs(step) else 1.5 * step
            elif abs(step) < SHORTEST * abs(goal):
                raise NotConvergedError(f"no equilibrium found beyond a load of {states[-1].load:.4g}")
            else:
                step = step / 2
        yield states[-1]


def _newton(block: Block, equilibrium: Equilibrium, path: Path, states: Sequence[State], load: float,
            tolerance: float) -> State | None:  # fmt: skip
    u = _predicted(block, equilibrium, path, states, load)
    free = np.ones(block.size, dtype=bool)
    free[path.unknowns] = False
    before, change = np.inf, None
    for iteration in range(1, NEWTON + 1):
        response = equilibrium(u)
        if response is None:
            return None
        forces, band = response
        size, scale = np.linalg.norm(forces[free]), np.linalg.norm(forces)
        if size <= tolerance * scale:
            if change is None:
                change = solve_constrained(band, -forces, path.unknowns)
                before = float(size)
            return _judged(
                State(load, u, forces, states[-1].iterations + iteration), free, change, float(size) / before
            )
        if not size < 10 * before:
            return None
        before = float(size)
        change = solve_constrained(band, -forces, path.unknowns)
        u = u + change
    return None


def _judged(state: State, free: Array, change: Array, ratio: float) -> State:
    """Return the state with its errors, for the last change of u and the residual's norm over that before it."""
    rest = np.where(free, state.forces, 0.0)
    correction = ratio * change
    return replace(state, residual=float(np.abs(rest).max()), correction=float(np.abs(correction).max()),
                   energy=0.5 * float(np.abs(rest) @ np.abs(correction)))  # fmt: skip


def _predicted(block: Block, equilibrium: Equilibrium, path: Path, states: Sequence[State], load: float) -> Array:
    """Return displacements that meet the load's boundary values: the last states extrapolated, or a linear response."""
    last = states[-1]
    if len(states) >= 2:
        return np.asarray(_extrapolated(states, load))
    response = equilibrium(last.u)
    assert response is not None
    jump = np.zeros(block.size)
    jump[path.unknowns] = (load - last.load) * path.values
    _, band = response
    return np.asarray(last.u + jump + solve_constrained(band.copy(), -band_product(band, jump), path.unknowns))


def _extrapolated(states: Sequence[State], load: float) -> Array:
    """Return the polynomial through the last two or three states at a load (Lagrange's formula)."""
    total = np.zeros_like(states[-1].u)
    for k, state in enumerate(states):
        factor = 1.0
        for m, other in enumerate(states):
            if m != k:
                factor *= (load - other.load) / (state.load - other.load)
        total += factor * state.u
    return total


def band_product(band: Array, x: Array) -> Array:
    """Return K x for the lower band of a symmetric K."""
    result = band[0] * x
    for shift in range(1, len(band)):
        result[shift:] += band[shift, : x.size - shift] * x[: x.size - shift]
        result[: x.size - shift] += band[shift, : x.size - shift] * x[shift:]
    return np.asarray(result)
