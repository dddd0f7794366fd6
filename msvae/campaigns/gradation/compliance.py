"""The stiffest part of a given mass, by gradient ascent over latents, against a uniform part and one of two steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from msvae.campaigns.gradation.graded_part import Grading, save, values_of_structures
from msvae.errors import StudyError
from msvae.part.elastic import Solution
from msvae.part.problem import Problem
from msvae.part.settings import PartSettings
from msvae.part.voxels import resolve
from msvae.run.table import Table
from msvae.sampling.search.descent import head_means
from msvae.seeds import seed_of
from msvae.structures import Array, Structures

__all__ = ["stiffest_part"]

ASCENT = 10  # steps of ascent between two solutions of the part
TRIES, EQUAL = 3, 0.002  # parts that are made until their mean fractions of a phase differ by no more


def stiffest_part(grading: Grading) -> Table:
    """Grade for stiffness at a given mean fraction, and compare with a uniform part and with a step."""
    context, s = grading.context, grading.settings
    part_settings, fraction = context.study.find(PartSettings), s.fraction
    if part_settings is None or part_settings.physics != "elasticity" or "stiffness" not in context.study.model.heads:
        raise StudyError(
            f"{context.study.source.at(['gradation', 'goal'])}: compliance needs an elastic [part] and a head for the "
            "stiffness"
        )
    assert fraction is not None
    problem = Problem(
        dataclasses.replace(part_settings, lengths=grading.windows.part.lengths, quantities=("stiffness",))
    )
    start = grading.start(seed_of(context.study.seed, "gradation"))
    along = grading.positions[:, part_settings.axis]
    spread = 0.5 * float(values_of_structures(grading).std())
    designs: dict[str, Array] = {
        "uniform": np.full(len(along), fraction),
        "step": np.where(along < 0.5, fraction - spread, fraction + spread),
    }
    parts = {name: _of_equal_mass(grading, start, target, name, fraction) for name, target in designs.items()}
    parts["graded"] = _stiffest(grading, problem, parts["step"], fraction)
    save(grading, parts["graded"])
    found = {name: resolve(part, context.study.need_solver(), problem) for name, part in parts.items()}
    rows, reference = [], found["uniform"].quantities["stiffness"]
    for name, response in found.items():
        stiffness = response.quantities["stiffness"]
        rows.append(
            (name, f"{parts[name].fractions[0, s.phase]:.4f}", f"{stiffness:.5g}", f"{stiffness / reference:.3f}")
        )
    context.run.write_json("gradation.json", {"designs": [list(row) for row in rows]})
    columns = ("part", f"fraction of phase {s.phase}", "stiffness by DNS (N/m)", "over the uniform part's")
    return Table("Stiffest part of a given mass, every voxel resolved", columns, tuple(rows))


def _of_equal_mass(grading: Grading, start: Structures, target: Array, name: str, fraction: float) -> Structures:
    """Return a part whose windows have a target (w,), shifted until the whole has the mean fraction of the phase.

    Windows count voxels at the part's border less often than those inside.
    """
    part, shift, best = start, 0.0, (np.inf, start)
    for k in range(TRIES):
        part = grading.profile(part, target + shift, f"{name}-{k}")[0]
        miss = fraction - float(part.fractions[0, grading.settings.phase])
        best = min(best, (abs(miss), part), key=lambda found: found[0])
        if abs(miss) <= EQUAL:
            break
        shift += miss
    return best[1]


def _stiffest(grading: Grading, problem: Problem, start: Structures, fraction: float) -> Structures:
    """Return the stiffest part, by ascent of the energy at given displacement; its gradient follows from the strains.

    start: the part from which the ascent begins. The result is the first part with the mean fraction after the
    study's number of sweeps, or the nearest one of a few more.
    """
    elements = torch.as_tensor(_nearest(problem.centres, grading.windows.centres))
    s, asked, part, best = grading.settings, fraction, start, (np.inf, start)
    brief = dataclasses.replace(grading, settings=dataclasses.replace(s, steps=ASCENT))
    for sweep in range(s.corrections + TRIES):
        latents = grading.vae.encode(grading.windows.cut(part))
        for _ in range(max(s.steps // ASCENT, 1)):
            now = torch.as_tensor(latents).float()
            latents = brief.descend(latents, _energy_loss(grading, problem, elements, asked, now))
        part = grading.seamless(latents, f"stiffest-{sweep}")
        miss = fraction - float(part.fractions[0, s.phase])
        asked += miss
        if sweep >= s.corrections:
            best = min(best, (abs(miss), part), key=lambda found: found[0])
            if abs(miss) <= EQUAL:
                break
    return best[1]


def _energy_loss(
    grading: Grading, problem: Problem, elements: Tensor, fraction: float, latents: Tensor
) -> Callable[[Tensor], Tensor]:
    """Return a loss that decreases as the part gets stiffer than with these latents, at a mean fraction of a phase."""
    with torch.no_grad():
        now = head_means(grading.vae, latents)["stiffness"][elements].double().numpy()
    solution = problem.respond({"stiffness": now}).solution
    assert isinstance(solution, Solution)
    volumes = np.asarray(solution.part.basis.dx.sum(axis=-1))
    weights = np.einsum("ei,ej,e->eij", solution.strain, solution.strain, volumes) / solution.energy / 2
    gradient = torch.as_tensor(weights).float()
    inside = torch.as_tensor(grading.inner)

    def loss(z: Tensor) -> Tensor:
        gain = (head_means(grading.vae, z)["stiffness"].float()[elements] * gradient).sum()
        return -gain + 2e3 * (grading.fraction(z)[inside].mean() - fraction).square()

    return loss


def _nearest(points: Array, windows: Array) -> Array:
    from scipy.spatial import cKDTree

    return np.asarray(cKDTree(windows).query(points)[1])
