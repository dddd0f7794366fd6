"""The table [part] of a study: a part, its mesh, its loads and its quantities of interest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from msvae.plugins.annotations import Count, Length, Positive, Unit
from msvae.plugins.interfaces import Settings

__all__ = ["QUANTITIES", "PartSettings"]

Physics = Literal["elasticity", "plasticity", "conduction"]
QUANTITIES: dict[str, dict[str, str]] = {  # of each physics: names and units
    "elasticity": {
        "stiffness": "N/m",
        "compliance": "m/N",
        "energy": "J",
        "stress-concentration": "1",
        "first-yield-load": "N",
    },
    "plasticity": {
        "stiffness": "N/m",
        "energy": "J",
        "peak-load": "N",
        "stress-concentration": "1",
        "first-yield-load": "N",
    },
    "conduction": {
        "conductance": "W/K",
        "thermal-resistance": "K/W",
        "flux-concentration": "1",
        "temperature-difference": "K",
    },
}
PROPERTY = {"elasticity": "stiffness", "plasticity": "stress", "conduction": "conductivity"}


@dataclass(frozen=True)
class PartSettings(Settings):
    """[part]: a part, its mesh, its loads, and the quantities of interest.

    shape: "bar" (lengths, cells), "plate-with-hole" (lengths: edge [, thickness], cells: around an eighth of the hole
        [, layers], radius), "notched-beam" (a bar with a notch), or "file" (any mesh that meshio reads).
    lengths: edge lengths. cells: elements along each axis. radius: of the hole. notch: width and depth. file: the mesh.
    physics: "elasticity", "plasticity" or "conduction", each with its property of the structures.
    load: "tension" pulls the faces of an axis apart, "bending" clamps one and moves the other along the last axis.
    axis: of the load, from 0. sides: of a bar in tension are "free", or "fixed" against moving out of their planes.
    displacement: of the loaded face. steps: load steps of a plastic part, as fractions of displacement.
    temperature_difference: between the loaded faces. heat_flow: for "temperature-difference". yield_stress: of an
        elastic part.
    quantities: of interest, by name.
    """

    lengths: tuple[Length, ...] = ()
    cells: tuple[Count, ...] = ()
    shape: Literal["bar", "plate-with-hole", "notched-beam", "file"] = "bar"
    radius: Length | None = None
    notch: tuple[Length, Length] | None = None
    file: str | None = None
    physics: Physics = "elasticity"
    load: Literal["tension", "bending"] = "tension"
    axis: Annotated[int, Field(ge=0, le=2)] = 0
    sides: Literal["free", "fixed"] = "free"
    displacement: Length = 1e-6
    steps: tuple[Positive, ...] = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
    temperature_difference: Annotated[Positive, Unit("K")] = 1.0
    heat_flow: Annotated[Positive, Unit("W")] | None = None
    yield_stress: Annotated[Positive, Unit("Pa")] | None = None
    quantities: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        units = self.units
        for name in self.quantities:
            if name not in units:
                raise ValueError(f"quantities of physics '{self.physics}' are {', '.join(units)}, found '{name}'")
        if self.shape != "file" and (len(self.lengths) not in (1, 2, 3) or not self.cells):
            raise ValueError(
                f"shape '{self.shape}' needs lengths in m and cells, found {self.lengths} and {self.cells}"
            )
        for key, needed in (("radius", "plate-with-hole"), ("notch", "notched-beam"), ("file", "file")):
            if (getattr(self, key) is not None) != (self.shape == needed):
                raise ValueError(f"{key} belongs to shape '{needed}' and to no other, found shape '{self.shape}'")
        if "first-yield-load" in self.quantities and self.physics == "elasticity" and self.yield_stress is None:
            raise ValueError("quantity 'first-yield-load' needs yield_stress in Pa")
        if "temperature-difference" in self.quantities and self.heat_flow is None:
            raise ValueError("quantity 'temperature-difference' needs heat_flow in W")
        if self.load == "bending" and (self.physics == "conduction" or self.sides == "fixed"):
            raise ValueError("bending is a load of elastic and plastic parts with free sides")

    @property
    def units(self) -> dict[str, str]:
        """Unit of every quantity of interest that the physics has."""
        return QUANTITIES[self.physics]

    @property
    def property(self) -> str:
        """Name of the structures' property that the physics needs."""
        return PROPERTY[self.physics]
