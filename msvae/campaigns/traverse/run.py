"""Traverse: fit axes of properties to what the decoder makes, move along one, hold the others, verify by the solver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from msvae.campaigns.traverse.campaign import Traverse
from msvae.campaigns.traverse.correction import Correction
from msvae.campaigns.traverse.scores import Scale, Score, score
from msvae.dispatch.tasks import Task
from msvae.errors import DataError
from msvae.run.table import Table
from msvae.seeds import seed_of
from msvae.stages.context import Context
from msvae.stages.sides import sides_of
from msvae.stages.threads import torch_threads
from msvae.stages.training import trained, training_structures
from msvae.structures import Array, Structures
from msvae.vae.blueprint import LEAST_FOR_AXES, component_values
from msvae.vae.likelihoods.hurdle import hurdled
from msvae.vae.model import VAE
from msvae.vae.priors.latent_flow import LatentFlow, fit_latent_flow

__all__ = ["FILE", "STRUCTURES", "run"]

SPARE = 4  # candidates for the start of a traversal, some of which have a zero or no property
FILE, STRUCTURES = "traversals.json", "traversals.h5"


@dataclass(frozen=True, eq=False)
class Axes:
    """Axes of properties, and the samples that say how they vary.

    flow: the map to the axes. scale: of the properties. latents: (n, d) of the samples. known: (n, k) their properties
    as the axes have them, standardised. usual: (n,) those without a zero where others differ by decades.
    """

    flow: LatentFlow
    scale: Scale
    latents: Array
    known: Array
    usual: Array

    def standardised(self, values: Array) -> Array:
        """Return positions (n, k) on the axes of properties (n, k) in their units."""
        return self.flow.standardised(self.scale(values))

    def in_units(self, positions: Array) -> Array:
        """Return the properties (n, k) in their units at positions (n, k)."""
        return self.scale.inverse(self.flow.targets.inverse(torch.as_tensor(positions)).numpy())

    def given_others(self, held: Array, moved: int) -> tuple[Array, float]:
        """Return mean (n,) and standard deviation of a property where the others have values held (n, k - 1)."""
        own, others = self.known[self.usual][:, moved], np.delete(self.known[self.usual], moved, axis=1)
        known = np.column_stack([np.ones(len(others)), others])
        weights = np.linalg.lstsq(known, own, rcond=None)[0]
        spread = float((own - known @ weights).std())
        return np.column_stack([np.ones(len(held)), held]) @ weights, spread


def run(context: Context) -> Table:
    """Return how each property follows its axis, by the solver, with the axes alone and with its corrections."""
    structures = training_structures(context)
    vae = trained(context, structures)
    axes = _axes(context, vae, structures)
    positions, wanted = _asked(context, vae, structures, axes)
    latents = axes.flow.latents_of(positions)
    found = axes.standardised(_solved(context, "traversal-0", latents))
    state = Correction.start((axes.latents, axes.known), wanted, latents, found)
    rounds = [state.found]
    for k in range(1, context.study.need(Traverse).corrections + 1):
        latents = state.next_latents()
        state.learn(latents, axes.standardised(_solved(context, f"traversal-{k}", latents)))
        rounds.append(state.found)
    _save_first(context, vae, state.latents)
    return _told(context, axes, wanted, rounds)


def _save_first(context: Context, vae: VAE, latents: Array) -> None:
    """Write the structures of each property's first traversal."""
    settings = context.study.need(Traverse)
    first = latents.reshape(-1, settings.traversals, settings.steps, latents.shape[1])[:, 0]
    context.run.save_structures(vae.decode(first.reshape(-1, latents.shape[1])), STRUCTURES)


def _axes(context: Context, vae: VAE, structures: Structures) -> Axes:
    """Return axes fitted to solved samples, or those of the training."""
    settings, seed = context.study.need(Traverse), context.study.seed
    if not settings.samples:
        flow = vae.latent_flow
        assert flow is not None
        values = _numbers(context, structures.properties)
        scale = Scale.of(values, np.zeros(values.shape[1], dtype=bool))
        good = np.asarray(np.isfinite(values).all(axis=1))
        return Axes(
            flow,
            scale,
            vae.encode(structures[np.flatnonzero(good)]),
            flow.standardised(values[good]),
            scale.follows(values[good]),
        )
    latents = vae.sample_latents(settings.samples, seed_of(seed, "traverse"))
    values = _solved(context, "samples", latents)
    good = np.asarray(np.isfinite(values).all(axis=1))
    if good.sum() < LEAST_FOR_AXES:
        raise DataError(
            f"traverse.samples: the solver found all properties of {good.sum()} of {len(good)} decoded structures, and "
            f"axes are fitted to at least {LEAST_FOR_AXES}: see the failures in the run's table, or train longer"
        )
    wide = np.array([hurdled(column[:, None])[1][0] for column in values[good].T])  # each has a unit of its own
    scale = Scale.of(values[good], wide)
    scaled, names = scale(values[good]), tuple(map(str, context.study.model.axes))
    context.run.journal.show_stage("fitting the axes")
    with torch_threads(context.study.executor.threads):
        flow = fit_latent_flow(latents[good], scaled, names, seed=seed)
    return Axes(flow, scale, latents[good], flow.standardised(scaled), scale.follows(values[good]))


