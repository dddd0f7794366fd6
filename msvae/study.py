"""The study: one TOML file, validated into typed values, with one sentence for each mistake.

A study is a set of tables. [dataset], [architecture] and [solver] name a plugin with `name = "..."`; their other keys
are that plugin's settings. All other tables are those of `msvae.settings`. A frozen study has every default
written out.
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
from pydantic import TypeAdapter, ValidationError

from msvae import plugins
from msvae.errors import MsvaeError, PluginError, StudyError, did_you_mean
from msvae.interfaces import Architecture, Dataset, Plugin, Solver
from msvae.part_settings import PushForwardSettings
from msvae.settings import Component, DesignSettings, GenerateSettings, Sections
from msvae.study_source import Source

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Study", "load_plugin", "load_solver", "parse_assignment"]

PLUGIN_TABLES: Mapping[str, type[Plugin]] = plugins.FAMILIES
UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")  # pydantic's names of an unknown key
DEFAULT_ARCHITECTURE = "convolutional"
WITHOUT_EFFECT = ("title", "executor", "limits", "cache", "store")  # on results: a resumed run may differ in them
NEEDED = {  # tables of a campaign
    "generate": ("generate",),
    "inverse-design": ("design",),
    "compare-dns": ("part", "dns"),
    "push-forward": ("push_forward",),
    "gradation": ("gradation",),
}
Value = TypeVar("Value")
AnyPlugin = TypeVar("AnyPlugin", bound=Plugin)


@dataclass(frozen=True, kw_only=True)
class Study(Sections):
    """A validated study: the core's tables as attributes, and the plugins that it names, with their settings."""

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
        """Return the study of a TOML text; plugin files are looked for beside `directory`."""
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
        fields = [f for f in dataclasses.fields(self) if f.name != "source"]
        plain = {f.name: _plain(getattr(self, f.name)) for f in fields}
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
        return {k: v for k, v in self.tables.items() if k not in WITHOUT_EFFECT}

    def difference(self, other: Study) -> str | None:
        """Return the first key in which two studies ask for different results, or None."""
        return _first_difference(self._decisive, other._decisive)

    @property
    def ranks_per_solver(self) -> int:
        """MPI ranks that run one evaluation together."""
        return self.executor.ranks_per_solver or (self.solver.ranks if self.solver else 1)

    def need_dataset(self) -> Dataset:
        """Return the data set; StudyError if the study names none."""
        return self._needed(self.dataset, "dataset")

    def need_solver(self) -> Solver:
        """Return the solver; StudyError if the study names none."""
        return self._needed(self.solver, "solver")

    def _needed(self, value: Value | None, table: str) -> Value:
        if value is None:
            raise StudyError(
                f"{self.source.at([])} has no [{table}], which campaign '{self.campaign}' needs: add the "
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
    """Validate every table and the ways in which they depend on each other."""
    core = {k: v for k, v in tables.items() if k not in PLUGIN_TABLES}
    unknown = set(core) - {f.name for f in dataclasses.fields(Sections)}
    if unknown:
        key = min(unknown)
        known = [*PLUGIN_TABLES, *(f.name for f in dataclasses.fields(Sections))]
        raise StudyError(
            f"{source.at([key])}: unknown key{did_you_mean(key, known)} (known: {', '.join(sorted(known))})"
        )
    sections = _validated(Sections, core, source, ())
    for file in sections.plugin_files:
        plugins.add_file((directory / file).resolve())
    named = {"architecture": {"name": DEFAULT_ARCHITECTURE}, **{k: tables[k] for k in PLUGIN_TABLES if k in tables}}
    built: dict[str, Any] = {f: load_plugin(PLUGIN_TABLES[f], table, source) for f, table in named.items()}
    values = {f.name: getattr(sections, f.name) for f in dataclasses.fields(Sections)}
    study = Study(**values, **built, source=source)
    _check(study)
    return study


def load_plugin(interface: type[AnyPlugin], table: Any, source: Source) -> AnyPlugin:
    """Return the plugin of an interface that a table names, with the table's other keys as its settings."""
    family = next(f for f, i in PLUGIN_TABLES.items() if i is interface)
    if not isinstance(table, dict) or not isinstance(table.get("name"), str):
        raise StudyError(f'{source.at([family])}: expected a table with name = "...", found {table!r}')
    try:
        plugin = plugins.registry().find(interface, table["name"])
    except PluginError as error:
        raise PluginError(f"{source.at([family, 'name'])}: {error}") from None
    settings = {k: v for k, v in table.items() if k != "name"}
    return _validated(plugin, settings, source, (family,))


def _validated(cls: type[Value], table: Mapping[str, Any], source: Source, path: tuple[str, ...]) -> Value:
    """Return the dataclass that a table describes; StudyError for the first mistake in it."""
    try:
        text = json.dumps(table)
    except TypeError:
        raise StudyError(f"{source.at(path)}: dates and times have no meaning here") from None
    if "\\u0000" in text:
        raise StudyError(f"{source.at(path)}: a zero byte (\\u0000) has no meaning here: leave it out")
    try:
        return TypeAdapter(cls).validate_json(text, strict=True)
    except ValidationError as error:
        raise StudyError(_sentence(error, cls, source, path)) from None
    except MsvaeError as error:
        raise StudyError(f"{source.at(path)}: {error}") from None


def _sentence(error: ValidationError, cls: type[Any], source: Source, path: tuple[str, ...]) -> str:
    """Return one sentence for the first of pydantic's errors: place, found, expected, nearest known key."""
    faults = error.errors(include_url=False)
    first = next((f for f in faults if f["type"] in UNKNOWN), faults[0])  # a misspelt key is also a missing one
    place = [*path, *(p for p in first["loc"] if not (isinstance(p, str) and ("[" in p or p in ("int", "float"))))]
    kind, found = first["type"], json.dumps(first["input"], default=str)
    found = found if len(found) <= 80 else found[:77] + "..."
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if kind in UNKNOWN:
        known = _known_keys(cls, [str(p) for p in first["loc"][:-1]])
        key = str(place[-1])
        listed = f" (known: {', '.join(sorted(known))})" if known else ""
        return f"{source.at(place)}: unknown key{did_you_mean(key, known)}{listed}{more}"
    if kind in ("missing", "missing_argument"):
        return f"{source.at(place)}: this key is missing and has no default: add it{more}"
    message = first["msg"].removeprefix("Value error, ").replace("Input should be", "expected", 1)
    return f"{source.at(place)}: found {found}, {message[0].lower() + message[1:]}{more}"


def _known_keys(cls: type[Any], path: Sequence[str]) -> list[str]:
    """Return the keys of the table at a path below a settings class, read from its JSON schema."""
    whole = TypeAdapter(cls).json_schema()
    node: Any = whole
    for step in [*path, None]:
        while "$ref" in node or "anyOf" in node:
            options = node.get("anyOf", [node])
            node = next((o for o in options if "$ref" in o or "properties" in o or "items" in o), {})
            node = whole["$defs"][node["$ref"].rsplit("/", 1)[1]] if "$ref" in node else node
        if step is not None:
            node = node.get("items", {}) if step.isdigit() else node.get("properties", {}).get(step, {})
    return list(node.get("properties", {}))


def _check(study: Study) -> None:
    """Raise StudyError where tables that are right by themselves do not fit each other."""
    _check_executor(study)
    for table in NEEDED.get(study.campaign, ()):
        if getattr(study, table) is None:
            raise StudyError(f"{study.source.at([])} has no [{table}], which campaign '{study.campaign}' needs")
    if study.generate is not None and study.campaign == "generate":
        _check_generate(study, study.generate)
    if study.push_forward is not None and study.campaign == "push-forward":
        _check_push_forward(study, study.push_forward)
    if study.solver is not None:
        declared = {q.name: q for q in study.solver.computes}
        for kind in ("targets", "objectives") if study.design is not None else ():
            for k, wanted in enumerate(getattr(study.design, kind)):
                _check_component(wanted.of, declared, study.source, ["design", kind, k])
    if study.design is not None and study.campaign == "inverse-design":
        _check_design(study, study.design)


def _check_design(study: Study, design: DesignSettings) -> None:
    """Raise StudyError where a searcher lacks what leads it: heads, or conditions that the targets give."""
    if design.searcher == "conditional" and not study.model.conditions:
        raise StudyError(f"{study.source.at(['design', 'searcher'])}: 'conditional' needs model.conditions")
    given = {(t.property, t.component) for t in design.targets if t.value is not None}
    for k, condition in enumerate(study.model.conditions):
        if (condition.property, condition.component) not in given:
            raise StudyError(
                f"{study.source.at(['model', 'conditions', k])}: a design needs a value of '{condition}': it "
                "has to be among design.targets"
            )
    if design.searcher in ("composite", "gaussian-process") and design.targets:
        missing = {t.property for t in design.targets} - set(study.model.heads)
        if missing:
            raise StudyError(
                f"{study.source.at(['model', 'heads'])}: searcher '{design.searcher}' is led by the heads, so "
                f"model.heads has to name every targeted property; '{min(missing)}' is missing"
            )


def _check_push_forward(study: Study, wanted: PushForwardSettings) -> None:
    """Raise StudyError where what is pushed forward is not computed by anything."""
    if wanted.quantity:
        for table in ("part", "field"):
            if getattr(study, table) is None:
                raise StudyError(
                    f"{study.source.at(['push_forward', 'quantity'])}: a quantity of a part needs [{table}]; for "
                    "a single structure give property (and component) instead"
                )
        assert study.part is not None
        if wanted.quantity not in study.part.quantities:
            raise StudyError(
                f"{study.source.at(['push_forward', 'quantity'])}: found '{wanted.quantity}', which is not among "
                f"part.quantities: {', '.join(study.part.quantities) or 'it is empty'}"
            )
    else:
        declared = {q.name: q for q in study.need_solver().computes}
        _check_component(wanted.of, declared, study.source, ["push_forward"])
    needed = wanted.property or (study.part.property if study.part else "")
    for fidelity in (wanted.fidelity, *wanted.cheap):
        head = study.structure_head
        if fidelity == "head" and needed not in study.model.heads:
            raise StudyError(f"{study.source.at(['model', 'heads'])}: fidelity 'head' needs a head for '{needed}'")
        if fidelity == "structure-head" and (head is None or needed not in head.properties):
            raise StudyError(
                f"{study.source.at(['structure_head', 'properties'])}: fidelity 'structure-head' needs '{needed}' there"
            )


def _check_executor(study: Study) -> None:
    settings = study.executor
    if settings.isolation == "none":
        for key in ("timeout", "memory_limit"):
            together = key == "timeout" and study.ranks_per_solver > 1  # a group is given up
            if getattr(settings, key) is not None and not together:
                raise StudyError(
                    f"{study.source.at(['executor', key])}: an evaluation can only be ended in a process of its own: "
                    'add executor.isolation = "process"'
                )
    elif study.ranks_per_solver > 1:
        raise StudyError(
            f"{study.source.at(['executor', 'isolation'])}: a process of its own has no other MPI ranks, but "
            f'{study.ranks_per_solver} ranks run the solver together: take isolation = "none" or ranks_per_solver = 1'
        )


def _check_generate(study: Study, wanted: GenerateSettings) -> None:
    if wanted.verify is not None:
        declared = {q.name: q for q in study.need_solver().computes}
        _check_component(wanted.verify, declared, study.source, ["generate", "verify"])
    width = len(study.model.conditions)
    if width == 0:
        raise StudyError(
            f"{study.source.at(['model', 'conditions'])}: campaign 'generate' needs at least one condition"
        )
    for k, row in enumerate(wanted.rows):
        if len(row) != width:
            raise StudyError(
                f"{study.source.at(['generate', 'values', k])}: found {len(row)} values, expected one for "
                f"each of the {width} conditions"
            )
    judged, head = study.model.conditions[0].property, study.structure_head
    if head is None or judged not in head.properties:
        raise StudyError(
            f"{study.source.at(['structure_head', 'properties'])}: generated structures are judged by a "
            f"structure-space head, so it has to predict '{judged}'"
        )


def _check_component(
    component: Component, declared: Mapping[str, Any], source: Source, path: Sequence[str | int]
) -> None:
    if component.property not in declared:
        raise StudyError(
            f"{source.at([*path, 'property'])}: nothing computes '{component.property}'"
            f"{did_you_mean(component.property, declared)} (computed: {', '.join(sorted(declared))})"
        )
    unit = declared[component.property].unit
    if component.unit is not None and component.unit != unit:
        raise StudyError(
            f"{source.at([*path, 'unit'])}: found '{component.unit}', but '{component.property}' is in "
            f"'{unit}': units are not converted, give the value in '{unit}'"
        )


def _plain(value: Any) -> Any:
    """Return a settings value as what TOML can hold: None left out, tuples as lists, plugins with their name."""
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
