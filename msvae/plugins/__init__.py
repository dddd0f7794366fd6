"""Plugins: their interfaces, their discovery, and their conformance checks."""

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
