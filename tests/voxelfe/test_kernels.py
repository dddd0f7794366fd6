"""The interface of the C kernels: what does not fit is an error before a number is touched."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from msvae_voxelfe.kernels.arguments import Forces, Inverse, Workspace
from msvae_voxelfe.kernels.compiled import Kernels, kernels
from msvae_voxelfe.kernels.plan import ALONE, Plan
from msvae_voxelfe.kernels.preconditioner import Preconditioner

GRID, SPACING = (4, 5, 6), np.ones(3, dtype=np.float32)


@pytest.fixture
def single() -> Kernels:
    found = kernels("float32")
    if found is None:
        pytest.skip("no compiler")
    return found


class Problem:
    """A small problem whose arrays can be spoilt one at a time."""

    def __init__(self, single: Kernels, plan: Plan = ALONE) -> None:
        double = kernels("float64")
        assert double is not None
        self.single = single
        whole = Preconditioner(GRID, (1.0, 1.0, 1.0), 3, np.array([1.0, 1.0]), (single, double))
        room, layout = whole.layout()
        memory = np.zeros(room + 16, dtype=np.float32)
        first = -memory.ctypes.data // 4 % 16
        self.forces = Forces(memory[first : first + room], layout)
        self.inverse, self.space = whole.inverse, single.workspace(GRID, 3, plan)
        rng = np.random.default_rng(0)
        self.p, self.x, self.r = (np.zeros((3, *GRID), dtype=np.complex64) for _ in range(3))
        self.r += rng.standard_normal(self.r.shape)
        self.r -= self.r.mean(axis=(1, 2, 3), keepdims=True)
        self.material = rng.uniform(1, 2, (2, *GRID)).astype(np.float32)

    def precondition(self) -> Any:
        return self.single.precondition(self.r, self.forces, self.inverse, self.space)

    def gradients(self) -> int:
        self.precondition()
        vectors = self.p, self.forces, self.x, self.r
        return self.single.gradients(vectors, self.material, SPACING, self.inverse, (1.0, 0.5), 3, self.space)


def shorter(array: Any) -> Any:
    return np.ascontiguousarray(array.reshape(-1)[:-1])


def spoil_part(which: str, name: str) -> Callable[[Problem], None]:
    def spoil(problem: Problem) -> None:
        part: Forces | Inverse | Workspace = getattr(problem, which)
        setattr(problem, which, replace(part, **{name: shorter(getattr(part, name))}))

    return spoil


@pytest.mark.parametrize("plan", [ALONE, Plan(2, 2)])
def test_what_fits_is_solved(single: Kernels, plan: Plan) -> None:
    assert Problem(single, plan).gradients() > 0


@pytest.mark.parametrize(
    ("which", "name"),
    [("forces", "layout"), *(("inverse", n) for n in ("grid", "symbol", "factors", "tables", "starts")),
     *(("space", n) for n in ("work", "units"))],
)  # fmt: skip
def test_what_is_too_short_for_the_preconditioner_is_refused(single: Kernels, which: str, name: str) -> None:
    problem = Problem(single)
    spoil_part(which, name)(problem)
    with pytest.raises(ValueError, match=rf"'{name}' holds \d+ numbers, the kernels need \d+"):
        problem.precondition()


@pytest.mark.parametrize("name", ["rows", "edges", "sums"])
def test_memory_that_is_too_short_for_conjugate_gradients_is_refused(single: Kernels, name: str) -> None:
    problem = Problem(single, Plan(1, 2))
    spoil_part("space", name)(problem)
    with pytest.raises(ValueError, match=f"'{name}' holds"):
        problem.gradients()


@pytest.mark.parametrize("name", ["p", "x", "material"])
def test_fields_of_another_grid_are_refused(single: Kernels, name: str) -> None:
    problem = Problem(single)
    setattr(problem, name, np.ascontiguousarray(getattr(problem, name)[..., :-1]))
    with pytest.raises(ValueError, match=rf"'{'u' if name == 'p' else name}' holds"):
        problem.gradients()


def test_a_workspace_of_another_plan_is_refused(single: Kernels) -> None:
    problem = Problem(single)
    problem.space = replace(problem.space, plan=Plan(2, 1))
    with pytest.raises(ValueError, match="'work' holds"):
        problem.precondition()


def test_pieces_without_a_plane_are_refused(single: Kernels) -> None:
    u = np.zeros((3, *GRID), dtype=np.complex64)
    material = np.ones((2, *GRID), dtype=np.float32)
    with pytest.raises(ValueError, match="no such grid"):
        single.product(u, np.empty_like(u), material, SPACING, plan=Plan(1, 5))


def test_factors_of_another_length_are_refused(single: Kernels) -> None:
    problem = Problem(single)
    factors = problem.inverse.factors.copy()
    factors[0, 0] = 3
    problem.inverse = replace(problem.inverse, factors=factors)
    with pytest.raises(ValueError, match="'tables' holds"):
        problem.precondition()


def test_forces_that_reach_too_far_or_are_not_aligned_are_refused(single: Kernels) -> None:
    problem = Problem(single)
    aligned = problem.forces
    problem.forces = replace(aligned, layout=2 * aligned.layout)
    with pytest.raises(ValueError, match="'force' holds"):
        problem.precondition()
    problem.forces = replace(aligned, memory=aligned.memory[1:])
    with pytest.raises(ValueError, match="aligned"):
        problem.precondition()


def test_arrays_of_another_type_or_order_are_refused(single: Kernels) -> None:
    problem = Problem(single)
    problem.r = problem.r.astype(np.complex128)
    with pytest.raises(ValueError, match="'r' must be a contiguous array of float32"):
        problem.precondition()
    problem.r = np.zeros((3, 6, 5, 4), dtype=np.complex64).transpose(0, 3, 2, 1)
    with pytest.raises(ValueError, match="'r' must be a contiguous"):
        problem.precondition()


def test_conversions_between_fields_of_unlike_sizes_are_refused(single: Kernels) -> None:
    wide, narrow, factors = np.zeros(8, dtype=np.complex128), np.zeros(7, dtype=np.complex64), np.ones(2)
    with pytest.raises(ValueError, match="do not belong together"):
        single.narrow(wide, narrow, factors)
    with pytest.raises(ValueError, match="do not belong together"):
        single.widen(narrow, wide, factors, add=True)
    with pytest.raises(ValueError, match="do not belong together"):
        single.products(wide, wide[:-1])


def test_every_exported_name_is_the_plugins_own(single: Kernels) -> None:
    """Libraries share one table of names: a bare `scale` could be anybody's."""
    try:
        listed = subprocess.run(
            ["nm", "-D", "--defined-only", single.library._name], capture_output=True, check=True, text=True
        )
    except OSError:
        pytest.skip("no nm")
    names = [line.split()[-1] for line in listed.stdout.splitlines()]
    assert names
    assert all(name.startswith("voxelfe_") for name in names)
