"""Validation: converts a table of the study to a frozen dataclass, or reports its first error in one sentence."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from msvae.errors import MsvaeError, StudyError, did_you_mean
from msvae.plugins.keys import fault_of
from msvae.study.source import Source

__all__ = ["validated"]

UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")  # pydantic's names of an unknown key
Value = TypeVar("Value")


def validated(cls: type[Value], table: Mapping[str, Any], source: Source, path: tuple[str, ...]) -> Value:
    """Return the dataclass that a table describes; StudyError for its first error."""
    try:
        text = json.dumps(table)
    except TypeError:
        raise StudyError(f"{source.at(path)}: dates and times have no meaning here") from None
    if "\\u0000" in text:
        raise StudyError(f"{source.at(path)}: a zero byte (\\u0000) has no meaning here: leave it out")
    try:
        return TypeAdapter(cls).validate_json(text, strict=True)
    except ValidationError as error:
        raise StudyError(_sentence(error, cls, table, source, path)) from None
    except MsvaeError as error:
        raise StudyError(f"{source.at(path)}: {error}") from None


def _sentence(
    error: ValidationError, cls: type[Any], table: Mapping[str, Any], source: Source, path: tuple[str, ...]
) -> str:
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
    fault = fault_of(cls, table)
    if fault is not None:
        return f"{source.at([*path, *fault.place])} {fault.sentence}"
    if kind == "dataclass_type":
        return (
            f"{source.at(place)}: found {found}, expected a table{_as_table(cls, first['loc'], first['input'])}{more}"
        )
    message = first["msg"].removeprefix("Value error, ").replace("Input should be", "expected", 1)
    return f"{source.at(place)}: found {found}, {message[0].lower() + message[1:]}{more}"


def _as_table(cls: type[Any], loc: Sequence[str | int], found: Any) -> str:
    """Return how to write the table that a value stands in for, where its first key is a string, and its keys."""
    keys = _known_keys(cls, [str(step) for step in loc])
    if not keys:
        return ""
    listed = f"(keys: {', '.join(keys)})"
    return f" {{ {keys[0]} = {json.dumps(found)} }} {listed}" if isinstance(found, str) else f" {listed}"


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
