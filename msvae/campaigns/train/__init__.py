"""Train: a model of the data set, and the card that evaluates it."""

from __future__ import annotations

from msvae.campaigns.train.campaign import Train
from msvae.plugins import hook
from msvae.plugins.interfaces import Campaign


@hook
def msvae_campaigns() -> list[type[Campaign]]:
    """Announce the campaign."""
    return [Train]
