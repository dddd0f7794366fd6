"""Comparison with DNS: a bar of homogenised structures against the simulation of every voxel, and a homogeneous bar.

Direct numerical simulation (DNS) is the study's own solver on the bar between its mirror images, which is the bar with
two faces held and moved; free sides are a layer of empty voxels around it, fixed or insulated ones mirror images too.
The multiscale model cuts the same bar to structures and gives each part element the properties of its own: those that
the solver finds, or (for the size that the VAE knows) those that the head reads from its latents, or that the solver
finds for what they decode to.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from msvae.campaigns.context import Context, Table
from msvae.campaigns.part_field import cut, image_of
from msvae.campaigns.train import trained, training_structures
from msvae.dispatch.tasks import Task
from msvae.errors import StudyError, TargetError
from msvae.evaluations import Evaluations
from msvae.part.problem import Problem
from msvae.part_settings import DnsSettings, PartSettings
from msvae.structures import Array, Grid, Structures

__all__ = ["bar_of", "run", "surrounded"]

LAYER = 2  # empty voxels on each free side
FILE = "dns.json"


@dataclass(frozen=True, eq=False)
class Row:
    """A model's answer. cells: local quantity (e,) of the bar's structures, over its mean."""

    name: str
    size: int
    quantity: float
    cells: Array
    scatter: float
    cost: float


def run(context: Context) -> Table:
    """Return the table of global and local errors, scatter and cost over the sizes of structures."""
    part, settings = context.study.part, context.study.dns
    assert part is not None
    assert settings is not None
    bar = bar_of(context, settings)
    sizes = _sizes(context, settings, bar)
    voxel = _dns(context, part, bar, sizes)
    rows = []
    for size in sizes:
        rows += _multiscale(context, part, bar, size)
    context.run.write_json(FILE, {"dns": voxel, "rows": [_plain(row, voxel) for row in rows]})
    unit = part.units[_headline(part)]
    truth = float(voxel["quantity"])
    cells = [("DNS", "", f"{truth:.6g}", "", "", "", f"{voxel['cost']:.3g}")]
    for row in rows:
        error, local = 100 * (row.quantity / truth - 1), _rms(row.cells, voxel["cells"][str(row.size)])
        cells.append((row.name, str(row.size), f"{row.quantity:.6g}", f"{error:+.2f} %", f"{100 * local:.1f} %",
                      f"{100 * row.scatter:.1f} %", f"{row.cost:.3g}"))  # fmt: skip
    columns = ("model", "voxels", f"{_headline(part)} ({unit})", "error", "local rms error", "scatter", "cost (s)")
    shape = " x ".join(map(str, bar.specification.grid.shape))
    notes = (
        "local: the axial stress or flux of every structure over its mean; scatter: of their axial property, relative",
    )
    return Table(f"A bar of {shape} voxels against its direct numerical simulation", columns, tuple(cells), notes)


def bar_of(context: Context, settings: DnsSettings) -> Structures:
    """Return the bar that the study cuts from the data set's image."""
    image = image_of(context)
    whole = image.specification.grid
    origin = settings.origin or (0,) * whole.dimensions
    ends = [o + n for o, n in zip(origin, settings.shape, strict=False)]
    if not len(origin) == len(settings.shape) == whole.dimensions or any(
        e > n for e, n in zip(ends, whole.shape, strict=True)
    ):
        raise StudyError(
            f"{context.study.source.at(['dns', 'shape'])}: {settings.shape} voxels from {origin} do not fit the image, "
            f"which has {whole.shape}"
        )
    place = tuple(slice(o, e) for o, e in zip(origin, ends, strict=True))
    grid = Grid.of(settings.shape, whole.spacing, periodic=False)
    return Structures(image.values[(slice(None), slice(None), *place)], _on(image, grid))


def _on(structures: Structures, grid: Grid) -> Any:
    return dataclasses.replace(structures.specification, grid=grid)


