"""Generated parts against the image: correlation and scatter of decoded fields beside those of real structures.

If the study says so, the real structures are of another region of the image than the field was fitted to.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from msvae.errors import StudyError
from msvae.metrics.regional import autocorrelation, block_scatter
from msvae.sampling.fields.latent_field import LatentField
from msvae.sampling.fields.settings import FieldSettings
from msvae.seeds import seed_of
from msvae.stages.context import Context
from msvae.stages.latent_field import cells_of, decoded_fractions, encoded, latent_field
from msvae.structures import Array
from msvae.vae.model import VAE

__all__ = ["compare_field"]

FILE = "field.json"
LAGS, EDGES = (1, 2, 3, 4), (1, 2, 4)


def compare_field(context: Context, vae: VAE) -> tuple[str, ...]:
    """Return in words how decoded samples of the run's field compare with the image; the numbers are in field.json."""
    settings = context.study.need(FieldSettings)
    grid = vae.blueprint.specification.grid
    pieces, latents, _ = encoded(context, vae, settings.against, "against")
    shape = tuple((b - a) // n for (a, b), n in zip(settings.against, grid.shape, strict=True))
    field = LatentField.load(latent_field(context, vae), vae)
    seed, measured = seed_of(context.study.seed, "field"), partial(decoded_fractions, vae, shape=shape)
    drawn = field.sample_on(cells_of(grid, shape), settings.parts, seed)
    rng = np.random.default_rng(seed)
    loose = [rng.permutation(z.reshape(-1, vae.latents)) for z in drawn]
    found = {
        "image": _statistics([pieces.fractions[:, -1].reshape(shape)]),
        "image, encoded and decoded": _statistics([measured(latents)]),
        "field": _statistics([measured(z) for z in drawn]),
        "uncorrelated latents": _statistics([measured(z) for z in loose]),
    }
    edges = [int(e) for e in np.array(EDGES) * grid.shape[0]]
    context.run.write_json(FILE, {"lags": LAGS, "edges": edges, "found": found,
                                  "phase": vae.blueprint.specification.constituents[-1]})  # fmt: skip
    k = max((i for i, s in enumerate(found["image"]["scatter"]) if s is not None), default=None)
    if k is None:
        raise StudyError(f"field.against: {settings.against} holds fewer than two structures: make it larger")
    real = found["image"]["scatter"][k]
    return tuple(
        f"{name}: correlation of neighbours {row['correlation'][0]:.2f}, scatter of blocks of {edges[k]} voxels "
        f"{row['scatter'][k] / real:.2f} of the image's"
        for name, row in found.items()
    )


def _statistics(parts: list[Array]) -> dict[str, Any]:
    """Return means over parts of their correlation at the lags and of the scatter over blocks; None for unknown."""
    means = {
        "correlation": [float(np.mean([autocorrelation(p, lag) for p in parts])) for lag in LAGS],
        "scatter": [float(np.mean([block_scatter(p, edge) for p in parts])) for edge in EDGES],
    }
    return {name: [v if np.isfinite(v) else None for v in values] for name, values in means.items()}
