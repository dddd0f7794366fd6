"""Generate: train a conditional VAE, decode structures for given conditions, and verify their conditions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from msvae.campaigns.generate.campaign import Generate
from msvae.campaigns.generate.scores import scores
from msvae.dispatch.tasks import Task
from msvae.errors import StudyError
from msvae.metrics.prediction import determination
from msvae.run.table import Table
from msvae.seeds import seed_of
from msvae.stages.context import Context
from msvae.stages.training import structure_head, trained, training_structures
from msvae.structures import Array, Quantity
from msvae.study.numbers import Component
from msvae.vae.blueprint import component_values
from msvae.vae.model import VAE

__all__ = ["run"]

FILE = "generated.h5"


def run(context: Context) -> Table:
    """Return, for each given value, what the structure-space head and the solver find for the generated structures."""
    settings = context.study.need(Generate)
    condition = context.study.model.conditions[0]
    structures = training_structures(context)
    vae = trained(context, structures)
    head = structure_head(context, structures)
    if head is None or condition.property not in {q.name for q in head.quantities}:
        raise StudyError(
            f"{context.study.source.at(['structure_head', 'properties'])}: generated structures are judged by a "
            f"structure-space head, so it has to predict '{condition.property}'"
        )
    asked, latents = questions(vae, settings, seed=seed_of(context.study.seed, "generate"))
    generated = vae.decode(latents, asked)
    predicted = head.predict(generated)
    judged = {"predicted": component_values(predicted, condition)}
    if settings.verify is not None:
        judged["solved"] = verified(context, settings.verify, latents, asked)
    extra = {**{f"asked_{k}": column for k, column in enumerate(asked.T)}, **judged}
    quantities = [Quantity(name, "1") for name in extra]
    context.run.save_structures(generated.with_properties(extra, quantities), FILE)
    held_back = "; ".join(" ".join(row) for row in scores(context, structures, vae, head))
    notes = [f"{by}: median |found - asked| {np.nanmedian(np.abs(got - asked[:, 0])):.4g}, R2 of found on asked "
             f"{determination(asked[:, 0], got):.3f}" for by, got in judged.items()]  # fmt: skip
    columns = [f"{by}: {what}" for by in judged for what in ("median", "5 %", "95 %", "median |error|")]
    return Table(
        f"Generated structures: asked and found {condition}",
        ("asked", *columns),
        tuple(_row(settings, row, k, judged) for k, row in enumerate(settings.rows)),
        (*notes, f"held back: {held_back}"),
    )


def verified(context: Context, component: Component, latents: Array, asked: Array) -> Array:
    """Return the solver's value (n,) for the structures that the latents decode to; NaN where it failed."""
    tasks = [Task(k, z, c) for k, (z, c) in enumerate(zip(latents, asked, strict=True))]
    table = context.evaluate("generated", tasks, model=context.run.model_file, title="verify")
    return component_values(table.properties, component)


def questions(vae: VAE, settings: Generate, *, seed: int) -> tuple[Array, Array]:
    """Return the conditions (n, k) and the latents (n, d), from the fitted prior, of every structure to generate."""
    asked = np.repeat(np.array(settings.rows), settings.samples, axis=0)
    return asked, vae.sample_latents(len(asked), seed, asked)


def _row(settings: Generate, asked: tuple[float, ...], k: int, judged: Mapping[str, Array]) -> tuple[str, ...]:
    """Return the table's row for one given combination of values."""
    cells = []
    for got in judged.values():
        group = got.reshape(len(settings.rows), settings.samples)[k]
        error = np.nanmedian(np.abs(group - asked[0]))
        cells += [
            f"{np.nanmedian(group):.5g}",
            *(f"{np.nanquantile(group, q):.5g}" for q in (0.05, 0.95)),
            f"{error:.4g}",
        ]
    return (", ".join(f"{v:g}" for v in asked), *cells)
