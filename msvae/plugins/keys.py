"""Keys: what the annotations of a settings class say of its fields, read once for checks, messages and tables."""

from __future__ import annotations

import dataclasses
import json
import math
import operator
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from msvae.plugins.annotations import LARGEST, Rule, Unit

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Fault", "Key", "Place", "Settings", "dotted", "fault_of", "keys_of"]

Place = tuple[str | int, ...]  # of a key in a study: its tables and positions

LIMITS = {"ge": ("at least", ">="), "gt": ("above", ">"), "le": ("at most", "<="), "lt": ("below", "<")}
HOLDS = {"ge": operator.ge, "gt": operator.gt, "le": operator.le, "lt": operator.lt}
OTHERS = ("min_length", "max_length", "allow_inf_nan", "pattern")
WORDS: Mapping[Any, str] = {float: "number", int: "integer", str: "string", bool: "boolean", Path: "path"}
TAKES: Mapping[Any, tuple[type, ...]] = {float: (Real,), int: (Real,), str: (str,), bool: (bool,), Path: (str, Path)}
LONG = 80  # characters of a value in a message
_KNOWN: dict[type[Any], Mapping[str, Key]] = {}  # what has been read, by class


@dataclass(frozen=True)
class Fault:
    """A value that its annotation does not allow. place: its key, expected: what it is by the annotation."""

    place: Place
    expected: str
    found: Any

    def __str__(self) -> str:
        return f"{dotted(self.place)} {self.sentence}"

    @property
    def sentence(self) -> str:
        """What is wrong, after the key."""
        text = json.dumps(self.found, default=str)
        return f"is {self.expected}, found {text if len(text) <= LONG else text[: LONG - 3] + '...'}"


@dataclass(frozen=True)
class Key:
    """What an annotation says of a value.

    words: its type. takes: classes of values that it is about. bounds: by pydantic's names (ge, min_length, ...).
    choices: all values that there are. options: of a union. entries: of a list, one for all or one for each place.
    values: of a mapping. table: the class of a nested table.
    """

    words: str
    takes: tuple[type, ...] = ()
    bounds: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    unit: str = ""
    rules: tuple[Rule, ...] = ()
    choices: tuple[Any, ...] = ()
    options: tuple[Key, ...] = ()
    entries: tuple[Key, ...] = ()
    fixed: bool = False
    values: Key | None = None
    table: type[Any] | None = None

    def fault(self, value: Any, place: Place = ()) -> Fault | None:
        """Return the first thing in a value that is not allowed; None for what is, or is of another type."""
        for key in (o for o in self.options if _is(value, o.takes)):
            return key.fault(value, place)
        expected = self._expected(value)
        if expected is not None:
            return Fault(place, expected, value)
        inside = (key.fault(entry, (*place, step)) for step, entry, key in self._inside(value))
        found = next((fault for fault in inside if fault is not None), None)
        return found or next((Fault(place, r.text, value) for r in self.rules if not _holds(r, value)), None)

    def _inside(self, value: Any) -> Iterator[tuple[str | int, Any, Key]]:
        """Yield what a value holds, with its step and its key."""
        if self.entries and isinstance(value, (list, tuple)):
            for k, entry in enumerate(value[: len(self.entries)] if self.fixed else value):
                yield k, entry, self.entries[k if self.fixed else 0]
        if isinstance(value, Mapping):
            known = keys_of(self.table) if self.table is not None else dict.fromkeys(value, self.values)
            yield from ((str(k), entry, key) for k, entry in value.items() if (key := known.get(k)) is not None)

    def _expected(self, value: Any) -> str | None:
        """Return what a value itself should be, or None if it is."""
        if self.choices and not any(value == c and type(value) is type(c) for c in self.choices):
            return _either([json.dumps(c) for c in self.choices]) if _is(value, self.takes) else None
        if isinstance(value, Real) and not isinstance(value, bool):
            return self._in_range(value)
        if isinstance(value, (list, tuple)):
            few, many = self.bounds.get("min_length", 0), self.bounds.get("max_length", math.inf)
            return None if few <= len(value) <= many else f"a list of {_entries(few, many)}"
        pattern = self.bounds.get("pattern")
        return (
            f"a string like {pattern}" if pattern and isinstance(value, str) and not re.search(pattern, value) else None
        )

    def _in_range(self, value: Any) -> str | None:
        """Return the range that a number is outside of, or None."""
        limits = {name: limit for name, limit in self.bounds.items() if name in LIMITS}
        finite = self.bounds.get("allow_inf_nan") is not False or -math.inf < value < math.inf
        if finite and all(HOLDS[name](value, limit) for name, limit in limits.items()):
            return None
        shown = [f"{LIMITS[n][0]} {_number(v)}" for n, v in limits.items() if abs(v) < LARGEST or value >= v]
        return " and ".join([*([] if finite else ["finite"]), *shown]) + (
            f" {self.unit}" if self.unit and shown else ""
        )

    @property
    def measure(self) -> str:
        """The unit, of the numbers in a list too; "" without one."""
        return self.unit or next((key.measure for key in self._parts if key.measure), "")

    @property
    def range(self) -> str:
        """The range in symbols, of the numbers in a list too; "" if everything is allowed."""
        own = [f"{LIMITS[n][1]} {_number(v)}" for n, v in self.bounds.items() if n in LIMITS and abs(v) < LARGEST]
        few, many = self.bounds.get("min_length", 0), self.bounds.get("max_length", math.inf)
        length = [] if (few, many) == (0, math.inf) else [_entries(few, many)]
        parts = dict.fromkeys(key.range for key in self._parts if key.range)
        return "; ".join(filter(None, [", ".join(own), *parts, *length, *(rule.text for rule in self.rules)]))

    @property
    def tables(self) -> Iterator[tuple[str, type[Any]]]:
        """The tables in it, each with what stands behind the key of this one: "" or "[]"."""
        if self.table is not None:
            yield "", self.table
        for mark, keys in (("", self.options), ("[]", self.entries)):
            yield from ((mark + behind, table) for key in keys for behind, table in key.tables)

    @property
    def _parts(self) -> tuple[Key, ...]:
        return (*self.options, *self.entries, *([self.values] if self.values else []))


