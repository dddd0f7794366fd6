"""Training of the heads alone, with encoder and decoder frozen."""

from __future__ import annotations

import torch

from msvae.seeds import seed_of
from msvae.structures import Array
from msvae.vae.model import VAE

__all__ = ["refit_heads"]


def refit_heads(
    vae: VAE, latents: Array, properties: dict[str, Array], *, seed: int, steps: int = 300, weights: Array | None = None
) -> None:
    """Train only the heads, on latents (n, d) and their properties (n, *shape); encoder and decoder are frozen.

    weights: (n,) relative sampling weights of the rows.
    """
    generator = torch.Generator().manual_seed(seed_of(seed, "heads"))
    z = torch.as_tensor(latents, dtype=torch.float32)
    chances = torch.ones(len(z)) if weights is None else torch.as_tensor(weights, dtype=torch.float32)
    targets = {name: vae.scale_of(name)(torch.as_tensor(properties[name].reshape(len(z), -1))) for name in vae.heads}
    optimiser = torch.optim.AdamW(vae.heads.parameters(), lr=2e-3, weight_decay=1e-3)
    for _ in range(steps):
        chosen = torch.multinomial(chances, min(64, len(z)), replacement=True, generator=generator)
        loss = torch.stack(
            [-(vae.heads[name](z[chosen]).log_prob(targets[name][chosen])).mean() for name in vae.heads]
        ).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.heads.parameters(), 5.0)
        optimiser.step()
