"""Inverse design: structures whose solver-verified properties meet targets."""

from __future__ import annotations

from msvae.campaigns.design.campaign import InverseDesign
from msvae.plugins import hook
from msvae.plugins.interfaces import Campaign


@hook
def msvae_campaigns() -> list[type[Campaign]]:
    """Announce the campaign."""
    return [InverseDesign]
