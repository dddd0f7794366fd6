"""The model card: the scores of a trained model, each beside its floor and beside PCA of the same latent size.

The floor of a distance between generated and held-out structures is the distance between equally many training and
held-out structures: no model of the data can be expected to come nearer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from msvae.campaigns.train.campaign import Train
from msvae.campaigns.train.predictions import Line, halves, predictions
from msvae.campaigns.train.principal_components import PrincipalComponents
from msvae.campaigns.train.verdict import verdict
from msvae.dispatch.tasks import Task
from msvae.errors import RunError
from msvae.metrics import distances
from msvae.metrics.descriptors import describe, feature_vectors
from msvae.metrics.latents import active_units, disentanglement, divergence_by_latent
from msvae.metrics.prediction import index_of, most_varying
from msvae.run.table import Table
from msvae.seeds import seed_of
from msvae.stages.context import Context
from msvae.structures import Array, Structures
from msvae.structures.splits import Split
from msvae.vae.blueprint import component_values
from msvae.vae.fitting.history import HELD_OUT, TERMS, History, held_back_losses, kept_epoch
from msvae.vae.fitting.objective import batch_of
from msvae.vae.fitting.training import held_back_terms
from msvae.vae.model import VAE
from msvae.vae.structure_head import StructureHead

__all__ = ["Line", "model_card"]

log = logging.getLogger(__name__)
LARGEST = 500  # structures of a set that distances are between
FACTORS, MOST_LATENTS, FEWEST_ROWS = 6, 64, 50  # of the scores of disentanglement


@dataclass(frozen=True, eq=False)
class Sets:
    """Training and held-out structures, and as many that the model and PCA generated."""

    train: Structures
    test: Structures
    generated: Structures
    of_pca: Structures


def model_card(
    context: Context,
    vae: VAE,
    train: Structures,
    test: Structures,
    head: StructureHead | None = None,
    *,
    sides: Split | None = None,
) -> Table:
    """Return the card of a model as a table, and write it to the run as model_card.json.

    sides: the split that made training and held-out structures.
    """
    baseline = PrincipalComponents.of(train, vae.latents)
    seed = seed_of(context.study.seed, "model card")
    few, known = test[: min(len(test), LARGEST)], _few(train, min(len(test), LARGEST), seed)
    conditions = vae.known_conditions(few)
    latents = vae.sample_latents(len(few), seed, conditions)
    sets = Sets(known, few, vae.decode(latents, conditions), baseline.sample(len(few), seed))
    means, deviations = vae.moments(test)
    lines = [
        Line("structures: training", str(len(train))),
        Line("structures: held back", str(len(test))),
        *_split(sides),
        *_losses(context, vae, train, test),
        *_reconstruction(vae, test, means, baseline),
        *_latents(context, means, deviations),
        *_disentanglement(means, test, baseline, seed),
        *_axes(vae, train, test, means, seed),
        *_generated(sets),
        *predictions(vae, test, means, head, halves(context, test)),
        *(_solved(context, latents, conditions, known, few) if _solve(context) else ()),
    ]
    context.run.write_json("model_card.json", [{**asdict(line), "ratio": line.ratio} for line in lines])
    said = verdict(lines)
    context.run.write_json("verdict.json", said)
    rows = [(line.what, *map(_text, (line.model, line.pca, line.floor, line.ratio))) for line in lines]
    return Table("Model card", ("what", "model", "PCA", "training set", "model over it"), tuple(rows), heading=said)


def _split(sides: Split | None) -> Iterator[Line]:
    """Yield the gap between the two sides of the split, and the structures lost to it."""
    if sides is None:
        return
    yield Line("structures: used by neither side, in the gap or copies", str(sides.unused))
    if sides.apart is not None:
        yield Line("structures: voxels between training and held-out ones, at least", str(sides.apart))


def _text(value: float | str | None) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:.4g}"


def _few(structures: Structures, n: int, seed: int) -> Structures:
    chosen = np.random.default_rng(seed).permutation(len(structures))[:n]
    return structures[np.sort(chosen)]


def _losses(context: Context, vae: VAE, train: Structures, test: Structures) -> Iterator[Line]:
    """Yield the losses of the saved model, beside those recorded during training."""
    history, study = context.run.read_json("training.json", History, TERMS), context.study
    if history is None:
        raise RunError(f"'{context.run.path / 'training.json'}' is gone, and the model is there: restore it")
    number = kept_epoch(history, study.model, study.training)
    losses = held_back_losses(history, study.model)
    inside, outside = (held_back_terms(vae, batch_of(vae, s), study.seed) for s in (train, test))
    yield Line("training: epoch of the kept weights", f"{number + 1} of {len(history)}")
    yield Line("loss (nats), held back", held_back_losses([outside], study.model)[0])
    yield Line("loss (nats), held back, at its least", min(losses))
    yield Line("loss (nats), held back, at the end of training", losses[-1])
    costs = {name: outside[f"{HELD_OUT}{name}"] for name in ("reconstruction", "divergence")}
    for name, cost in costs.items():
        yield Line(f"{name} (nats), held back", cost, floor=inside[f"{HELD_OUT}{name}"])
    yield Line("ELBO (nats), held back", -sum(costs.values()))


def _reconstruction(vae: VAE, test: Structures, means: Array, baseline: PrincipalComponents) -> Iterator[Line]:
    again = vae.decode(means, vae.known_conditions(test))
    other = baseline.reconstruct(test)
    if not test.specification.is_discrete:
        error = [float(((s.values - test.values) ** 2).mean()) for s in (again, other)]
        yield Line("reconstruction: mean squared error", *error)
        return
    yield Line("reconstruction: equal sites", *(float((s.values == test.values).mean()) for s in (again, other)))
    if test.specification.channels > 1:  # several sites in a unit cell, and no image of phases
        return
    matrix = int(np.bincount(test.labels.ravel()).argmax())
    overlaps = (_overlap(test.labels, s.labels, matrix) for s in (again, other))
    yield Line("reconstruction: intersection over union", *overlaps)
    empty = [float((s.labels.reshape(len(s), -1) == matrix).all(axis=1).mean()) for s in (again, other, test)]
    yield Line("reconstruction: of the most frequent phase alone", *empty)


def _overlap(a: Array, b: Array, matrix: int) -> float:
    """Return the mean over structures of the overlap of all phases but one."""
    axes = tuple(range(1, a.ndim))
    some = (a != matrix), (b != matrix)
    both, either = ((a == b) & some[0]).sum(axis=axes), (some[0] | some[1]).sum(axis=axes)
    return float(np.where(either > 0, both / np.maximum(either, 1), 1.0).mean())


def _latents(context: Context, means: Array, deviations: Array) -> Iterator[Line]:
    active, latents = int(active_units(means).sum()), means.shape[1]
    yield Line("latents in use", f"{active} of {latents}")
    divergence = divergence_by_latent(means, deviations)
    yield Line("divergence of a latent (nats): least", float(divergence.min()))
    yield Line("divergence of a latent (nats): most", float(divergence.max()))
    if active < 0.75 * latents:
        log.warning(
            "the posterior has collapsed in %d of %d latents: lower model.beta, raise model.free_bits or "
            "training.warm_up, or ask for fewer latents", latents - active, latents
        )  # fmt: skip
    prior = context.run.read_json("prior.json", dict[str, Any], ["chosen", "hole"])
    if prior is not None:
        yield Line("fitted prior", prior["chosen"])
        yield Line("prior hole (nats): fitted prior over N(0, I)", prior["hole"])


def _disentanglement(means: Array, test: Structures, baseline: PrincipalComponents, seed: int) -> Iterator[Line]:
    """Yield how far a single latent encodes each property; of every property, the component that varies most."""
    factors = []
    for name in list(test.properties)[:FACTORS]:
        values = test.properties[name].reshape(len(test), -1)
        column = values[:, most_varying(values)]
        if np.isfinite(column).mean() > 0.5 and np.nanstd(column) > 0:
            factors.append(column)
    if not factors or means.shape[1] > MOST_LATENTS:
        return
    known = np.flatnonzero(np.isfinite(np.stack(factors)).all(axis=0))[:LARGEST]
    if len(known) < FEWEST_ROWS:
        return
    columns = np.stack(factors, axis=1)[known]
    mine = disentanglement(means[known], columns, seed=seed)
    others = disentanglement(baseline.scores(test[known]), columns, seed=seed)
    for name, title in {"mig": "mutual information gap", "sap": "separated predictability"}.items():
        yield Line(f"disentanglement of the properties: {title}", mine[name], others[name])
    for name in ("disentanglement", "completeness", "informativeness"):
        yield Line(f"disentanglement of the properties: DCI, {name}", mine[name], others[name])


def _axes(vae: VAE, train: Structures, test: Structures, means: Array, seed: int) -> Iterator[Line]:
    """Yield the information in the axes of the latent flow, and its density beside that of a normal distribution."""
    flow = vae.latent_flow
    if flow is None:
        return
    latents, axes = vae.draw(test, seed), flow.axes(means)
    for k, component in enumerate(vae.blueprint.settings.axes):
        values = component_values(test.properties, component)
        known = np.isfinite(values)
        strength = np.abs([np.corrcoef(axis[known], values[known])[0, 1] for axis in axes.T])
        yield Line(f"latent flow: correlation of its axis with {component}", float(strength[k]))
        yield Line(
            f"latent flow: largest of another axis with {component}", float(np.delete(strength, k).max(initial=0))
        )
    yield Line("latent flow: error of its inverse", float(np.abs(flow.latents_of(axes) - means).max()))
    inside = vae.draw(train, seed)
    from scipy import stats

    normal = stats.multivariate_normal(inside.mean(axis=0), np.cov(inside.T), allow_singular=True)
    yield Line("latent flow: held-out log-density over a normal distribution's (nats)",
               float((flow.log_prob(latents) - normal.logpdf(latents)).mean()))  # fmt: skip


def _generated(sets: Sets) -> Iterator[Line]:
    """Yield distances between generated and held-out structures."""
    held_back = feature_vectors(sets.test)

    def compared(what: str, measure: Callable[[Array, Array], float], of: Callable[[Structures], Array]) -> Line:
        right = of(sets.test)
        return Line(what, *(measure(of(s), right) for s in (sets.generated, sets.of_pca, sets.train)))

    specification = sets.test.specification
    if specification.is_discrete and specification.channels == 1 and specification.grid.dimensions > 0:
        described = {id(s): describe(s) for s in (sets.train, sets.test, sets.generated, sets.of_pca)}

        def descriptor(structures: Structures, name: str) -> Array:
            return described[id(structures)][name]

        for name in ("fraction", "surface", "euler"):
            yield compared(f"generated: {name}, W1/sd", distances.wasserstein, partial(descriptor, name=name))
        for name in ("two_point", "lineal_path"):
            title = f"generated: {name.replace('_', ' ')}, relative L2"
            yield compared(title, distances.curve_distance, partial(descriptor, name=name))
    if len(sets.test) > 10:
        for title, measure in (("coverage", distances.coverage), ("density", distances.density)):
            yield compared(f"generated: {title}", measure, feature_vectors)
        if held_back.shape[1] < len(sets.test) // 2:
            yield compared("generated: Frechet distance", distances.frechet, feature_vectors)
        ratio, _ = distances.novelty(feature_vectors(sets.generated), held_back, feature_vectors(sets.train))
        yield Line("generated: distance to the nearest training structure, over that of held-out ones", ratio)


def _solve(context: Context) -> int:
    """Return the number of generated structures that the solver evaluates for the card."""
    card = context.study.find(Train)
    return 0 if card is None else card.solve


def _solved(context: Context, latents: Array, conditions: Array, train: Structures, test: Structures) -> Iterator[Line]:
    """Yield the distances between the solver's properties of generated and of held-out structures."""
    count = min(_solve(context), len(latents))
    tasks = [Task(k, z, c) for k, (z, c) in enumerate(zip(latents[:count], conditions[:count], strict=True))]
    table = context.evaluate("model-card", tasks, model=context.run.model_file, title="solve generated")
    known = {q.name for q in test.quantities}
    for q in context.study.need_solver().quantities(test.specification):
        if q.name not in known or q.size > 100:
            continue
        right = test.properties[q.name].reshape(len(test), -1)
        k = most_varying(right)
        sets = [a.reshape(len(a), -1)[:, k] for a in (table.properties[q.name], train.properties[q.name][:count])]
        found, floor = (a[np.isfinite(a)] for a in sets)
        y = right[np.isfinite(right[:, k]), k]
        label = f"generated, by the solver: {q.name}{index_of(k, q.sizes)}"
        if len(found) and len(y):
            yield Line(f"{label}, W1/sd", distances.wasserstein(found, y), floor=distances.wasserstein(floor, y))
            yield Line(f"{label}, Kolmogorov-Smirnov p", distances.kolmogorov_smirnov(found, y))
        vectors = (a.reshape(len(a), -1) for a in (table.properties[q.name], train.properties[q.name][:count]))
        whole = [a[np.isfinite(a).all(axis=1)] for a in (*vectors, right)]
        if 1 < q.size < min(map(len, whole)) / 2:
            made, learnt, held = whole
            yield Line(f"generated, by the solver: {q.name}, Frechet distance", distances.frechet(made, held),
                       floor=distances.frechet(learnt, held))  # fmt: skip
