"""Traverse: one property changes along its axis of the latents, the others are held."""

from __future__ import annotations

from msvae.campaigns.traverse.campaign import Traverse
from msvae.plugins import hook
from msvae.plugins.interfaces import Campaign


@hook
def msvae_campaigns() -> list[type[Campaign]]:
    """Announce the campaign."""
    return [Traverse]
