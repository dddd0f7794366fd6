"""A function of the user's own that reads what a program left behind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np

from msvae import Array
from msvae_external.failures import Failure
from msvae_external.settings import Reading

__all__ = ["called"]


def called(path: Path, reading: Reading, names: Mapping[str, Any]) -> Array:
    """Return what "module:function" returns for the folder and the names; whatever it raises is a Failure."""
    try:
        function = resolve_name(reading.function)
    except (ImportError, AttributeError) as error:
        raise Failure(
            f"'{reading.function}' cannot be imported ({error}): install its module or set PYTHONPATH"
        ) from None
    try:
        return np.asarray(function(path.parent, dict(names)), dtype=float)
    except Exception as error:  # a border: a user's function may raise anything
        raise Failure(f"'{reading.function}' raised {type(error).__name__}: {error}") from None
