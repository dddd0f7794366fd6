"""The JSON schema of a study: every table and every plugin's settings, described, for editors and validators."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import TypeAdapter

from msvae import plugins
from msvae.study.settings import Sections
from msvae.study.study import PLUGIN_TABLES, campaign_tables

__all__ = ["descriptions", "schema"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Json = dict[str, Any]


def schema() -> Json:
    """Return the JSON schema (draft 2020-12) of a whole study, with the settings of every plugin that is installed.

    A table that names a plugin of a file (`plugin_files`) is accepted as it is; so are the tables of a file's campaign.
    """
    loaded = plugins.registry().loaded
    adapters = [("study", TypeAdapter[Any](Sections))]
    adapters += [(f"{family} {name}", TypeAdapter[Any](entry.plugin)) for (family, name), entry in loaded.items()]
    adapters += [(f"table {key}", TypeAdapter[Any](cls)) for key, cls in campaign_tables().items()]
    tables, shared = TypeAdapter.json_schemas([(key, "validation", adapter) for key, adapter in adapters])
    definitions: dict[str, Json] = shared.get("$defs", {})
    found = {key: _resolved(table, definitions) for (key, _), table in tables.items()}
    whole = found.pop("study")
    for (family, name), entry in loaded.items():
        _describe(found[f"{family} {name}"], entry.plugin)
    for family in PLUGIN_TABLES:
        named = [name for kind, name in loaded if kind == family]
        whole["properties"][family] = _one_of({name: found[f"{family} {name}"] for name in sorted(named)}, family)
    whole["properties"] |= {key: found[f"table {key}"] for key in campaign_tables()}
    whole["properties"]["campaign"] = {"type": "string", "description": "What is asked: the name of a campaign."}
    whole["required"] = ["campaign"]
    for definition in (*definitions.values(), whole):
        _describe(definition)
    for key in campaign_tables():
        _describe(whole["properties"][key])
    whole["title"] = "An msvae study"
    del whole["additionalProperties"]  # a plugin file may bring a campaign, with its tables
    campaigns = sorted(campaign.name for campaign in plugins.registry().campaigns)
    own: Json = {"propertyNames": {"enum": sorted(whole["properties"])}}
    own["properties"] = {"campaign": {"enum": campaigns}}
    whole |= {"if": {"not": {"required": ["plugin_files"]}}, "then": own}
    return {"$schema": DIALECT, **whole, "$defs": definitions}


def descriptions(table: type[Any]) -> dict[str, str]:
    """Return what each key of a table is, by its key, as the docstring of its class says, or of a class above it."""
    found = TypeAdapter(table).json_schema()
    _describe(found, table)
    return {key: item.get("description", "") for key, item in found.get("properties", {}).items()}


def _resolved(table: Json, definitions: dict[str, Json]) -> Json:
    """Return a schema, resolved if it is a reference to a definition."""
    reference = table.get("$ref")
    return dict(table) if reference is None else dict(definitions[reference.rpartition("/")[2]])


def _one_of(tables: dict[str, Json], family: str) -> Json:
    """Return the schema of a table that names one of these plugins, or a plugin from a file."""
    choices = []
    for name, table in tables.items():
        properties = {"name": {"const": name}, **table.get("properties", {})}
        choices.append({**table, "properties": properties, "required": ["name", *table.get("required", [])]})
    others = {
        "title": "a plugin of a file that plugin_files names",
        "type": "object",
        "properties": {"name": {"type": "string", "not": {"enum": sorted(tables)}}},
        "required": ["name"],
    }
    return {"description": f"The {family}: a plugin's name, and its settings.", "anyOf": [*choices, others]}


def _describe(table: Json, cls: type[Any] | None = None) -> None:
    """Describe each property from the docstrings of a table's class and of those above it, and forbid others.

    Without a class, from the description that the schema has: its own docstring.
    """
    properties = table.get("properties")
    if properties is None:
        return
    table["additionalProperties"] = False
    texts = [table.get("description", "")] if cls is None else [c.__dict__.get("__doc__") or "" for c in cls.__mro__]
    for text in texts if properties else ():
        for name, said in _said(text, properties):
            properties[name].setdefault("description", said)


def _said(text: str, names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield what a docstring says of names: "name: text." or "name, other: text."."""
    word = "|".join(map(re.escape, names))
    marks = list(re.finditer(rf"\b((?:(?:{word}), )*(?:{word}))(?: \(\w+\))?: ", text))
    for mark, following in zip(marks, [*marks[1:], None], strict=False):
        rest = text[mark.end() : following.start() if following else len(text)]
        said = " ".join(rest.partition("\n\n")[0].split())
        yield from ((name, said) for name in mark[1].split(", "))
