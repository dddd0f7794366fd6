"""The figures that every report has: functions of a run, each of one figure, or None where there is no data for it.

A campaign draws its own figures.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure

from msvae.metrics.prediction import determination, index_of, most_varying
from msvae.report.drawing import Drawing, axes_of, picture
from msvae.run.directory import Run
from msvae.stages.sides import can_train
from msvae.structures import Array, Structures
from msvae.structures.splits import split_of
from msvae.vae.blueprint import component_values
from msvae.vae.fitting.history import HELD_OUT, TERMS, History, kept_epoch

__all__ = ["FIGURES", "held_back", "latent_map", "training_curves"]

EQUAL = 1e-9  # relative spread below which values are rounding errors of one


def training_curves(run: Run) -> Drawing | None:
    """Terms of the objective over the epochs, for training and held-out structures."""
    history = run.read_json("training.json", History, TERMS)
    if not history:
        return None
    names = [name for name in history[0] if not name.startswith(HELD_OUT)]
    kept = kept_epoch(history, run.study.model, run.study.training) + 1
    epochs = np.arange(1, len(history) + 1)
    figure = Figure(figsize=(3.2 * len(names), 2.8))
    for axis, name in zip(axes_of(figure, 1, len(names)), names, strict=True):
        for prefix, label in (("", "training"), ("held back ", "held back")):
            axis.plot(epochs, [row[prefix + name] for row in history], label=label)
        axis.axvline(kept, color="k", lw=0.8, ls=":", label=f"kept: epoch {kept}")
        axis.set(xlabel="epoch", ylabel="nats per structure", title=name)
        axis.legend()
    return Drawing(
        "training",
        "Terms of the objective: reconstruction (negative log-likelihood), divergence "
        "(Kullback-Leibler), heads (negative log-likelihood of standardised properties). The dotted line "
        "marks the epoch whose weights were kept.",
        figure,
    )


def reconstructions(run: Run) -> Drawing | None:
    """Structures above their reconstructions by the model."""
    if not run.model_file.exists():
        return None
    held_out, settings = held_back(run), run.model.blueprint.settings
    structures = held_out[np.flatnonzero(can_train(held_out, run.model.blueprint))[:8]]
    if not len(structures):
        return None
    conditions = run.model.known_conditions(structures) if settings.conditions else None
    again = run.model.decode(run.model.encode(structures), conditions)
    figure = Figure(figsize=(1.2 * len(structures), 2.6))
    for k, axis in enumerate(axes_of(figure, 2, len(structures))):
        batch = structures if k < len(structures) else again
        picture(axis, batch, k % len(structures))
        if k % len(structures) == 0:
            axis.set_ylabel("structure" if k == 0 else "decoded")
    return Drawing(
        "reconstructions",
        "Held-back structures (above) and their reconstructions from the latent mean (below)"
        + ("; the middle slice." if structures.specification.grid.dimensions == 3 else "."),
        figure,
    )


def latent_map(run: Run) -> Drawing | None:
    """Encoded structures on their two leading principal axes, coloured by the study's main property."""
    found = _headline_property(run)
    if not run.model_file.exists() or found is None:
        return None
    label, values, structures = found
    latents = run.model.encode(structures)
    centred = latents - latents.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    flat = centred @ axes[:2].T if len(axes) > 1 else np.column_stack([centred[:, 0], np.zeros(len(centred))])
    figure = Figure(figsize=(4.6, 3.6))
    axis = figure.subplots()
    points = axis.scatter(flat[:, 0], flat[:, 1], c=values, s=9)
    figure.colorbar(points, label=label)
    axis.set(xlabel="first principal axis of z (1)", ylabel="second principal axis of z (1)")
    return Drawing("latent_map", "Latent means of the structures, coloured by the property.", figure)


def properties(run: Run) -> Drawing | None:
    """Histogram of each labelled property's leading component."""
    if "label" not in run.stages:
        return None
    table = run.store("label").load()
    figure = Figure(figsize=(3.4 * len(table.properties), 2.6))
    for axis, (name, array) in zip(axes_of(figure, 1, len(table.properties)), table.properties.items(), strict=True):
        leading = array.reshape(len(array), -1)[:, 0]
        leading = leading[np.isfinite(leading)]
        vary = len(leading) > 0 and np.ptp(leading) > EQUAL * np.abs(leading).max()
        axis.hist(leading, bins=30 if vary else 1)
        index = "[" + ", ".join("0" * (array.ndim - 1)) + "]" if array.ndim > 1 else ""
        axis.set(xlabel=f"{name}{index} ({table.units.get(name, '1')})", ylabel="structures")
    return Drawing("properties", "What the solver computed for the data set.", figure)


def parity(run: Run) -> Drawing | None:
    """Predicted against true property of the held-out structures."""
    if not run.structure_head_file.exists():
        return None
    from msvae.dispatch.executors import SerialExecutor
    from msvae.stages.context import Context
    from msvae.stages.training import structure_head

    head = structure_head(Context(run.study, run, SerialExecutor()), run.labelled)
    test = held_back(run)
    assert head is not None
    name = head.quantities[0].name
    true = test.properties[name].reshape(len(test), -1)
    predicted = head.predict(test)[name].reshape(len(test), -1)
    k = most_varying(true)
    score = determination(predicted[:, k], true[:, k])
    figure = Figure(figsize=(4.2, 3.8))
    axis = figure.subplots()
    axis.scatter(true[:, k], predicted[:, k], s=7, alpha=0.6)
    axis.axline((true[:, k].mean(),) * 2, slope=1, color="k", lw=0.8, ls="--")
    unit = head.quantities[0].unit
    axis.set(
        xlabel=f"{name}{index_of(k, head.quantities[0].sizes)} ({unit})",
        ylabel=f"predicted ({unit})",
        title=f"R2 = {score:.4f}, {len(test)} held-out structures",
    )
    return Drawing("parity", "The structure-space head on structures that training never saw.", figure)


FIGURES: tuple[Callable[[Run], Drawing | None], ...] = (
    properties,
    training_curves,
    reconstructions,
    latent_map,
    parity,
)


def held_back(run: Run) -> Structures:
    """Return the held-out structures with their properties."""
    structures, settings = run.labelled, run.study.training
    return structures[split_of(structures, settings.held_back, run.study.seed, gap=settings.gap).held_out]


def _headline_property(run: Run) -> tuple[str, Array, Structures] | None:
    """Return label, values and structures for colouring: the first target, condition or head that is known."""
    study, structures = run.study, run.labelled
    known = {q.name: q for q in structures.quantities}
    chosen = [number for _, number in study.campaign.numbers()] or list(study.model.conditions)
    for component in chosen:
        if component.property in known:
            values = component_values(structures.properties, component)
            return f"{component} ({known[component.property].unit})", values, structures
    for name, q in known.items():
        return f"{name} ({q.unit})", structures.properties[name].reshape(len(structures), -1)[:, -1], structures
    return None
