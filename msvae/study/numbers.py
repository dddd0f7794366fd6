"""Numbers in a study: components of properties, and ranges of keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from msvae.plugins.interfaces import Settings

__all__ = ["Component", "Count", "Finite", "Number", "Positive", "Share", "Weight"]

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, lt=2**31)]  # what numbers of arrays and threads can be
Number = Annotated[int, Field(ge=0, lt=2**31)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, lt=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Component(Settings):
    """One number of a property.

    property: its name. component: its indices, from 0; none for a scalar.
    unit: compared with the property's unit, never converted.
    """

    property: str
    component: tuple[Number, ...] = ()
    unit: str | None = None

    def __str__(self) -> str:
        return self.property + (f"[{', '.join(map(str, self.component))}]" if self.component else "")
