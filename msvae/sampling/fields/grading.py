"""Grading: latents of a part's windows for a target, by gradient descent through a predictor, kept near the data.

The loss is the mean squared misfit of the windows' values, in units of their natural scatter, plus the squared
difference between neighbours of the changes to the starting latents (which preserves their fluctuation), plus the
excess of the latents over the Mahalanobis distance within which 99 % of the encoded data lie (compare Wang et al. 2020,
arXiv:2006.15274, and Tripp et al. 2020, arXiv:2006.09191, for what happens without it).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import spatial, special
from torch import Tensor

from msvae.structures import Array

__all__ = ["Manifold", "graded", "neighbours", "position_formula"]

RATE = 0.05
WORDS = {name: getattr(np, name) for name in ("sin", "cos", "exp", "sqrt", "abs", "minimum", "maximum", "where", "pi")}


@dataclass(frozen=True, eq=False)
class Manifold:
    """The region of encoded data. centre: (d,). root: (d, d), so that root @ (z - centre) has unit covariance."""

    centre: Tensor
    root: Tensor

    @classmethod
    def of(cls, latents: Array) -> Manifold:
        """Return the region of encoded latents (n, d)."""
        z = np.asarray(latents, dtype=np.float64)
        covariance = np.cov(z.T).reshape(z.shape[1], -1) + 1e-6 * np.eye(z.shape[1])
        root = np.linalg.inv(np.linalg.cholesky(covariance))
        return cls(torch.as_tensor(z.mean(axis=0)).float(), torch.as_tensor(root).float())

    def excess(self, latents: Tensor) -> Tensor:
        """Return the relative excess (n,) of the squared distances of latents (n, d) over those of 99 % of the data."""
        squared = ((latents - self.centre) @ self.root.T).square().sum(dim=1)
        limit = float(special.chdtri(len(self.centre), 0.01))
        return (squared / limit - 1).clamp_min(0)


def neighbours(points: Array) -> Array:
    """Return pairs (m, 2) of points (n, d) that are nearest neighbours on their grid."""
    if len(points) < 2:
        return np.zeros((0, 2), dtype=int)
    tree = spatial.cKDTree(points)
    least = float(tree.query(points, k=2)[0][:, 1].max())
    return np.asarray(tree.query_pairs(1.01 * least, output_type="ndarray"))


def graded(
    starts: Array,
    loss: Callable[[Tensor], Tensor],
    manifold: Manifold,
    pairs: Array,
    *,
    smoothness: float,
    typicality: float,
    steps: int,
) -> Array:
    """Return latents (n, d) after gradient descent of the loss from starts (n, d).

    loss: maps latents (n, d) to a number. pairs: (m, 2) of adjacent windows.
    """
    home = torch.as_tensor(np.asarray(starts), dtype=torch.float32)
    change = torch.zeros_like(home).requires_grad_()
    optimiser = torch.optim.Adam([change], lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, eta_min=RATE / 50)
    first, second = torch.as_tensor(pairs[:, 0]).long(), torch.as_tensor(pairs[:, 1]).long()
    for _ in range(steps):
        latents = home + change
        total = loss(latents) + typicality * manifold.excess(latents).mean()
        if len(pairs):
            total = total + smoothness * (change[first] - change[second]).square().mean()
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        schedule.step()
    return (home + change).detach().double().numpy()


def position_formula(text: str, positions: Array) -> Array:
    """Return the values (n,) of a formula of x, y and z at positions (n, d) from 0 to 1.

    Only numbers, the position, arithmetic, comparisons and the functions sin, cos, exp, sqrt, abs, minimum, maximum and
    where are understood; ValueError for anything else.

    >>> position_formula("0.1 + 0.2 * x", np.array([[0.0, 0.3], [1.0, 0.3]]))
    array([0.1, 0.3])
    """
    import ast

    allowed = (
        ast.Expression, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Call, ast.Name, ast.Constant, ast.Load, ast.operator,
        ast.unaryop, ast.cmpop,
    )  # fmt: skip
    names = {**WORDS, **dict(zip("xyz", np.asarray(positions, dtype=np.float64).T, strict=False))}
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"'{text}' is not a formula") from None
    for node in ast.walk(tree):
        number = isinstance(node, ast.Constant) and not isinstance(node.value, (int, float))
        if not isinstance(node, allowed) or number or (isinstance(node, ast.Name) and node.id not in names):
            what = node.id if isinstance(node, ast.Name) else type(node).__name__
            raise ValueError(f"'{text}' has '{what}', expected a formula of {', '.join(sorted(names))}")
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow) and not isinstance(node.right, ast.Constant):
            raise ValueError(f"'{text}' has a power whose exponent is no number")
        if isinstance(node, ast.Constant):
            node.value = float(node.value)  # type: ignore[arg-type]
    try:
        with np.errstate(all="ignore"):  # the tree's nodes were checked
            found = eval(compile(tree, "formula", "eval"), {"__builtins__": {}}, names)
    except (ArithmeticError, TypeError, ValueError) as error:
        raise ValueError(f"'{text}' is not a formula that has a value: {error}") from None
    values = np.broadcast_to(np.asarray(found, dtype=np.float64), (len(positions),)).copy()
    if not np.isfinite(values).all():
        raise ValueError(f"'{text}' is not a finite number everywhere on the part")
    return values
