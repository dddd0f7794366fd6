"""A solver as a differentiable torch function, for gradient descent through decoder and solver.

>>> import torch, msvae
>>> solver = msvae.load_solver("conductivity", phases=[{"conductivity": 1.0}, {"conductivity": 3.0}])
>>> grey = torch.full((1, 4, 4), 0.5, dtype=torch.float64, requires_grad=True)
>>> k = msvae.differentiable(solver, grey, spacing=1e-6)["conductivity"]
>>> k[0, 0, 0].backward()
>>> round(float(grey.grad.sum()), 6)  # of a homogeneous structure: k1 - k0
2.0
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from msvae.errors import DataError
from msvae.plugins.interfaces import Solver
from msvae.structures import Structures

__all__ = ["differentiable"]


def differentiable(
    solver: Solver, grey: Tensor, spacing: float | Sequence[float] = 1.0, *, periodic: bool = True
) -> dict[str, Tensor]:
    """Return the properties (n, *shape) of grey values (n, *grid) as differentiable tensors.

    Raises DataError if the solver has no gradient, or fails for one of the structures.
    """
    structures = Structures.from_values(grey.detach().cpu().numpy(), spacing, periodic=periodic)
    names = [q.name for q in solver.quantities(structures.specification)]
    found = _Evaluated.apply(grey, solver, structures, names)  # type: ignore[no-untyped-call]
    return dict(zip(names, found, strict=True))


class _Evaluated(torch.autograd.Function):
    """Forward: the solver's evaluation. Backward: the solver's pullback."""

    @staticmethod
    def forward(
        context: Any, grey: Tensor, solver: Solver, structures: Structures, names: list[str]
    ) -> tuple[Tensor, ...]:
        properties = solver.evaluate(structures)
        failures = getattr(properties, "failures", {})
        if failures:
            raise DataError(f"structure {min(failures)} has no properties: {failures[min(failures)]}")
        context.solver, context.structures, context.names = solver, structures, names
        context.like = (grey.dtype, grey.device)
        return tuple(
            torch.as_tensor(np.asarray(properties[name]), dtype=grey.dtype, device=grey.device) for name in names
        )

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        cotangents = {n: g.detach().double().cpu().numpy() for n, g in zip(context.names, gradients, strict=True)}
        gradient = context.solver.pullback(context.structures, cotangents)
        if gradient is None:
            raise DataError(
                f"solver '{context.solver.name}' has no gradient: use one that has (conductivity, elasticity)"
            )
        dtype, device = context.like
        return torch.as_tensor(gradient[:, 0], dtype=dtype, device=device), None, None, None
