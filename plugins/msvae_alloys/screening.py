"""Screening: many compositions judged by the model on all workers, and the best of them improved along its gradient."""

from __future__ import annotations

import csv
import importlib.util
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from msvae import (
    VAE,
    Array,
    Context,
    Evaluation,
    Evaluations,
    Quantity,
    Recipe,
    Structures,
    StudyError,
    Table,
    Task,
    model_of,
    rank,
    seed_of,
    study_of,
    trained,
    training_structures,
    write_atomically,
)  # fmt: skip
from msvae_alloys.attribution import FEATURES, attribution, explains
from msvae_alloys.candidates import Known, Space
from msvae_alloys.formulas import formula_of
from msvae_alloys.pseudo_labels import completed
from msvae_alloys.screen import Screen, Workflow

POOL, ATTRIBUTION = "pool.csv", "attribution.json"
CHUNK = 20_000  # compositions that a worker judges at a time
STEPS, RATE = 150, 0.05  # of the ascent
SHOWN = 5  # compositions of each workflow in the table


@dataclass(frozen=True)
class Screening:
    """What a worker needs to judge compositions. starts: of the inversion, compositions (n, elements)."""

    recipe: Recipe
    workflow: Workflow
    known: Known
    starts: Array | None = None


def run(context: Context, settings: Screen) -> Table:
    """Return the best compositions of each workflow, best first; write the pool of all."""
    structures = training_structures(context)
    space = Space.of(settings, structures.specification.constituents)
    known = Known.of(settings, structures.values)
    seen = structures
    if settings.unknown == "forest":
        seen = completed(structures, settings.target.property, context.study.seed)
    model = trained(context, seen)
    found: dict[Workflow, tuple[Array, Array]] = {}
    counts = []
    for workflow in sorted(settings.workflows, key=("candidates", "latents", "inversion").index):
        starts = None
        if workflow == "inversion":
            rng = np.random.default_rng(seed_of(context.study.seed, "starts"))
            pools = [*found.values()]
            starts = _best(pools, settings.keep)[0] if pools else space.candidates(settings.keep, rng)
        job = Screening(context.recipe(model=context.run.model_file), workflow, known, starts)
        number = 1 if starts is not None else -(-settings.count // CHUNK)
        table = context.work(workflow, range(number), partial(_judged, job), _quantities(settings, space), workflow)
        admitted, cost = int(table.properties["admitted"].sum()), float(table["cost"].sum())
        counts.append(f"{workflow}: {admitted:,} compositions meet the constraints; {cost:.1f} s on one worker")
        fractions = table.properties["fractions"].reshape(-1, len(space.symbols))
        chance = table.properties["probability"].reshape(-1)
        there = np.isfinite(chance)
        found[workflow] = _best([(fractions[there], chance[there])], settings.keep)
    rows = [row for workflow, (x, chance) in found.items() for row in _rows(workflow, x, chance, known, space)]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]) if rows else ["workflow"])
    writer.writeheader()
    writer.writerows(rows)
    content = buffer.getvalue().encode()
    write_atomically(context.run.path / POOL, content)
    if rows:
        _write_parquet(context, content)
    counts.append(f"at most {100 * known.reach:.1f} at.% from a known alloy")
    if explains(model):
        counts.append(_explained(context, model, structures, settings))
    return _table(settings, rows, tuple(counts))


def _write_parquet(context: Context, content: bytes) -> None:
    """Write the pool, the content of its CSV file, as Parquet too, where pyarrow is installed."""
    if importlib.util.find_spec("pyarrow") is None:
        return
    import pyarrow
    from pyarrow import csv as tables
    from pyarrow import parquet

    buffer = io.BytesIO()
    parquet.write_table(tables.read_csv(pyarrow.py_buffer(content)), buffer)
    write_atomically(context.run.path / POOL.replace("csv", "parquet"), buffer.getvalue())


def _explained(context: Context, model: VAE, structures: Structures, settings: Screen) -> str:
    """Write what the model's prediction depends on; return the features that matter most in words."""
    place = settings.place(context.study.model.conditions)
    assert place is not None
    found = attribution(model, structures, place, settings.value, seed_of(context.study.seed, "attribution"))
    told = {"features": FEATURES, "permutation": found.permuted.tolist(), "shapley": found.shapley.tolist(),
            "values": found.values.tolist()}  # fmt: skip
    context.run.write_json(ATTRIBUTION, told)
    most = [FEATURES[k] for k in np.argsort(-found.shapley)[:3]]
    return f"the model's prediction depends most on {most[0]}, {most[1]} and {most[2]} (Shapley values)"


def _quantities(settings: Screen, space: Space) -> tuple[Quantity, ...]:
    shapes = {"probability": (settings.keep,), "fractions": (settings.keep, len(space.symbols)), "admitted": ()}
    return tuple(Quantity(name, "1", shape) for name, shape in shapes.items())


def _best(pools: Sequence[tuple[Array, Array]], keep: int) -> tuple[Array, Array]:
    """Return the likeliest of several pools of compositions (n, elements), and their probabilities, best first."""
    x, chance = (np.concatenate(column) for column in zip(*pools, strict=True))
    order = np.argsort(-chance, kind="stable")[:keep]
    return x[order], chance[order]


def _judged(job: Screening, tasks: Sequence[Task]) -> Evaluations:
    return Evaluations.of([_chunk(job, task.index) for task in tasks])


