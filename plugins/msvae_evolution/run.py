"""The campaign's run: model, dynamics, predictions on the workers, and properties of predicted frames."""

from __future__ import annotations

from functools import partial
from itertools import product

import numpy as np
from safetensors.torch import save

from msvae import (
    Array,
    Context,
    Evaluations,
    Structures,
    StudyError,
    Table,
    seed_of,
    trained,
    training_structures,
    write_atomically,
)  # fmt: skip
from msvae_evolution.campaign import Evolve
from msvae_evolution.codes import Blocks, Code, Latents
from msvae_evolution.dynamics.fitting import fit_dynamics
from msvae_evolution.prediction import CONTROL, DYNAMICS, Job, forecaster_of, later, predicted, quantities
from msvae_evolution.series import TIME, Series, sides
from msvae_evolution.summary import notes, rows_of

__all__ = ["STARTS", "run"]

STARTS, SOLVED = "starts.json", "solved.json"


def run(context: Context, settings: Evolve) -> Table:
    """Return how well frames of test simulations are predicted, for every factor of the given frame's time."""
    structures = training_structures(context)
    series = Series.of(structures)
    divided = sides(structures, series, context.study)
    vae = trained(context, structures).requires_grad_(False)
    _fitted(context, Latents(vae), structures, series, divided, DYNAMICS)
    if settings.control:
        _fitted(context, _blocks(context, structures), structures, series, divided, CONTROL)
    train, calibrate, test = divided
    starts = [*product([*calibrate.tolist(), *test.tolist()], settings.given)]
    of_test = [k >= len(calibrate) * len(settings.given) for k in range(len(starts))]
    times = [float(series.times[series.rows[simulation][number]]) for simulation, number in starts]
    context.run.write_json(STARTS, {"starts": starts, "test": of_test, "times": times})
    job = Job(context.recipe(model=context.run.model_file), np.array(starts), np.array(of_test), train)
    grid = structures.specification.grid.shape
    table = context.work("evolve", range(len(starts)), partial(predicted, job), quantities(settings, grid), "predict")
    if context.study.solver is not None:
        _solve(context, settings, job, structures, series, test)
    columns, rows = rows_of(table, np.array(of_test), settings)
    title = f"Frames of {len(test)} simulations, predicted from frame {', '.join(map(str, settings.given))}"
    return Table(title, columns, rows, notes(table, np.array(of_test), np.array(times), settings))


def _blocks(context: Context, structures: Structures) -> Blocks:
    """Return the code of the control; StudyError if the grid is no multiple of its blocks."""
    code = Blocks(structures.specification)
    if any(n % code.edge for n in structures.specification.grid.shape):
        raise StudyError(
            f"{context.study.source.at(['evolve', 'control'])}: its blocks have {code.edge} pixels a side, "
            f"found a grid of {structures.specification.grid.shape}: leave it out"
        )
    return code


def _fitted(
    context: Context, code: Code, structures: Structures, series: Series, divided: tuple[Array, Array, Array], name: str
) -> None:
    """Fit dynamics and keep them in a file of the run, unless it is there."""
    path = context.run.path / name
    if path.exists():
        return
    title = path.stem
    context.run.journal.show_stage(f"fitting the {title}")
    with context.run.journal.progress(title) as report:
        settings = context.study.need(Evolve)
        back = name == DYNAMICS and (settings.until is not None or min(settings.factors) < 1)
        dynamics = fit_dynamics(
            code, structures, series, settings, train=divided[0], calibrate=divided[1], backward=back,
            seed=seed_of(context.study.seed, title), limit=context.limits.check, report=report,
        )  # fmt: skip
    write_atomically(path, save(dynamics.state_dict()))


def _solve(
    context: Context, settings: Evolve, job: Job, structures: Structures, series: Series, test: Array
) -> Evaluations | None:
    """Solve what is predicted of some test simulations, and what these have, as phases."""
    forecaster, factors, frames, rows = forecaster_of(job.recipe), later(settings), [], []
    for simulation in test[: settings.solved].tolist():
        given = structures[int(series.rows[simulation][settings.given[0]])]
        time = float(given.properties[TIME][0])
        many = given[np.zeros(settings.samples, dtype=np.int64)]
        seed = seed_of(context.study.seed, "solved", simulation)
        frames.append(given.values)
        rows.append((simulation, 1.0, "given"))
        for factor, made in zip(factors, forecaster.forward(many, [f * time for f in factors], seed=seed), strict=True):
            frames.append(made.values)
            rows += [(simulation, factor, "sample")] * len(made)
            row = series.row_at(simulation, factor * time)
            if row is not None:
                frames.append(structures.values[[row]])
                rows.append((simulation, factor, "simulated"))
    if not frames:
        return None
    grid = structures.specification.grid
    labels = (np.concatenate(frames)[:, 0] > settings.threshold).astype(np.uint8)
    phases = Structures.from_labels(labels, grid.spacing, periodic=grid.periodic, phases=2)
    context.run.write_json(SOLVED, rows)
    return context.solve("solved", phases, title="solve")