def _asked(context: Context, vae: VAE, structures: Structures, axes: Axes) -> tuple[Array, Array]:
    """Return axes (n, d) of all traversals' structures, and their properties (n, k) as asked.

    Held-out structures are the starts; one property after the other moves through where it lies given the others. What
    the axes make of a start is shifted to what the solver finds of it.
    """
    settings, rng = context.study.need(Traverse), np.random.default_rng(seed_of(context.study.seed, "starts"))
    held_out = rng.permutation(sides_of(context, structures, vae.blueprint).held_out)[: SPARE * settings.traversals]
    latents = vae.encode(structures[np.sort(held_out)])
    found = _solved(context, "starts", latents)
    usual = rng.permutation(np.flatnonzero(axes.scale.follows(found)))
    if not len(usual):
        raise DataError(
            f"traverse: none of {len(found)} held-out structures, decoded, has properties that can be followed: see "
            "the failures in the run's table, or train longer"
        )
    usual = np.sort(usual[np.arange(settings.traversals) % len(usual)])
    starts, true, count = axes.flow.axes(latents[usual]), axes.standardised(found[usual]), axes.known.shape[1]
    shift = (starts[:, :count] - true)[:, None]
    offsets, wanted = np.linspace(-settings.reach, settings.reach, settings.steps), []
    for moved in range(count):
        mean, spread = axes.given_others(np.delete(true, moved, axis=1), moved)
        along = np.repeat(true[:, None], settings.steps, axis=1)
        along[:, :, moved] = mean[:, None] + spread * offsets
        wanted.append(along)
    whole = np.tile(np.repeat(starts[:, None], settings.steps, axis=1), (count, 1, 1, 1))
    whole[..., :count] = np.stack(wanted) + shift
    return whole.reshape(-1, starts.shape[1]), np.concatenate(wanted).reshape(-1, count)


def _solved(context: Context, stage: str, latents: Array) -> Array:
    """Return the solver's properties (n, k) of decoded latents, NaN where it failed."""
    tasks = [Task(k, z) for k, z in enumerate(latents)]
    table = context.evaluate(stage, tasks, model=context.run.model_file, title=stage)
    return _numbers(context, table.properties)


def _numbers(context: Context, properties: Mapping[str, Array]) -> Array:
    return np.stack([component_values(properties, c) for c in context.study.model.axes], axis=1)


def _told(context: Context, axes: Axes, wanted: Array, rounds: list[Array]) -> Table:
    """Write the traversals and return their table."""
    settings, names = context.study.need(Traverse), [str(c) for c in context.study.model.axes]
    shape = (len(names), settings.traversals, settings.steps, len(names))
    positions, width = wanted.reshape(shape), axes.known.std(axis=0)
    scores = [[score(positions[j, ..., j], found.reshape(shape)[j], width, j) for j in range(len(names))]
              for found in rounds]  # fmt: skip
    context.run.write_json(FILE, {
        "numbers": names, "shape": shape[:3],
        "asked": axes.in_units(wanted).tolist(),
        "found": [[v if np.isfinite(v) else None for v in row] for row in axes.in_units(rounds[-1]).tolist()],
        "scores": [[vars(s) for s in row] for row in scores]})  # fmt: skip
    columns = ("moved", "solved", "own", "held, at most", "drift (sd)")
    rows = [(name, _solves(k), *_cells(row[j])) for j, name in enumerate(names) for k, row in enumerate(scores)]
    failed = int(np.isnan(rounds[-1]).any(axis=1).sum())
    notes = (f"Spearman's correlations over {settings.traversals} traversals of {settings.steps} structures, by the "
             "solver: own, of the property with its axis; held, of another property with the offset; drift: how far "
             "another moves from end to end, in its standard deviations",
             f"{failed} of {len(wanted)} structures have an unknown property")  # fmt: skip
    return Table("Traversals: one property moved, the others held", columns, tuple(rows), notes)


def _cells(found: Score) -> tuple[str, str, str]:
    return f"{found.own:.3f}", f"{found.held:.3f}", f"{found.drift:.3f}"


def _solves(corrections: int) -> str:
    return f"{corrections + 1} times" if corrections else "once (axes alone)"
