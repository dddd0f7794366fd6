"""JSON files of plain values, validated when read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from msvae.errors import RunError
from msvae.files import border

__all__ = ["read_json"]


def read_json(path: Path, kind: Any = Any, keys: Sequence[str] = ()) -> Any:
    """Return the content of a file of a run, or None if it does not exist; RunError if it is damaged.

    kind: expected type. keys: keys that it, or every row of it, must have.
    """
    found = border.read_json(path)
    if found is None:
        return None
    try:
        value = TypeAdapter(kind).validate_python(found)
        if keys and value == []:
            raise ValueError("it is empty")
        for row in value if isinstance(value, list) else [value]:
            absent = [key for key in keys if key not in row]
            if absent:
                raise ValueError(f"it has no '{absent[0]}'")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        why = f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"
        raise RunError(f"'{path}' is damaged ({why}): delete it and --resume") from None
    except ValueError as error:
        raise RunError(f"'{path}' is damaged ({error}): delete it and --resume") from None
    return value
