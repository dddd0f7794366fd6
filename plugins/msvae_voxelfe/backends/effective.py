"""The effective tensor of one structure: the double-precision energy of its fluctuations.

Its error is quadratic in theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from msvae import Array
from msvae_voxelfe.backends.fluctuation import Operator, parts
from msvae_voxelfe.elements.discretisation import estimate
from msvae_voxelfe.elements.trilinear import LinearElement
from msvae_voxelfe.kernels.threads import each


@dataclass(frozen=True, eq=False)
class Tensor:
    """An effective tensor (L, L), and iterations, negative if not converged.

    error: estimated iteration error. refinement: estimated decrease on finer voxels.
    """

    value: Array
    error: Array
    refinement: Array
    iterations: int


def pairs(macros: Array) -> list[Array]:
    """Return the load cases (L, components, 3) in pairs, as complex arrays; an odd last one is paired with none."""
    whole = np.concatenate([macros, np.zeros_like(macros[: len(macros) % 2])])
    return list(whole[0::2] + 1j * whole[1::2])


def effective_tensor(
    operator: Operator, macros: Array, tolerance: float, limit: int, *, refinement: Callable[[list[Array]], Array],
    threads: int = 1,
) -> Tensor:  # fmt: skip
    """Return the effective tensor of one structure; threads share its load cases.

    refinement: from the fluctuations of pairs of load cases, complex, to the estimate of the discretisation's error.
    Its error is a product of the fluctuations' errors in the norm of the energy; the residuals' norms stand for them
    where the material is as stiff as its mean.
    """
    loads, cases = pairs(macros), len(macros)
    solved = each(lambda k: operator.fluctuation(loads[k], tolerance, limit), len(loads), threads)
    volume = float(np.prod(operator.grid) * np.prod(operator.spacing))
    places = [(i, j) for i in range(len(loads)) for j in range(i, len(loads))]
    many = max(threads, operator.plan.threads)
    found = each(lambda k: operator.double.products(solved[places[k][0]].u, solved[places[k][1]].force),
                 len(places), many)  # fmt: skip
    tensor = np.zeros((2 * len(loads), 2 * len(loads)))
    for (i, j), work in zip(places, found, strict=True):  # the energy is symmetric in the load cases
        block = work + parts(loads[i]).T @ parts(solved[j].stress)
        tensor[2 * j : 2 * j + 2, 2 * i : 2 * i + 2] = block.T
        tensor[2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = block
    finer = refinement([f.u for f in solved])
    operator.spare.fields.extend((f.u, f.force) for f in solved)
    tensor = tensor[:cases, :cases]
    residuals = np.concatenate([f.residuals for f in solved])[:cases]
    count = max(f.iterations for f in solved)
    return Tensor(0.5 * (tensor + tensor.T) / volume, np.outer(residuals, residuals) / volume, finer,
                  count if all(f.converged for f in solved) else -count - 1)  # fmt: skip


def estimated_refinement(
    material: Array, element: LinearElement, cases: int, pairs_of_u: list[Array], held: int | None = None
) -> Array:
    """Return the estimated decrease on finer voxels, from the kernels' fluctuations of pairs of load cases."""

    def at(planes: Array) -> Array:
        near = [u[:, planes] if material.ndim == 4 else u[-element.components :, 0, planes] for u in pairs_of_u]
        return np.stack([part for u in near for part in (u.real, u.imag)][:cases])

    return estimate(material, element, at, held=held)
