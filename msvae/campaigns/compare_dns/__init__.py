"""Compare DNS: a part of homogenised elements against one whose microstructure is resolved."""

from __future__ import annotations

from msvae.campaigns.compare_dns.campaign import CompareDns
from msvae.plugins import hook
from msvae.plugins.interfaces import Campaign


@hook
def msvae_campaigns() -> list[type[Campaign]]:
    """Announce the campaign."""
    return [CompareDns]
