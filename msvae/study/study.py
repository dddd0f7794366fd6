"""The study: one TOML file, validated into typed values; every error is reported in one sentence.

A study is a set of tables. [dataset], [architecture] and [solver] name a plugin with `name = "..."`; their other keys
are that plugin's settings. `campaign = "..."` names a campaign, whose tables are its own. All other tables are those of
`msvae.study.settings`. A frozen study has every default written out.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import tomli_w

from msvae import plugins
from msvae.errors import PluginError, StudyError, did_you_mean
from msvae.plugins.interfaces import Architecture, Campaign, Dataset, Plugin, Searcher, Settings, Solver
from msvae.study.checks import check_executor
from msvae.study.settings import PluginFiles, Sections
from msvae.study.source import Source
from msvae.study.validation import validated

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["PLUGIN_TABLES", "Study", "campaign_tables", "load_plugin", "load_solver", "parse_assignment"]

PLUGIN_TABLES: Mapping[str, type[Plugin]] = {"dataset": Dataset, "architecture": Architecture, "solver": Solver}
DEFAULT_ARCHITECTURE = "convolutional"
WITHOUT_EFFECT = ("title", "executor", "limits", "cache", "store")  # on results: a resumed run may differ in them
Value = TypeVar("Value")
AnyPlugin = TypeVar("AnyPlugin", bound=Plugin | Searcher)


@dataclass(frozen=True, kw_only=True)
class Study(Sections):
    """A validated study: the core's tables as attributes, and the plugins that it names, with their settings.

    campaign: what is asked, with the settings of its own table. more: by name the tables that campaigns bring beside
    their own, and those of other campaigns, which change nothing; `find` and `need` give one by its class.
    """

    campaign: Campaign
    more: Mapping[str, Settings] = dataclasses.field(default_factory=dict)
    dataset: Dataset | None = None
    architecture: Architecture | None = None
    solver: Solver | None = None
    source: Source = dataclasses.field(default=Source("study", ""), compare=False, repr=False)

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> Study:
        """Return the study of a TOML file; overrides are "key.path=value" with a TOML value or a plain word.

        Raises StudyError (or PluginError) with the file, the line, what was found and what was expected.
        """
        file = Path(path)
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not a text file"
            raise StudyError(f"study '{file}' cannot be read: {reason}; give the path of a TOML file") from None
        return cls.parse(text, name=str(file), directory=file.parent, overrides=overrides)

    @classmethod
    def parse(cls, text: str, *, name: str = "study", directory: Path = Path(), overrides: Sequence[str] = ()) -> Study:
        """Return the study of a TOML text; plugin files are searched in `directory`."""
        try:
            tables = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise StudyError(f"study '{name}' is not TOML: {error}") from None
        except RecursionError:
            raise StudyError(f"study '{name}' is not a study: its brackets are nested too deep") from None
        for override in overrides:
            _assign(tables, *parse_assignment(override))
        return _build(tables, Source(name, text), directory)

    @cached_property
    def tables(self) -> dict[str, Any]:
        """Every key with its value, defaults included, as plain values; keys without a value are left out."""
        fields = [f for f in dataclasses.fields(self) if f.name not in ("source", "campaign", "more")]
        own = {self.campaign.table: self.campaign} if self.campaign.table in self.campaign.all_tables() else {}
        values = {f.name: getattr(self, f.name) for f in fields} | own | dict(self.more)
        plain = {"campaign": self.campaign.name} | {key: _plain(value) for key, value in values.items()}
        return {k: v for k, v in plain.items() if v is not None}

    def frozen(self) -> str:
        """Return the study as TOML with every default written out."""
        return tomli_w.dumps(self.tables)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over everything in the study that changes its results."""
        return hashlib.sha256(json.dumps(self._decisive, sort_keys=True).encode()).hexdigest()

    @property
    def _decisive(self) -> dict[str, Any]:
        without = {*WITHOUT_EFFECT, *(self.more.keys() - self.campaign.tables.keys())}
        return {k: v for k, v in self.tables.items() if k not in without}

    def difference(self, other: Study) -> str | None:
        """Return the first key in which two studies ask for different results, or None."""
        return _first_difference(self._decisive, other._decisive)

    @property
    def ranks_per_solver(self) -> int:
        """MPI ranks that run one evaluation together."""
        return self.executor.ranks_per_solver or (self.solver.ranks if self.solver else 1)

    def find(self, table: type[Value]) -> Value | None:
        """Return the study's table of this class, or None if it has none."""
        return next((t for t in (self.campaign, *self.more.values()) if isinstance(t, table)), None)

    def need(self, table: type[Value]) -> Value:
        """Return the study's table of this class; StudyError if it has none."""
        found = self.find(table)
        if found is None:
            key = next((k for k, cls in self.campaign.tables.items() if cls is table), table.__name__)
            raise _lacks(key, self.campaign.name, self.source)
        return found

    def need_dataset(self) -> Dataset:
        """Return the data set; StudyError if the study names none."""
        return self._needed(self.dataset, "dataset")

    def need_solver(self) -> Solver:
        """Return the solver; StudyError if the study names none."""
        return self._needed(self.solver, "solver")

    def _needed(self, value: Value | None, table: str) -> Value:
        if value is None:
            raise StudyError(
                f"{self.source.at([])} has no [{table}], which campaign '{self.campaign.name}' needs: add the "
                f"table with name = ... (see `msvae plugin list`)"
            )
        return value


def load_solver(name: str, **settings: Any) -> Solver:
    """Return a solver plugin with these settings, checked as in a study.

    >>> load_solver("conductivity", phases=[{"conductivity": 1.0}, {"conductivity": 2.0}]).name
    'conductivity'
    """
    return load_plugin(Solver, {"name": name, **settings}, Source("load_solver", ""))


