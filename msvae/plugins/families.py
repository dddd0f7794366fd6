"""The families of plugins: their interfaces, the hooks that announce them, and the requirements on their classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msvae.errors import PluginError
from msvae.plugins.interfaces import Architecture, Campaign, Dataset, Plugin, Searcher, Solver
from msvae.structures import KINDS

__all__ = ["FAMILIES", "HOOK_OF", "check_class"]

FAMILIES: Mapping[str, type[Plugin | Campaign | Searcher]] = {
    "dataset": Dataset,
    "architecture": Architecture,
    "solver": Solver,
    "campaign": Campaign,
    "searcher": Searcher,
}
HOOK_OF = {
    "dataset": "msvae_datasets",
    "architecture": "msvae_architectures",
    "solver": "msvae_solvers",
    "campaign": "msvae_campaigns",
    "searcher": "msvae_searchers",
}


def check_class(plugin: Any, family: str) -> None:
    """Raise PluginError unless this is a well-formed plugin class of its family."""
    interface = FAMILIES[family]
    if not (isinstance(plugin, type) and issubclass(plugin, interface)):
        raise PluginError(f"{HOOK_OF[family]} returned {plugin!r}, expected a subclass of msvae.{interface.__name__}")
    if "__dataclass_params__" not in vars(plugin):
        raise PluginError(f"{plugin.__name__} is not a dataclass: write @dataclass(frozen=True) above it")
    if not isinstance(getattr(plugin, "name", None), str):
        raise PluginError(f"{plugin.__name__} has no class attribute 'name'")
    missing = sorted(getattr(plugin, "__abstractmethods__", ()))
    if missing:
        raise PluginError(f"{plugin.__name__} lacks the method {', '.join(missing)}")
    unknown = sorted(set(plugin.kinds) - set(KINDS)) if issubclass(plugin, Plugin) else []
    if unknown:
        raise PluginError(f"{plugin.__name__}.kinds names {', '.join(unknown)}, expected some of {', '.join(KINDS)}")
    if issubclass(plugin, Solver) and not plugin.computes:
        raise PluginError(f"{plugin.__name__} has no class attribute 'computes' with the Quantity of each property")
