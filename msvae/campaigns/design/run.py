"""Inverse design: find a structure whose solver-verified properties meet a target, with few solver calls.

Label the data set, train a property-predicting VAE, then search its latent space: propose a batch of latents, decode
and evaluate them on the ranks, tell the searcher, retrain the head on the results, and stop when a design is within
tolerance or the budget is spent. Only properties computed by the solver count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from msvae.campaigns.design import pareto
from msvae.campaigns.design.accuracy import design_doubts, error_rows
from msvae.campaigns.design.campaign import InverseDesign
from msvae.campaigns.design.designs import check_earlier, designs, evaluation_of, target_conditions, with_earlier
from msvae.campaigns.design.interpretation import interpret
from msvae.campaigns.design.judge import Judge, distance_from, misses, numbers_of
from msvae.campaigns.design.loop.searches import Part, Search, control, nearest_of, search
from msvae.campaigns.design.reach import check_dependence
from msvae.run.table import Table
from msvae.sampling.search.aims import in_words
from msvae.stages.context import Context
from msvae.stages.labelling import the_structures
from msvae.stages.training import trained, training_structures
from msvae.structures import Array, Structures

__all__ = ["WALL", "distance_from", "run"]

WALL = "wall time (s)"  # the only column of the table that another run of the same study has otherwise
LOGGED = 60  # nearest designs of a part of which the guards' numbers are written down


def run(context: Context) -> Table:
    """Return the table of target, best training structure, best designs, and solver calls, and wall time."""
    design = context.study.need(InverseDesign)
    check_earlier(context, the_structures(context))
    structures = training_structures(context)
    check_dependence(context, design, structures)
    vae = trained(context, structures)
    vae.default_conditions = target_conditions(context.study)
    judge = Judge.of(context, vae, structures)
    structures = with_earlier(context, structures)
    if design.objectives:
        return pareto.run(context, structures, judge)
    searches = [search(context, structures, judge, repeat=k) for k in range(design.repeats)]
    controls = [control(context, judge, repeat=k) for k in range(design.repeats)] if design.control_budget else []
    _save_courses(context, [*searches, *controls])
    part, row = nearest_of(searches).best
    quantities = context.study.need_solver().quantities(structures.specification)
    best = designs(part.judge.vae, part.table, np.array([row]), quantities)
    context.run.save_structures(best, "best_design.h5")
    table = _summary(structures, design, searches, controls)
    notes = [*table.notes, *_doubts(context, structures, searches)]
    if design.refine:
        notes += _refined(context, design, best)
    if design.interpret:
        encoded = part.judge.vae.encode(context.run.labelled)
        notes += interpret(context, part.judge, part.table.latents[row : row + 1], encoded)
    return replace(table, notes=tuple(notes))


def _save_courses(context: Context, searches: list[Search]) -> None:
    """Write the progress of every search, with the results of the guards, into the run."""
    course = [
        {
            "stage": s.name,
            "calls": s.calls,
            "price": s.price,
            "seconds": round(s.seconds, 3),
            "distances": [None if np.isnan(d) else float(d) for d in s.distances],
            "guarded": [rows.tolist() for rows in nearest],
            "guards": [part.judge.log(part.table.where(rows)) for part, rows in zip(s.parts, nearest, strict=True)],
        }
        for s in searches
        for nearest in [[np.sort(_order(part)[:LOGGED]) for part in s.parts]]
    ]
    context.run.write_json("searches.json", course)


def _order(part: Part) -> Array:
    """Return the rows of a part's designs by their distances."""
    return np.argsort(np.nan_to_num(part.distances, nan=np.inf), kind="stable")