def parse_assignment(text: str) -> tuple[list[str], Any]:
    """Return the key path and the value of "key.path=value"; the value is TOML, or else a plain word.

    >>> parse_assignment("training.epochs=3"), parse_assignment("dataset.path=../data")
    ((['training', 'epochs'], 3), (['dataset', 'path'], '../data'))
    """
    key, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", key.strip()):
        raise StudyError(f"--set takes key.path=value, found '{text}'")
    try:
        return key.strip().split("."), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip().split("."), value


def _assign(tables: dict[str, Any], path: list[str], value: Any) -> None:
    for key in path[:-1]:
        tables = tables.setdefault(key, {})
        if not isinstance(tables, dict):
            raise StudyError(f"--set {'.'.join(path)}: '{key}' is a value, not a table")
    tables[path[-1]] = value


def _build(tables: dict[str, Any], source: Source, directory: Path) -> Study:
    """Validate every table, and the consistency between tables."""
    files = validated(PluginFiles, {k: v for k, v in tables.items() if k == "plugin_files"}, source, ())
    for file in files.plugin_files:
        plugins.add_file((directory / file).resolve())
    brought = campaign_tables()
    known = {"campaign", *PLUGIN_TABLES, *brought, *(f.name for f in dataclasses.fields(Sections))}
    for key in sorted(tables.keys() - known):
        raise StudyError(
            f"{source.at([key])}: unknown key{did_you_mean(key, known)} (known: {', '.join(sorted(known))})"
        )
    campaign = _campaign(tables, source)
    more = {k: validated(cls, tables[k], source, (k,)) for k, cls in brought.items() if k in tables}
    more.pop(campaign.table, None)
    core = {k: v for k, v in tables.items() if k not in {"campaign", *PLUGIN_TABLES, *brought}}
    sections = validated(Sections, core, source, ())
    named = {"architecture": {"name": DEFAULT_ARCHITECTURE}, **{k: tables[k] for k in PLUGIN_TABLES if k in tables}}
    built: dict[str, Any] = {f: load_plugin(PLUGIN_TABLES[f], table, source) for f, table in named.items()}
    values = {f.name: getattr(sections, f.name) for f in dataclasses.fields(Sections)}
    study = Study(**values, **built, campaign=campaign, more=more, source=source)
    check_executor(study)
    campaign.check(study)
    return study


def campaign_tables() -> dict[str, type[Settings]]:
    """Return the classes of the installed campaigns' tables, by name."""
    found: dict[str, type[Settings]] = {}
    for campaign in plugins.registry().campaigns:
        found |= campaign.all_tables()
    taken = found.keys() & {"campaign", *PLUGIN_TABLES, *(f.name for f in dataclasses.fields(Sections))}
    if taken:
        raise PluginError(f"a campaign brings a table [{min(taken)}], which every study has: rename it")
    return found


def _campaign(tables: Mapping[str, Any], source: Source) -> Campaign:
    """Return the campaign that a study names, with the settings of its table."""
    name = tables.get("campaign")
    known = {campaign.name: campaign for campaign in plugins.registry().campaigns}
    if not isinstance(name, str) or name not in known:
        found = "missing and has no default: add it" if name is None else f"found {json.dumps(name, default=str)[:80]}"
        near = did_you_mean(name, known) if isinstance(name, str) else ""
        raise StudyError(f"{source.at(['campaign'])}: {found}{near} (one of {', '.join(sorted(known))})")
    campaign = known[name]
    for table in campaign.needs:
        if table not in tables:
            raise _lacks(table, name, source)
    if campaign.table not in tables and _required(campaign):
        raise _lacks(campaign.table, name, source)
    own = tables.get(campaign.table, {}) if campaign.table in campaign.all_tables() else {}
    return validated(campaign, own, source, (campaign.table,))


def _required(campaign: type[Campaign]) -> bool:
    """Return whether a campaign has settings without a default."""
    missing = dataclasses.MISSING
    return any(f.default is missing and f.default_factory is missing for f in dataclasses.fields(campaign))


def _lacks(table: str, campaign: str, source: Source) -> StudyError:
    return StudyError(f"{source.at([])} has no [{table}], which campaign '{campaign}' needs")


def load_plugin(
    interface: type[AnyPlugin], table: Any, source: Source, place: tuple[str, ...] | None = None
) -> AnyPlugin:
    """Return the plugin of an interface that a table names, with the table's other keys as its settings.

    place: the table's key in the study; by default that of the family.
    """
    path = place or (next(f for f, i in plugins.FAMILIES.items() if i is interface),)
    if not isinstance(table, dict) or not isinstance(table.get("name"), str):
        raise StudyError(f'{source.at(path)}: expected a table with name = "...", found {table!r}')
    try:
        plugin = plugins.registry().find(interface, table["name"])
    except PluginError as error:
        raise PluginError(f"{source.at([*path, 'name'])}: {error}") from None
    settings = {k: v for k, v in table.items() if k != "name"}
    return validated(plugin, settings, source, path)


def _plain(value: Any) -> Any:
    """Convert a settings value to TOML types: None left out, tuples as lists, plugins with their name."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        named = {"name": value.name} if isinstance(value, Plugin) else {}
        items = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return named | {k: v for k, v in items.items() if v is not None}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items() if v is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def _first_difference(a: Any, b: Any, path: str = "") -> str | None:
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(a.keys() | b.keys()):
            found = _first_difference(a.get(key), b.get(key), f"{path}.{key}".lstrip("."))
            if found:
                return found
        return None
    return None if a == b else f"{path} is {a!r} there and {b!r} here"
