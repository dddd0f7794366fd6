"""Comparison with DNS: a bar of homogenised structures against the simulation of every voxel, and a homogeneous bar.

The direct numerical simulation (DNS) applies the study's solver to the bar between its mirror images, which is
equivalent to holding one face and moving the other. Free sides are a layer of empty voxels around the bar; fixed or
insulated sides are mirror images too. The multiscale model cuts the same bar into structures and gives each part
element the properties of its structure: as computed by the solver or, for the structure size of the VAE, as predicted
by the head from the latents or computed by the solver for the decoded latents.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from msvae.campaigns.compare_dns.campaign import CompareDns
from msvae.campaigns.compare_dns.field_statistics import compare_field
from msvae.errors import StudyError, TargetError
from msvae.part.problem import Problem
from msvae.part.settings import PartSettings
from msvae.run.table import Table
from msvae.sampling.fields.settings import FieldSettings
from msvae.stages.context import Context
from msvae.stages.latent_field import cut, image_of
from msvae.stages.training import trained, training_structures
from msvae.structures import Array, Grid, Structures
from msvae.structures.evaluations import Evaluations

__all__ = ["bar_of", "run", "surrounded"]

LAYER = 2  # empty voxels on each free side
FILE = "dns.json"


@dataclass(frozen=True, eq=False)
class Row:
    """Result of one model at one structure size. scatter: of the structures' axial property, relative to its mean.

    error: of the global response. local: rms error of the structures' work over the mean. cost: s.
    """

    name: str
    size: int
    quantity: float
    error: float
    local: float
    cells: Array
    scatter: float
    cost: float

    @property
    def text(self) -> tuple[str, ...]:
        """The row of the table."""
        errors = f"{100 * self.error:+.2f} %", f"{100 * self.local:.1f} %"
        return (self.name, str(self.size), f"{self.quantity:.6g}", *errors, f"{100 * self.scatter:.1f} %",
                f"{self.cost:.3g}")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Comparison:
    """A bar of voxels, and the result of its DNS: quantity, cost, the structures' work by size."""

    part: PartSettings
    refine: int
    bar: Structures
    voxels: Mapping[str, Any]

    def row(self, size: int, properties: Mapping[str, Array], name: str, cost: float) -> Row:
        """Return the row of the bar whose structures of one size have these properties, computed at this cost."""
        part, grid = self.part, self.bar.specification.grid
        counts = tuple(n // size for n in grid.shape)
        own = dataclasses.replace(part, shape="bar", lengths=grid.lengths, quantities=(_headline(part),),
                                  cells=tuple(n * self.refine for n in counts))  # fmt: skip
        problem, start = Problem(own), time.perf_counter()
        place = np.floor(problem.centres / (size * np.array(grid.spacing))).astype(int)
        number = np.ravel_multi_index(tuple(place.T), counts)
        response = problem.respond({key: a[number] for key, a in properties.items()})
        spent = cost + time.perf_counter() - start
        cells = np.bincount(number, response.work) / np.bincount(number)
        cells = cells / cells.mean()
        local = float(np.sqrt(np.mean((cells - np.array(self.voxels["cells"][str(size)])) ** 2)))
        quantity, scatter = response.quantities[_headline(part)], _axial(part, properties)
        error = quantity / float(self.voxels["quantity"]) - 1
        return Row(name, size, quantity, error, local, cells, float(scatter.std() / scatter.mean()), spent)


def run(context: Context) -> Table:
    """Return the table of global and local errors, scatter and cost over the sizes of structures."""
    part, settings = context.study.need(PartSettings), context.study.need(CompareDns)
    bar = bar_of(context, settings)
    known = training_structures(context) if context.study.model.heads else None
    sizes = _sizes(context, settings, bar, known)
    comparison = Comparison(part, settings.refine, bar, _dns(context, part, bar, sizes))
    rows = [row for size in sizes for row in _multiscale(context, comparison, size, known)]
    voxels = comparison.voxels
    plain = [{**dataclasses.asdict(row), "cells": row.cells.tolist()} for row in rows]
    context.run.write_json(FILE, {"dns": voxels, "rows": plain})
    truth = ("DNS", "", f"{voxels['quantity']:.6g}", "", "", "", f"{voxels['cost']:.3g}")
    unit = part.units[_headline(part)]
    columns = ("model", "voxels", f"{_headline(part)} ({unit})", "error", "local rms error", "scatter", "cost (s)")
    shape = " x ".join(map(str, bar.specification.grid.shape))
    title = f"A bar of {shape} voxels against its direct numerical simulation"
    notes: tuple[str, ...] = (
        "local: stress times strain, or flux times gradient, of every structure over the mean; scatter: of their axial "
        "property, relative",
    )
    field = context.study.find(FieldSettings)
    if field is not None and field.against:
        notes += compare_field(context, trained(context, known or context.run.structures))
    return Table(title, columns, (truth, *(row.text for row in rows)), notes)


def bar_of(context: Context, settings: CompareDns) -> Structures:
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
    """Return the periodic structure that represents a bar between two faces, the bar's place in it, and its share.

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


def _sizes(context: Context, settings: CompareDns, bar: Structures, known: Structures | None) -> list[int]:
    """Return the sizes of the structures, smallest first; of a model's known ones, theirs among them."""
    shape, own = bar.specification.grid.shape, None if known is None else known.specification.grid.shape
    if own is not None and len(set(own)) > 1:
        raise StudyError(f"{context.study.source.at(['dns'])}: structures are cubes here, those of the data set {own}")
    sizes = sorted({*settings.sizes, *(own or ())})
    for size in sizes:
        if any(n % size for n in shape):
            raise StudyError(
                f"{context.study.source.at(['dns', 'sizes'])}: a bar of {shape} voxels holds no whole number of "
                f"structures of {size}"
            )
    return sizes


def _dns(context: Context, part: PartSettings, bar: Structures, sizes: list[int]) -> dict[str, Any]:
    """Return quantity, cost and the structures' work of the DNS, which is computed once and stored."""
    known = context.run.read_json("dns-voxels.json")
    if known is not None:
        return dict(known)
    structure, inside, share = surrounded(bar, part, context.study.need(CompareDns).void)
    table = _solved(context, structure, "dns")
    solver, axis = context.study.need_solver(), part.axis
    start = time.perf_counter()
    fields = solver.fields(structure)
    names = {"conduction": (f"gradient {axis}", f"flux {axis}"), "elasticity": (f"strain {axis}", f"stress {axis}"),
             "plasticity": ("strain", "stress")}[part.physics]  # fmt: skip
    gradient, flux = (np.asarray(fields[name])[inside] for name in names)
    local = (gradient * flux).sum(axis=-1)
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
    """Return the solver's evaluations of structures; TargetError if one has no property."""
    table = context.solve(stage, structures, title=stage)
    if not table.done.all():
        raise TargetError(f"{(~table.done).sum()} of the structures of '{stage}' have no property: "
                          f"{table['message'][~table.done][0]}")  # fmt: skip
    return table


def _multiscale(context: Context, comparison: Comparison, size: int, known: Structures | None) -> list[Row]:
    """Return the response of the bar of structures of one size, by every model; and of a homogeneous bar.

    known: the structures of the model, which takes part where they have this size.
    """
    bar, part = comparison.bar, comparison.part
    pieces, _ = cut(bar, (size,) * bar.specification.grid.dimensions)
    table = _solved(context, pieces, f"structures-{size}")
    cost = float(table["cost"].sum())
    names = ("stress", "strain") if part.physics == "plasticity" else (part.property,)
    true = {name: table.properties[name] for name in names}
    rows = [comparison.row(size, true, "structures, by the solver", cost)]
    if known is not None and size == known.specification.grid.shape[0]:
        vae = trained(context, known)
        start = time.perf_counter()
        latents = vae.encode(Structures(pieces.values, vae.blueprint.specification))
        if set(names) <= set(context.study.model.heads):
            predicted = vae.predict(latents)
            rows.append(comparison.row(size, predicted, "encoded, by the head", time.perf_counter() - start))
        decoded = _solved(context, vae.decode(latents), f"decoded-{size}")
        again, spent = {name: decoded.properties[name] for name in names}, float(decoded["cost"].sum())
        rows.append(comparison.row(size, again, "encoded and decoded, by the solver", spent))
    mean = {name: np.broadcast_to(a.mean(axis=0), a.shape) for name, a in true.items()}
    return [*rows, comparison.row(size, mean, "homogeneous", cost)]


def _axial(part: PartSettings, properties: Mapping[str, Array]) -> Array:
    found = properties[part.property]
    return found[:, -1, part.axis] if part.physics == "plasticity" else found[:, part.axis, part.axis]
