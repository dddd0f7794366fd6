"""Numbers of properties, as a study names them."""

from __future__ import annotations

from dataclasses import dataclass

from msvae.plugins.annotations import Natural
from msvae.plugins.interfaces import Settings

__all__ = ["Component"]


@dataclass(frozen=True)
class Component(Settings):
    """One number of a property.

    property: its name. component: its indices, from 0; none for a scalar.
    unit: compared with the property's unit, never converted.
    """

    property: str
    component: tuple[Natural, ...] = ()
    unit: str | None = None

    def __str__(self) -> str:
        return self.property + (f"[{', '.join(map(str, self.component))}]" if self.component else "")