def keys_of(table: type[Any]) -> Mapping[str, Key]:
    """Return what the annotations of a settings class say, by field; nothing where they name what cannot be found."""
    if table not in _KNOWN:
        try:
            hints = get_type_hints(table, include_extras=True)
        except NameError:  # names of a function, or for type checkers alone: pydantic may find them
            hints = {}
        _KNOWN[table] = {f.name: _parsed(hints[f.name]) for f in dataclasses.fields(table) if f.name in hints}
    return _KNOWN[table]


def check_arguments(table: type[Any], positional: Sequence[Any], named: Mapping[str, Any]) -> None:
    """Raise ValueError if an argument of a settings class is not what the annotation says."""
    keys = keys_of(table)
    names = (
        [field.name for field in dataclasses.fields(table) if field.init and not field.kw_only] if positional else []
    )
    for name, value in (*zip(names, positional, strict=False), *named.items()):
        fault = keys[name].fault(value, (name,)) if name in keys else None
        if fault is not None:
            raise ValueError(str(fault))


def fault_of(table: type[Any], values: Mapping[str, Any]) -> Fault | None:
    """Return the first value of a study's table that is not what the annotation says."""
    return Key("table", table=table).fault(values)


def dotted(place: Sequence[str | int]) -> str:
    """Return a place as a study writes it.

    >>> dotted(("solver", "phases", 0, "conductivity"))
    'solver.phases[0].conductivity'
    """
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in place).lstrip(".")


def _parsed(hint: Any) -> Key:
    """Return what an annotation says."""
    metadata: list[Any] = []
    while get_origin(hint) is Annotated:
        hint, *more = get_args(hint)
        metadata = [part for item in more for part in getattr(item, "metadata", [item])] + metadata
    names = (*LIMITS, *OTHERS)
    bounds = {name: getattr(m, name) for m in metadata for name in names if getattr(m, name, None) is not None}
    unit = next((m.name for m in metadata if isinstance(m, Unit)), "")
    rules = tuple(m for m in metadata if isinstance(m, Rule))
    return dataclasses.replace(_plain(hint), bounds=bounds, unit=unit, rules=rules)


def _plain(hint: Any) -> Key:
    """Return what a type says, without what is annotated of it."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        options = tuple(_parsed(a) for a in arguments if a is not type(None))
        words = " or ".join(option.words for option in options)
        return Key(words, tuple(c for o in options for c in o.takes), options=options)
    if origin is Literal:
        return Key(" | ".join(map(json.dumps, arguments)), tuple({type(a) for a in arguments}), choices=arguments)
    if origin in (tuple, list):
        fixed = Ellipsis not in arguments and origin is tuple
        entries = tuple(_parsed(a) for a in arguments if a is not Ellipsis)
        words = f"[{', '.join(e.words for e in entries)}]" if fixed else f"list of {_several(entries[0].words)}"
        return Key(words, (list, tuple), entries=entries, fixed=fixed)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return Key("table", (Mapping,), values=_parsed(arguments[1]))
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return Key("table", (Mapping, hint), table=hint)
    return Key(WORDS.get(hint, "any"), TAKES.get(hint, ()))


def _is(value: Any, classes: tuple[type, ...]) -> bool:
    return isinstance(value, classes) and (bool in classes or not isinstance(value, bool))


def _holds(rule: Rule, value: Any) -> bool:
    try:
        return rule.holds(value)
    except (TypeError, ValueError, IndexError):  # of another type, which is said elsewhere
        return True


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def _entries(few: float, many: float) -> str:
    if few == many:
        return f"{few} entries"
    if many == math.inf:
        return f"{few} {'entry' if few == 1 else 'entries'} or more"
    return f"{few} to {many} entries"


def _either(words: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _several(word: str) -> str:
    return f"{word}s" if word in {*WORDS.values(), "table"} else word


class Settings:
    """Parent of every dataclass that is read from a study: keys that are not fields of it are refused.

    The annotation of a field says its unit and its range (see `msvae.Unit`); a value outside is a ValueError, before
    `__post_init__` runs.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    def __new__(cls, *positional: Any, **named: Any) -> Self:
        check_arguments(cls, positional, named)  # nothing to check where pydantic, a copy or a pickle makes the object
        return super().__new__(cls)