def surrounded(bar: Structures, part: PartSettings, void: int | None) -> tuple[Structures, tuple[slice, ...], float]:
    """Return the periodic structure that stands for a bar between two faces, where the bar is in it, and its share.

    void: the empty phase that free sides are made of. share: of the cross-section that is the bar's.
    """
    values, d = bar.values[0, 0], bar.specification.grid.dimensions
    free = part.physics != "conduction" and part.sides == "free"
    inside = tuple(slice(LAYER, LAYER + n) if free and a != part.axis else slice(0, n)
                   for a, n in enumerate(values.shape))  # fmt: skip
    if free:
        if void is None:
            raise StudyError("dns.void: a bar with free sides needs the number of the empty phase")
        across = [(0, 0) if a == part.axis else (LAYER, LAYER) for a in range(d)]
        values = np.pad(values, across, constant_values=void)
    share = float(np.prod([n for a, n in enumerate(bar.specification.grid.shape) if a != part.axis])) / float(
        np.prod([n for a, n in enumerate(values.shape) if a != part.axis])
    )
    for axis in range(d):
        if axis == part.axis or not free:
            values = np.concatenate([values, np.flip(values, axis)], axis=axis)
    grid = Grid.of(values.shape, bar.specification.grid.spacing)
    return Structures(values[None, None], _on(bar, grid)), inside, share


def _sizes(context: Context, settings: DnsSettings, bar: Structures) -> list[int]:
    """Return the sizes of the structures, smallest first, the model's own among them."""
    shape = bar.specification.grid.shape
    sizes = sorted({*settings.sizes, *([_own_size(context)] if context.study.model.heads else [])})
    for size in sizes:
        if any(n % size for n in shape):
            raise StudyError(
                f"{context.study.source.at(['dns', 'sizes'])}: a bar of {shape} voxels holds no whole number of "
                f"structures of {size}"
            )
    return sizes


def _own_size(context: Context) -> int:
    shape = training_structures(context).specification.grid.shape
    if len(set(shape)) > 1:
        raise StudyError(
            f"{context.study.source.at(['dns'])}: structures are cubes here, those of the data set {shape}"
        )
    return shape[0]


def _dns(context: Context, part: PartSettings, bar: Structures, sizes: list[int]) -> dict[str, Any]:
    """Return quantity, cost, and local fields of the simulation of every voxel, made once and kept in the run."""
    known = context.run.read_json("dns-voxels.json")
    if known is not None:
        return dict(known)
    assert context.study.dns is not None
    structure, inside, share = surrounded(bar, part, context.study.dns.void)
    table = _solved(context, structure, "dns")
    solver, axis = context.study.need_solver(), part.axis
    start = time.perf_counter()
    fields = solver.fields(structure)
    name = {"conduction": f"flux {axis}", "elasticity": f"stress {axis}", "plasticity": "stress"}[part.physics]
    local = np.asarray(fields[name])[inside][..., axis]
    cells = {}
    for size in sizes:
        mean = local
        for a in range(local.ndim):
            mean = np.add.reduceat(mean, np.arange(0, mean.shape[a], size), axis=a) / size
        cells[str(size)] = (mean / mean.mean()).ravel().tolist()
    found = {
        "quantity": _bar_quantity(part, bar, table, share),
        "cost": float(table["cost"][0]),
        "fields cost": time.perf_counter() - start,
        "cells": cells,
    }
    context.run.write_json("dns-voxels.json", found)
    return found


def _bar_quantity(part: PartSettings, bar: Structures, table: Evaluations, share: float) -> float:
    """Return conductance, stiffness, or the largest load of the bar from the effective property around it."""
    lengths = bar.specification.grid.lengths
    area = float(np.prod([n for a, n in enumerate(lengths) if a != part.axis]))
    found = table.properties[part.property][0]
    if part.physics == "plasticity":
        return float(found[:, part.axis].max()) * area / share
    return float(found[part.axis, part.axis]) * area / lengths[part.axis] / share


