"""Calculators of ASE by name, or by module and class."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import threading
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from msvae import PluginError

__all__ = ["NAMED", "Kept", "calculator", "missing"]

NAMED: Mapping[str, tuple[str, str, str]] = {
    "emt": ("ase.calculators.emt", "EMT", "ase"),
    "lennard-jones": ("ase.calculators.lj", "LennardJones", "ase"),
    "chgnet": ("chgnet.model.dynamics", "CHGNetCalculator", "chgnet"),
}  # module, class and the extra of msvae that brings it


@dataclass(frozen=True)
class Kept:
    """A calculator that a process keeps, and the lock of whoever computes with it."""

    calculator: Any
    lock: threading.Lock = field(default_factory=threading.Lock)


def calculator(name: str, arguments: Mapping[str, Any]) -> Kept:
    """Return the calculator of a name, or of "module:Class", with its arguments; PluginError if there is none."""
    return _made(name, json.dumps(dict(arguments), sort_keys=True))


def missing(name: str) -> str | None:
    """Return the sentence that says what is to be installed for a calculator, None if it is there or a user's own."""
    module, _, extra = NAMED.get(name, ("", "", ""))
    if module and importlib.util.find_spec(module.split(".")[0]) is None:
        return f"calculator '{name}' is not installed: install msvae[{extra}]"
    return None


@lru_cache(maxsize=1)
def _made(name: str, arguments: str) -> Kept:
    module, _, cls = name.partition(":")
    extra = ""
    if not cls:
        module, cls, extra = NAMED[name]
    try:
        found = getattr(importlib.import_module(module), cls)
    except (ImportError, AttributeError, ValueError) as error:
        way = (
            f"install msvae[{extra}]" if extra else "give module:Class, of a module that is installed or on PYTHONPATH"
        )
        raise PluginError(f"solver.calculator: '{name}' cannot be imported ({error}): {way}") from None
    try:
        with redirect_stdout(sys.stderr):  # what a calculator says of itself is no result
            return Kept(found(**json.loads(arguments)))
    except (TypeError, ValueError) as error:
        raise PluginError(f"solver.arguments: '{name}' does not take {arguments}: {error}") from None
