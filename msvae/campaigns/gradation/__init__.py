"""Gradation: a part whose microstructure varies with position as a target requires."""

from __future__ import annotations

from msvae.campaigns.gradation.campaign import Gradation
from msvae.plugins import hook
from msvae.plugins.interfaces import Campaign


@hook
def msvae_campaigns() -> list[type[Campaign]]:
    """Announce the campaign."""
    return [Gradation]