def _headline(part: PartSettings) -> str:
    return {"conduction": "conductance", "elasticity": "stiffness", "plasticity": "peak-load"}[part.physics]


def _solved(context: Context, structures: Structures, stage: str) -> Evaluations:
    """Return the solver's evaluations of structures that are kept in the run beside them."""
    file = f"{stage}.h5"
    if not (context.run.path / file).exists():
        context.run.save_structures(structures, file)
    table = context.evaluate(stage, [Task(k) for k in range(len(structures))], title=stage, structures=file)
    if not table.done.all():
        raise TargetError(f"{(~table.done).sum()} of the structures of '{stage}' have no property: "
                          f"{table['message'][~table.done][0]}")  # fmt: skip
    return table.latest()


def _multiscale(context: Context, part: PartSettings, bar: Structures, size: int) -> list[Row]:
    """Return what the bar of structures of one size does, by every way to their properties; and a homogeneous bar."""
    d = bar.specification.grid.dimensions
    pieces, _ = cut(bar, (size,) * d)
    table = _solved(context, pieces, f"structures-{size}")
    cost = float(table["cost"].sum())
    names = ("stress", "strain") if part.physics == "plasticity" else (part.property,)
    true = {name: table.properties[name] for name in names}
    rows = [_row(context, bar, size, true, "structures, by the solver", cost)]
    mean = {name: np.broadcast_to(a.mean(axis=0), a.shape) for name, a in true.items()}
    if context.study.model.heads and size == _own_size(context):
        vae = trained(context, training_structures(context))
        start = time.perf_counter()
        latents = vae.encode(Structures(pieces.values, vae.blueprint.specification))
        if set(names) <= set(context.study.model.heads):
            predicted = vae.predict(latents)
            spent = time.perf_counter() - start
            rows.append(_row(context, bar, size, predicted, "encoded, by the head", spent))
        decoded = _solved(context, vae.decode(latents), f"decoded-{size}")
        again = {name: decoded.properties[name] for name in names}
        rows.append(_row(context, bar, size, again, "encoded and decoded, by the solver", float(decoded["cost"].sum())))
    rows.append(_row(context, bar, size, mean, "homogeneous", cost))
    return rows


def _row(context: Context, bar: Structures, size: int, properties: Mapping[str, Array], name: str, cost: float) -> Row:
    """Return what the bar does with these properties of its structures."""
    part, settings = context.study.part, context.study.dns
    assert part is not None
    assert settings is not None
    grid = bar.specification.grid
    counts = tuple(n // size for n in grid.shape)
    own = dataclasses.replace(part, shape="bar", lengths=grid.lengths, quantities=(_headline(part),),
                              cells=tuple(n * settings.refine for n in counts))  # fmt: skip
    problem, start = Problem(own), time.perf_counter()
    place = np.floor(problem.centres / (size * np.array(grid.spacing))).astype(int)
    number = np.ravel_multi_index(tuple(place.T), counts)
    response = problem.respond({key: a[number] for key, a in properties.items()})
    spent = cost + time.perf_counter() - start
    local = response.axial(part.axis)
    cells = np.bincount(number, local) / np.bincount(number)
    scatter = _axial(part, properties)
    return Row(name, size, response.quantities[_headline(part)], cells / cells.mean(),
               float(scatter.std() / scatter.mean()), spent)  # fmt: skip


def _axial(part: PartSettings, properties: Mapping[str, Array]) -> Array:
    found = properties[part.property]
    return found[:, -1, part.axis] if part.physics == "plasticity" else found[:, part.axis, part.axis]


def _rms(cells: Array, truth: list[float]) -> float:
    return float(np.sqrt(np.mean((cells - np.array(truth)) ** 2)))


def _plain(row: Row, voxel: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **dataclasses.asdict(row),
        "cells": row.cells.tolist(),
        "local": _rms(row.cells, voxel["cells"][str(row.size)]),
    }
