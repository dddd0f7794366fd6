"""Gradients of effective properties with respect to grey values, against finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import msvae
from msvae import DataError

SOLVERS: dict[str, dict[str, Any]] = {
    "conductivity": {"phases": [{"conductivity": 1.0}, {"conductivity": 8.0}], "tolerance": 1e-7},
    "through-conductivity": {"phases": [{"conductivity": 1.0}, {"conductivity": 8.0}], "tolerance": 1e-7},
    "elasticity": {
        "phases": [{"youngs_modulus": 1.0, "poissons_ratio": 0.2}, {"youngs_modulus": 6.0, "poissons_ratio": 0.35}],
        "tolerance": 1e-7,
    },
}


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("shape", [(5, 6), (4, 3, 5)])
def test_the_adjoint_gradient_is_that_of_finite_differences(name: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    solver = msvae.load_solver(name, **SOLVERS[name])
    spacing = rng.uniform(0.5, 1.5, len(shape)).tolist()
    grey = torch.tensor(rng.integers(13, 52, (2, *shape)) / 64, dtype=torch.float64, requires_grad=True)
    weights: torch.Tensor | None = None

    def objective(values: torch.Tensor) -> torch.Tensor:
        nonlocal weights
        found = msvae.differentiable(solver, values, spacing)
        tensor = torch.cat([part.flatten() for part in found.values()])
        if weights is None:
            weights = torch.tensor(rng.standard_normal(tuple(tensor.shape)))
        return (weights * tensor).sum()

    objective(grey).backward()
    assert grey.grad is not None
    for place in [(0, *(0,) * len(shape)), (1, *(2,) * len(shape)), (1, *(n - 1 for n in shape))]:
        step = torch.zeros_like(grey)
        step[place] = 1 / 32  # a power of two: structures keep single precision
        difference = 0.0
        for factor, weight in ((1, 8), (2, -1)):  # fourth order
            difference += weight * float(
                objective(grey.detach() + factor * step) - objective(grey.detach() - factor * step)
            )
        assert float(grey.grad[place]) == pytest.approx(difference / (12 / 32), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", ["elasticity", "through-conductivity"])
def test_without_a_compiler_the_gradient_is_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from msvae_voxelfe.linear import homogenization

    solver = msvae.load_solver(name, **SOLVERS[name])
    structures = msvae.Structures.from_values(np.random.default_rng(1).random((1, 5, 4)))
    cotangents = {q.name: np.ones((1, *q.shape)) for q in solver.quantities(structures.specification)}
    compiled = solver.pullback(structures, cotangents)
    monkeypatch.setattr(homogenization, "kernels", lambda precision: None)
    np.testing.assert_allclose(solver.pullback(structures, cotangents), compiled, rtol=1e-4)


def test_a_solver_without_a_gradient_says_so() -> None:
    solver = msvae.load_solver("hyperelasticity", phases=[{"youngs_modulus": 1.0}, {"youngs_modulus": 2.0}],
                               displacements=[0.1])  # fmt: skip
    grey = torch.full((1, 3, 3), 0.5, requires_grad=True)
    energy = msvae.differentiable(solver, grey, periodic=False)["energy"]
    with pytest.raises(DataError, match="has no gradient"):
        energy.sum().backward()
    with pytest.raises(DataError, match="no properties"):
        msvae.differentiable(solver, grey.detach() - 5.0)


def test_a_design_descends_through_the_solver() -> None:
    solver = msvae.load_solver("conductivity", **SOLVERS["conductivity"])
    grey = torch.full((1, 6, 6), 0.5, dtype=torch.float64)
    grey += 0.01 * torch.tensor(np.random.default_rng(0).standard_normal((1, 6, 6)))
    grey.requires_grad_()
    optimiser = torch.optim.Adam([grey], lr=0.02)
    for _ in range(150):
        k = msvae.differentiable(solver, grey)["conductivity"][0]
        loss = (k[0, 0] - 4.8) ** 2 + (k[1, 1] - 3.8) ** 2
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            grey.clamp_(0, 1)
    assert loss.item() < 0.01
