"""Label: the properties of a data set."""

from __future__ import annotations

from msvae.campaigns.label.campaign import Label
from msvae.plugins import hook
from msvae.plugins.interfaces import Campaign


@hook
def msvae_campaigns() -> list[type[Campaign]]:
    """Announce the campaign."""
    return [Label]
