"""Interpretation of a design: sensitivities of its properties to latents and to voxels, by the solver."""

from __future__ import annotations

from typing import Any

import numpy as np

from msvae.campaigns.design.judge import Judge
from msvae.stages.context import Context
from msvae.structures import Array, Structures
from msvae.vae.blueprint import component_values

__all__ = ["interpret"]

FILE, PICTURE = "interpretation.json", "attribution.h5"
STEPS = (-2.0, -1.0, 0.0, 1.0, 2.0)  # of a traversal, in standard deviations of the latent
AXES = 2  # that are traversed


def interpret(context: Context, judge: Judge, latents: Array, encoded: Array) -> tuple[str, ...]:
    """Return in words what determines the properties of the design (1, d); the numbers are in interpretation.json.

    Sensitivities are central differences of the solver's properties, with a step of one standard deviation of the
    encoded latents (n, d) along every axis. The axes with the largest sensitivity of a property are traversed further.
    """
    numbers = judge.design.components[:2]
    width = encoded.std(axis=0)
    sides = np.concatenate([latents + side * np.diag(width) for side in (-1, 1)])
    near = context.solve("sensitivities", judge.vae.decode(sides), quiet=True)
    moved = np.stack([component_values(near.properties, c) for c in numbers], axis=1).reshape(2, -1, len(numbers))
    slopes = (moved[1] - moved[0]) / 2  # of a standard deviation
    size = np.nanmax(np.abs(slopes) / np.maximum(np.nanmax(np.abs(slopes), axis=0), 1e-300), axis=1)
    axes = np.argsort(-np.nan_to_num(size), kind="stable")[:AXES]
    steps = np.array(STEPS)[None, :, None] * (np.eye(len(width)) * width)[axes][:, None]
    decoded = judge.vae.decode((latents[None] + steps).reshape(-1, latents.shape[1]))
    table = context.solve("traversal", decoded, quiet=True)
    along = [component_values(table.properties, c).reshape(len(axes), -1) for c in numbers]
    context.run.write_json(FILE, {
        "numbers": [str(c) for c in numbers], "axes": axes.tolist(), "steps": STEPS,
        "sensitivities": _plain(slopes), "traversal": _plain(np.stack(along))})  # fmt: skip
    notes = [
        f"{c}: latent {k} moves it most, by {slopes[k, j]:+.3g} for a standard deviation"
        for j, c in enumerate(numbers)
        for k in [int(np.nanargmax(np.abs(slopes[:, j])))]
        if np.isfinite(slopes[:, j]).any()
    ]
    return (*notes, *_attributed(context, judge, latents))


def _attributed(context: Context, judge: Judge, latents: Array) -> tuple[str, ...]:
    """Store every voxel's contribution to the first number, where the solver has a gradient; describe the largest."""
    solver, structure = context.study.need_solver(), judge.vae.decode(latents)
    grid = structure.specification.grid
    if "field" not in solver.kinds or structure.specification.channels != 1:
        return ()
    if structure.specification.is_discrete and len(structure.specification.constituents) != 2:
        return ()
    number = judge.design.components[0]
    grey = Structures.from_values(structure.values[:, 0].astype(np.float64), grid.spacing, periodic=grid.periodic)
    properties = solver.evaluate(grey)
    cotangent: Any = {name: np.zeros_like(array) for name, array in properties.items()}
    cotangent[number.property][(0, *number.component)] = 1.0
    gradient = solver.pullback(grey, cotangent)
    if gradient is None:
        return ()
    context.run.save_structures(Structures.from_values(gradient[:, 0], grid.spacing, periodic=grid.periodic), PICTURE)
    shares = np.sort(np.abs(gradient).ravel())[::-1]
    most = int(np.searchsorted(np.cumsum(shares), 0.5 * shares.sum())) + 1
    return (f"{number}: half of its sensitivity is in {100 * most / shares.size:.1f} % of the voxels",)


def _plain(array: Array) -> Any:
    """Return nested lists with None for what is not known."""
    return [_plain(part) if part.ndim else (float(part) if np.isfinite(part) else None) for part in array]
