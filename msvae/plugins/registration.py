"""Registration of plugins: announcement, discovery and checks of data sets, architectures, solvers and others.

The whole contract is five hooks without arguments that return classes (and one, msvae_evaluated, that only observes):

    import msvae

    @msvae.hook
    def msvae_solvers():
        return [MySolver]

A distribution names the module with these functions in its entry points (`[project.entry-points.msvae]`); a study may
name a file instead (`plugin_files = ["my_solver.py"]`). This is the only file that imports pluggy.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import pluggy

from msvae.errors import PluginError, did_you_mean
from msvae.plugins.families import FAMILIES, HOOK_OF, check_class
from msvae.plugins.files import digest_of, import_file, module_name
from msvae.plugins.interfaces import Architecture, Campaign, Dataset, Plugin, Searcher, Solver
from msvae.plugins.keys import Key, keys_of
from msvae.structures.evaluations import Evaluation

NESTED = 2  # tables inside of tables that are described

__all__ = [
    "Announced",
    "Loaded",
    "Refused",
    "Registry",
    "discover",
    "file_digest",
    "hook",
    "install",
    "registry",
]

log = logging.getLogger(__name__)
hook = pluggy.HookimplMarker("msvae")
_specification = pluggy.HookspecMarker("msvae")


class Hooks:
    """The hooks; each returns a list of classes."""

    @_specification
    def msvae_datasets(self) -> list[type[Dataset]]:  # type: ignore[empty-body]
        """Return the data sets that the plugin offers."""

    @_specification
    def msvae_architectures(self) -> list[type[Architecture]]:  # type: ignore[empty-body]
        """Return the architectures that the plugin offers."""

    @_specification
    def msvae_solvers(self) -> list[type[Solver]]:  # type: ignore[empty-body]
        """Return the solvers that the plugin offers."""

    @_specification
    def msvae_campaigns(self) -> list[type[Campaign]]:  # type: ignore[empty-body]
        """Return the campaigns that the plugin offers."""

    @_specification
    def msvae_searchers(self) -> list[type[Searcher]]:  # type: ignore[empty-body]
        """Return the searchers that the plugin offers."""

    @_specification
    def msvae_evaluated(self, evaluation: Evaluation) -> None:
        """Observe an evaluation that has been written to the run; exceptions are logged and have no other effect."""


@dataclass(frozen=True)
class Announced:
    """An entry point: its name, its module, and its distribution."""

    name: str
    module: str
    distribution: str


@dataclass(frozen=True)
class Loaded:
    """A plugin class and where it came from."""

    plugin: type[Plugin | Campaign | Searcher]
    family: str
    distribution: str
    module: str


@dataclass(frozen=True)
class Refused:
    """A plugin that did not load, and why."""

    name: str
    distribution: str
    reason: str


AnyPlugin = TypeVar("AnyPlugin", bound=Plugin | Campaign | Searcher)


def _new_manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager("msvae")
    manager.add_hookspecs(Hooks)
    return manager


@dataclass
class Registry:
    """The plugins that loaded, by name, and those that did not."""

    manager: pluggy.PluginManager = field(default_factory=_new_manager)
    loaded: dict[tuple[str, str], Loaded] = field(default_factory=dict)
    refused: list[Refused] = field(default_factory=list)

    def find(self, interface: type[AnyPlugin], name: str) -> type[AnyPlugin]:
        """Return the class of this name; PluginError with the known names and what did not load."""
        family = next(key for key, value in FAMILIES.items() if value is interface)
        if (family, name) in self.loaded:
            plugin: Any = self.loaded[family, name].plugin
            return plugin  # type: ignore[no-any-return]
        known = sorted(n for f, n in self.loaded if f == family)
        broken = "".join(f"; plugin '{r.name}' did not load: {r.reason}" for r in self.refused)
        raise PluginError(
            f"no {family} is called '{name}'{did_you_mean(name, known)} (known: {', '.join(known) or 'none'}{broken})"
        )

    @property
    def campaigns(self) -> list[type[Campaign]]:
        """The campaigns, by name."""
        found = (e.plugin for (family, _), e in sorted(self.loaded.items()) if family == "campaign")
        return [plugin for plugin in found if issubclass(plugin, Campaign)]

    def named(self, name: str) -> list[Loaded]:
        """Return the plugins of any family with this name; PluginError if there is none."""
        found = [entry for (_, n), entry in sorted(self.loaded.items()) if n == name]
        if found:
            return found
        known = sorted({n for _, n in self.loaded})
        why = "".join(f"; it did not load: {r.reason}" for r in self.refused if r.name == name)
        raise PluginError(f"no plugin is called '{name}'{did_you_mean(name, known)} (known: {', '.join(known)}{why})")

    def observe(self, evaluations: Iterable[Evaluation]) -> None:
        """Show evaluations to the plugins that observe them."""
        observers = self.manager.hook.msvae_evaluated.get_hookimpls()
        for evaluation in evaluations if observers else ():
            for observer in observers:
                try:
                    observer.function(evaluation)
                except Exception as error:  # a border: a stranger's observer may raise anything
                    log.warning("plugin '%s' raised in msvae_evaluated: %r", observer.plugin_name, error)

    def add(self, announced: Announced, importer: Callable[[], ModuleType]) -> str | None:
        """Load one plugin; return None, or the reason why it was refused. A refused plugin leaves no trace."""
        module = None
        try:
            module = importer()
            self.manager.register(module, name=f"{announced.distribution}:{announced.name}")
            self.manager.check_pending()
            for entry in self._offered(module, announced.distribution):
                self.loaded[entry.family, entry.plugin.name] = entry
        except Exception as error:  # a border: a stranger's module may raise anything
            if module is not None and self.manager.is_registered(module):
                self.manager.unregister(module)
            reason = f"{type(error).__name__}: {error}" if not isinstance(error, PluginError) else str(error)
            self.refused.append(Refused(announced.name, announced.distribution, reason))
            return reason
        return None

    def _offered(self, module: ModuleType, distribution: str) -> list[Loaded]:
        """Return the checked classes that the module's hooks announce; PluginError at the first fault."""
        offered: list[Loaded] = []
        for family, hook_name in HOOK_OF.items():
            for implementation in getattr(self.manager.hook, hook_name).get_hookimpls():
                if implementation.plugin is not module:
                    continue
                for plugin in implementation.function():
                    offered.append(Loaded(plugin, family, distribution, module.__name__))
                    self._check(offered)
        observers = self.manager.hook.msvae_evaluated.get_hookimpls()
        if not offered and all(o.plugin is not module for o in observers):
            raise PluginError(
                f"module '{module.__name__}' announces nothing: define one of {', '.join(HOOK_OF.values())} or "
                "msvae_evaluated, and mark it with @msvae.hook"
            )
        return offered

    def _check(self, offered: list[Loaded]) -> None:
        """Check the class offered last: its form, and that its name is unique."""
        entry = offered[-1]
        check_class(entry.plugin, entry.family)
        if issubclass(entry.plugin, Campaign):
            self._check_tables(entry.plugin)
        duplicates = [
            e
            for e in [*self.loaded.values(), *offered[:-1]]
            if (e.family, e.plugin.name) == (entry.family, entry.plugin.name)
        ]
        if duplicates:
            raise PluginError(
                f"{entry.family} '{entry.plugin.name}' of distribution '{entry.distribution}' has the name "
                f"of one in '{duplicates[0].distribution}': rename or uninstall one of them"
            )

    def _check_tables(self, campaign: type[Campaign]) -> None:
        """Raise PluginError for a table name used by a plugin, the core, or another class in another campaign."""
        for other in self.campaigns:
            theirs = other.all_tables()
            for key, table in campaign.all_tables().items():
                if theirs.get(key, table) is not table:
                    raise PluginError(
                        f"campaign '{campaign.name}' brings a table [{key}], which is another one in campaign "
                        f"'{other.name}': rename it"
                    )