def _summary(structures: Structures, design: InverseDesign, searches: list[Search], controls: list[Search]) -> Table:
    distances = distance_from(design.targets, structures.properties)
    known_best = int(np.nanargmin(distances))
    best = nearest_of(searches)
    part, row = best.best
    known = {q.name: q for q in structures.quantities}
    columns = (
        "",
        *(f"{t.of} ({known[t.property].unit})" for t in design.targets),
        "largest error",
        "solver calls",
        WALL,
    )
    tolerances = "within " + "/".join(f"{100 * t.tolerance:g} %" for t in design.targets)
    blank = ("",) * len(design.targets)
    rows = [
        ("target", *(t.text for t in design.targets), tolerances, "", ""),
        (
            f"best {_origin(design)} structure, number {known_best}",
            *_found(design, structures.properties, known_best),
            "0" if distances[known_best] <= 1 else "",
            "",
        ),
        ("best designed structure", *_found(design, part.table.properties, row), _calls([best]), _seconds([best])),
        *error_rows(design, part.table, row),
        (f"search, median of {len(searches)}", *blank, "", _calls(searches), _seconds(searches)),
    ]
    if controls:
        title = f"random samples of the prior, median of {len(controls)}"
        rows.append((title, *blank, "", _calls(controls), _seconds(controls)))
    notes = [_verdict(best.nearest)]
    if distances[known_best] <= 1:
        error = _found(design, structures.properties, known_best)[-1]
        notes.insert(0, f"{_origin(design)} structure {known_best} ({structures.ids[known_best]}) meets the target "
                        f"already, within {error}")  # fmt: skip
        if best.nearest > 1:
            notes[1] = f"no design of the search meets it: the nearest is {best.nearest:.2f} tolerances away"
    return Table("Inverse design", columns, tuple(rows), tuple(notes))


def _doubts(context: Context, structures: Structures, searches: list[Search]) -> Iterator[str]:
    """Yield doubts, from the solver's error estimates, about structures that meet the targets by its values."""
    design, solver = context.study.need(InverseDesign), context.study.need_solver()
    distances = distance_from(design.targets, structures.properties)
    known = int(np.nanargmin(distances))
    if distances[known] <= 1:
        whose = f"{_origin(design)} structure {known}"
        if found := evaluation_of(context, known, len(structures)):
            yield from design_doubts(whose, design, *found, solver)
        else:
            yield f"{whose} came with its properties: their discretisation error is not known"
    best = nearest_of(searches)
    if best.nearest <= 1:
        part, row = best.best
        yield from design_doubts("the best designed structure", design, part.table, row, solver)


def _origin(design: InverseDesign) -> str:
    return "known" if design.start_from else "training"


def _refined(context: Context, design: InverseDesign, best: Structures) -> tuple[str, ...]:
    """Return in words the properties of the best design, a batch of one, with twice the voxels along every axis."""
    values, grid = best.values, best.specification.grid
    for axis in range(grid.dimensions):
        values = np.repeat(values, 2, axis=axis + 2)
    finer = replace(grid, shape=values.shape[2:], spacing=tuple(h / 2 for h in grid.spacing))
    table = context.solve("refined", Structures(values, replace(best.specification, grid=finer)))
    if not table.done.all():
        return (f"with twice the voxels the solver has no answer: {table['message'][0]}",)
    changes = []
    for target in design.targets:
        before, after = numbers_of(target, best.properties)[0], numbers_of(target, table.properties)[0]
        worst = np.abs(after - before).argmax()
        changes.append(f"{target.of} {100 * (after[worst] - before[worst]) / target.scale:+.2g} %")
    return (f"with twice the voxels along every axis: {', '.join(changes)}",)


def _verdict(distance: float) -> str:
    """Return in words whether a verified design at this distance, in tolerances, meets the target."""
    if distance <= 1:
        return "the design is verified by the solver"
    return f"the target was not met: the nearest verified design is {distance:.2f} tolerances away"


def _found(design: InverseDesign, properties: Mapping[str, Array], row: int) -> tuple[str, ...]:
    """Return the targeted numbers of one structure, and the largest error among them."""
    values = [numbers_of(t, properties)[row] for t in design.targets]
    error = max(float(misses(t, v)) * t.tolerance for v, t in zip(values, design.targets, strict=True))
    return (*(in_words(v.tolist()) for v in values), f"{100 * error:.2f} %")


def _calls(searches: Sequence[Search]) -> str:
    """Return the median number of calls; a search that missed the target counts as having needed more than it made."""
    median = float(np.median([np.inf if s.calls is None else s.calls for s in searches]))
    made = max(s.price * len(s.distances) for s in searches)
    return f"{median:g}" if np.isfinite(median) else f"> {made}"


def _seconds(searches: Sequence[Search]) -> str:
    """Return the median wall time of searches, in s."""
    return f"{float(np.median([s.seconds for s in searches])):.3g}"
