"""Plugins: the interfaces that they implement, how they are found, and the checks that they have to pass."""

from msvae.plugins.families import FAMILIES
from msvae.plugins.registration import (
    Announced,
    Loaded,
    Refused,
    Registry,
    add_file,
    discover,
    file_digest,
    hook,
    install,
    registry,
    settings_of,
)

__all__ = [
    "FAMILIES",
    "Announced",
    "Loaded",
    "Refused",
    "Registry",
    "add_file",
    "discover",
    "file_digest",
    "hook",
    "install",
    "registry",
    "settings_of",
]