def discover() -> tuple[Announced, ...]:
    """Return every entry point of the group "msvae": first-party ones first, then by distribution and name."""
    found = (Announced(e.name, e.value, e.dist.name if e.dist else "?") for e in entry_points(group="msvae"))
    return tuple(sorted(set(found), key=lambda a: (a.distribution != "msvae", a.distribution, a.name)))


def build(announced: Iterable[Announced]) -> Registry:
    """Return a registry with these entry points, each loaded independently."""
    result = Registry()
    for item in announced:
        result.add(item, lambda module=item.module: importlib.import_module(module))  # type: ignore[misc]
    return result


_registry: Registry | None = None


def registry() -> Registry:
    """Return the process's registry, found on first use."""
    return _registry if _registry is not None else install(discover())


def install(announced: Iterable[Announced]) -> Registry:
    """Make these entry points the process's registry: under MPI only rank 0 scans, and broadcasts the result."""
    global _registry  # noqa: PLW0603 - the one piece of module-level state: what is installed does not change
    _registry = build(announced)
    return _registry


def add_file(path: Path) -> None:
    """Load the plugin file that a study names; PluginError if that fails. A copy of a file is the same plugin."""
    name = module_name(path)
    if name in sys.modules:
        return
    reason = registry().add(Announced(path.stem, name, str(path)), lambda: import_file(path))
    if reason is not None:
        registry().refused.pop()
        sys.modules.pop(name, None)
        raise PluginError(f"plugin file '{path}' did not load: {reason}")


def file_digest(plugin: type[Plugin]) -> str | None:
    """Return the first 16 hex digits of the SHA-256 of the file that announces a plugin; None if it is installed.

    The hash includes the files in its folder that it imports.
    """
    return next((digest_of(e.module) for e in registry().loaded.values() if e.plugin is plugin), None)


def settings_of(table: type[Any], prefix: str = "") -> Iterator[tuple[type[Any], str, Key, str]]:
    """Yield (class, key, annotation, default) of each setting of a plugin class, and of the tables inside of it."""
    for item in dataclasses.fields(table):
        default = item.default_factory() if item.default_factory is not dataclasses.MISSING else item.default
        key = keys_of(table).get(item.name, Key("any"))
        yield table, prefix + item.name, key, "required" if default is dataclasses.MISSING else _in_toml(default)
        for mark, inner in key.tables:
            if not prefix.startswith(f"{item.name}[") and prefix.count(".") < NESTED:
                yield from settings_of(inner, f"{prefix}{item.name}{mark}.")


def _in_toml(value: object) -> str:
    """Return a default as a study would write it; "" for what is left out."""
    if value is None:
        return ""
    if isinstance(value, Path):
        return json.dumps(str(value))
    return json.dumps(list(value) if isinstance(value, tuple) else value, default=str)
