"""What was found out about the machine: a value, whether it stops a run, and the remedy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "State"]

State = Literal["fine", "note", "wrong"]


@dataclass(frozen=True)
class Finding:
    """what: was looked at. value: in words. state: "wrong" would stop a run. remedy: one line, "" where all is well."""

    what: str
    value: str
    state: State = "fine"
    remedy: str = ""
