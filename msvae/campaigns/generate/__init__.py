"""Generate: structures for given values of the conditions."""

from __future__ import annotations

from msvae.campaigns.generate.campaign import Generate
from msvae.plugins import hook
from msvae.plugins.interfaces import Campaign


@hook
def msvae_campaigns() -> list[type[Campaign]]:
    """Announce the campaign."""
    return [Generate]
