"""Methods that know no manifold: Tikhonov's regularisation of the gradient, and total variation."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from msvae import Array
from msvae_inversion.invert import Control
from msvae_inversion.manifold.descent import Objective

__all__ = ["regularised"]

STEPS = 60
SMOOTH = 0.02  # of total variation: gradients below this share of the scatter of pixels are penalised as squares


def regularised(
    control: Control, weight: float, objective: Objective, start: Array, *, scatter: float, grid: tuple[int, ...]
) -> Array:
    """Return the image (p,) that minimises objective + weight * penalty / p by L-BFGS, from the mean image.

    scatter: the unit of image values. penalty: of Tikhonov, the sum of the squared differences of neighbours over
    scatter^2; of total variation, the sum of the norms of these differences over scatter.
    """
    from scipy.optimize import minimize

    def both(values: Array) -> tuple[float, Array]:
        x = torch.as_tensor(values).requires_grad_()
        value = objective(x) + weight * _penalty(control, x.reshape(grid) / scatter) / x.numel()
        (slope,) = torch.autograd.grad(value, x)
        return float(value.detach()), slope.numpy()

    found = minimize(both, start.astype(np.float64), jac=True, method="L-BFGS-B", options={"maxiter": STEPS})
    return np.asarray(found.x)


def _penalty(control: Control, image: Tensor) -> Tensor:
    squares = sum(
        torch.nn.functional.pad(torch.diff(image, dim=axis) ** 2, _one_more(image.ndim, axis))
        for axis in range(image.ndim)
    )
    assert isinstance(squares, Tensor)
    return squares.sum() / 2 if control == "tikhonov" else ((squares + SMOOTH**2).sqrt() - SMOOTH).sum()


def _one_more(dimensions: int, axis: int) -> list[int]:
    """Return the padding by one value at the end of an axis, in torch's order."""
    padding = [0] * (2 * dimensions)
    padding[2 * (dimensions - 1 - axis) + 1] = 1
    return padding