def _chunk(job: Screening, index: int) -> Evaluation:
    start = time.perf_counter()
    study, vae = study_of(job.recipe.study), model_of(job.recipe)
    settings = study.need(Screen)
    space = Space.of(settings, vae.blueprint.specification.constituents)
    seed = seed_of(study.seed, "screen", job.workflow, index)
    count = min(CHUNK, settings.count - CHUNK * index)
    if job.starts is not None:
        x = inverted(vae, settings, space, job.known, job.starts)
    elif job.workflow == "latents":
        x = _decoded(vae, settings, space, count, seed)
    else:
        x = space.candidates(count, np.random.default_rng(seed))
    x = x[space.admitted(x)]
    x, chance = _best([(x, chances(vae, settings, x))], len(x))
    near = job.known.first(x, settings.keep)
    best, chance = x[near], chance[near]
    n, missing = len(best), settings.keep - len(best)
    rows = {
        "probability": np.pad(chance, (0, missing), constant_values=np.nan),
        "fractions": np.pad(best, ((0, missing), (0, 0)), constant_values=np.nan) if n else
        np.full((settings.keep, len(space.symbols)), np.nan),
        "admitted": np.array(float(len(x))),
    }  # fmt: skip
    return Evaluation(index, "", "done", rows, latents=np.zeros(0), cost=time.perf_counter() - start, seed=seed,
                      rank=rank())  # fmt: skip


def _decoded(vae: VAE, settings: Screen, space: Space, count: int, seed: int) -> Array:
    """Return compositions decoded from samples of the latents with the asked condition, cleared of traces."""
    condition = np.full((count, 1), settings.value)
    latents = vae.sample_latents(count, seed, condition)
    return space.projected(space.cleared(vae.decode(latents, condition).values.astype(np.float64)))


def chances(vae: VAE, settings: Screen, x: Array) -> Array:
    """Return the probability (n,) that compositions (n, elements) have the asked class, or a number within range."""
    with torch.no_grad():
        parts = [_log_chance(vae, settings, torch.as_tensor(piece, dtype=torch.float32))
                 for piece in np.array_split(x, max(1, len(x) // 4096))]  # fmt: skip
    return np.asarray(torch.cat(parts).exp().double().numpy())


def _log_chance(vae: VAE, settings: Screen, x: Tensor) -> Tensor:
    """Return log p (n,) of the asked class or range for compositions (n, elements), with gradients."""
    assert vae.guess is not None
    guessed = vae.guess(vae.likelihood.features(x))
    j = settings.place(vae.blueprint.settings.conditions)
    assert j is not None
    if j in guessed.classes:
        chosen: Tensor = guessed.classes[j][:, int(settings.value)]
        return chosen
    i = vae.conditions.given_numbers.index(j)
    scale = vae.conditions.scale
    mean = scale.inverse(guessed.mean)[:, i]
    spread = guessed.deviation[:, i] * scale.scale[i]
    normal = torch.distributions.Normal(mean.double(), spread.double())
    inside: Tensor = normal.cdf(mean.new_tensor(settings.value + settings.tolerance)) - normal.cdf(
        mean.new_tensor(settings.value - settings.tolerance)
    )
    found: Tensor = inside.clamp_min(1e-30).log()
    return found


def inverted(vae: VAE, settings: Screen, space: Space, known: Known, starts: Array) -> Array:
    """Return compositions (n, elements) that ascend the probability from given ones, each among its own elements.

    Every step is followed by a projection onto the bounds; of each path the likeliest composition that meets all
    constraints is returned.
    """
    best, record = starts.copy(), chances(vae, settings, starts)
    inside = torch.as_tensor(starts > 0)
    raw = torch.as_tensor(np.log(np.maximum(starts, 1e-9)), dtype=torch.float32).requires_grad_()
    optimiser = torch.optim.Adam([raw], lr=RATE)
    for _ in range(STEPS):
        x = torch.softmax(raw.masked_fill(~inside, -torch.inf), dim=1)
        optimiser.zero_grad()
        (-_log_chance(vae, settings, x).sum()).backward()
        optimiser.step()
        with torch.no_grad():
            now = torch.softmax(raw.masked_fill(~inside, -torch.inf), dim=1).double().numpy()
            projected = space.projected(space.cleared(now))
            raw.copy_(torch.as_tensor(np.log(np.maximum(projected, 1e-9))))
            chance = chances(vae, settings, projected)
            better = (chance > record) & space.admitted(projected) & known.near(projected)
            best[better], record[better] = projected[better], chance[better]
    return best


def _rows(workflow: Workflow, x: Array, chance: Array, known: Known, space: Space) -> list[dict[str, str]]:
    """Return a row of the pool for each composition."""
    if not len(x):
        return []
    distance, nearest = known.nearest(x)
    price, density = space.table.price(x), space.table.density(x)
    return [
        {
            "workflow": workflow,
            "composition (at.%)": formula_of(space.symbols, x[k].tolist()),
            "probability": f"{chance[k]:.4f}",
            "distance to known (at.%)": f"{100 * distance[k]:.1f}",
            "nearest known alloy": formula_of(space.symbols, nearest[k].tolist()),
            "price (USD/kg)": f"{price[k]:.4g}",
            "density (kg/m^3)": f"{density[k]:.0f}",
        }
        for k in range(len(x))
    ]


def _table(settings: Screen, rows: list[dict[str, str]], notes: tuple[str, ...]) -> Table:
    if not rows:
        raise StudyError(
            "screen: no composition meets the constraints: loosen number, bounds, distance, price or density"
        )
    shown = [row for w in settings.workflows for row in [r for r in rows if r["workflow"] == w][:SHOWN]]
    asked = f"{settings.target} = {settings.value:g}"
    return Table(f"Compositions with {asked}", tuple(rows[0]), tuple(tuple(row.values()) for row in shown),
                 (*notes, f"all {len(rows)}: {POOL}"))  # fmt: skip
