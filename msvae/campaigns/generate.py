"""Generate: train a conditional VAE, decode structures for asked conditions, and judge what was got."""

from __future__ import annotations

import numpy as np

from msvae.campaigns.context import Context, Table
from msvae.campaigns.train import scores, structure_head, trained, training_structures
from msvae.errors import StudyError
from msvae.seeds import seed_of
from msvae.settings import GenerateSettings
from msvae.structures import Array, Quantity, Structures
from msvae.vae.model import VAE, component_values, condition_values
from msvae.vae.training import split

__all__ = ["run"]

FILE = "generated.h5"
NEIGHBOURS = 200


def run(context: Context) -> Table:
    """Return, for each asked value, what the generated structures have according to the structure-space head."""
    settings = context.study.generate
    assert settings is not None
    condition = context.study.model.conditions[0]
    structures = training_structures(context)
    vae = trained(context, structures)
    head = structure_head(context, structures)
    if head is None or condition.property not in {q.name for q in head.quantities}:
        raise StudyError(
            f"{context.study.source.at(['structure_head', 'properties'])}: generated structures are judged by a "
            f"structure-space head, so it has to predict '{condition.property}'"
        )
    train, _ = split(structures, context.study.training.held_back, context.study.seed)
    asked, latents = questions(vae, structures[train], settings, seed=seed_of(context.study.seed, "generate"))
    generated = vae.decode(latents, asked)
    predicted = head.predict(generated)
    quantities = [*head.quantities, *(Quantity(f"asked_{k}", "1") for k in range(asked.shape[1]))]
    found = {**predicted, **{f"asked_{k}": asked[:, k] for k in range(asked.shape[1])}}
    context.run.save_structures(generated.with_properties(found, quantities), FILE)
    got = component_values(predicted, condition)
    rows = _rows(settings, got)
    held_back = "; ".join(" ".join(row) for row in scores(context, structures, vae, head))
    spread = np.median(np.abs(got - asked[:, 0]))
    return Table(
        f"Generated structures: asked and predicted {condition}",
        ("asked", "predicted: median", "5 %", "95 %", "median |error|"),
        tuple(rows),
        (f"median |predicted - asked| {spread:.4g}", f"held back: {held_back}"),
    )


def questions(vae: VAE, structures: Structures, settings: GenerateSettings, *, seed: int) -> tuple[Array, Array]:
    """Return the conditions (n, k) and the latents (n, d) of every structure to generate.

    Latents are posterior means of structures whose own conditions are near the asked ones, slightly perturbed: the
    aggregate posterior is not N(0, I), and what a decoder makes of latents that no structure has is not a structure.
    """
    rng = np.random.default_rng(seed)
    known = condition_values(structures, vae.blueprint.settings)
    scale = known.std(axis=0) + 1e-12
    latents = vae.encode(structures)
    chosen = []
    for row in settings.rows:
        nearest = np.argsort((np.abs(known - row) / scale).max(axis=1))[: max(NEIGHBOURS, settings.samples)]
        chosen.append(rng.choice(nearest, size=settings.samples, replace=len(nearest) < settings.samples))
    drawn = latents[np.concatenate(chosen)]
    return np.repeat(np.array(settings.rows), settings.samples, axis=0), drawn + 0.1 * rng.standard_normal(drawn.shape)


def _rows(settings: GenerateSettings, got: Array) -> list[tuple[str, ...]]:
    groups = got.reshape(len(settings.rows), settings.samples)
    return [
        (
            ", ".join(f"{v:g}" for v in row),
            f"{np.median(group):.5g}",
            f"{np.quantile(group, 0.05):.5g}",
            f"{np.quantile(group, 0.95):.5g}",
            f"{np.median(np.abs(group - row[0])):.4g}",
        )
        for row, group in zip(settings.rows, groups, strict=True)
    ]
