"""A function of the user's own that reads what a program left behind."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from msvae import Array
from msvae_external.failures import Failure
from msvae_external.settings import Reading

__all__ = ["called"]


def called(path: Path, reading: Reading, names: Mapping[str, Any]) -> Array:
    """Return what "module:function" returns for the folder and the names; whatever it raises is a Failure."""
    module, _, name = reading.function.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise Failure(
            f"'{reading.function}' cannot be imported ({error}): install its module or set PYTHONPATH"
        ) from None
    try:
        return np.asarray(function(path.parent, dict(names)), dtype=float)
    except Exception as error:  # a border: a user's function may raise anything
        raise Failure(f"'{reading.function}' raised {type(error).__name__}: {error}") from None
