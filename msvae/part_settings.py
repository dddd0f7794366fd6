"""The tables of a study about a part: its mesh and loads, the field of latents in it, and what is asked of it."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from msvae.design_settings import Component, Count, Number, Positive
from msvae.interfaces import Settings

__all__ = [
    "FIDELITIES",
    "QUANTITIES",
    "DnsSettings",
    "Fidelity",
    "FieldSettings",
    "GradationSettings",
    "PartSettings",
    "PushForwardSettings",
]

Share = Annotated[float, Field(gt=0, lt=1)]
Physics = Literal["elasticity", "plasticity", "conduction"]
Region = tuple[tuple[Number, Count], ...]
Fidelity = Literal["head", "structure-head", "coarse-solver", "solver"]
FIDELITIES: tuple[Fidelity, ...] = ("solver", "coarse-solver", "structure-head", "head")
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
    lengths: m. cells: elements along each axis. radius: of the hole, m. notch: width and depth, m. file: of the mesh.
    physics: "elasticity", "plasticity" or "conduction", each with its property of the structures.
    load: "tension" pulls the faces of an axis apart, "bending" clamps one and moves the other along the last axis.
    axis: of the load, from 0. sides: of a bar in tension are "free", or "fixed" against moving out of their planes.
    displacement: of the moved face, m. steps: of a plastic part, shares of it. temperature_difference: K.
    heat_flow: W, for the temperature difference that it makes. yield_stress: Pa, of an elastic part.
    quantities: of interest, by name.
    """

    lengths: tuple[Positive, ...] = ()
    cells: tuple[Count, ...] = ()
    shape: Literal["bar", "plate-with-hole", "notched-beam", "file"] = "bar"
    radius: Positive | None = None
    notch: tuple[Positive, Positive] | None = None
    file: str | None = None
    physics: Physics = "elasticity"
    load: Literal["tension", "bending"] = "tension"
    axis: Annotated[int, Field(ge=0, le=2)] = 0
    sides: Literal["free", "fixed"] = "free"
    displacement: Positive = 1e-6
    steps: tuple[Positive, ...] = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
    temperature_difference: Positive = 1.0
    heat_flow: Positive | None = None
    yield_stress: Positive | None = None
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


@dataclass(frozen=True)
class FieldSettings(Settings):
    """[field]: the random field of latents over a part, fitted to the structures in the data set's image.

    region: part of the image that it is fitted to, [first, end) in voxels along each axis; by default all of it.
    against: region whose structures the field is compared with (campaign "compare-dns"). parts: samples of it then.
    observed: region whose structures every sample has, where it is in the part. origin: where in the image the part's
        first corner is, voxels.
    marginals: "normal-scores" of each latent, or the trained prior's "flow" for all of them together.
    trend: of the mean over position. lengths: instead of fitting, correlation lengths in m along each axis, with the
        marginals of the data set's latents (of which there need not be an image then). smoothness: of that field.
    """

    region: Region = ()
    against: Region = ()
    parts: Count = 5
    observed: Region = ()
    origin: tuple[Number, ...] = ()
    marginals: Literal["normal-scores", "flow"] = "normal-scores"
    trend: Literal["constant", "linear"] = "constant"
    lengths: tuple[Positive, ...] = ()
    smoothness: float = 1.5

    def __post_init__(self) -> None:
        if self.smoothness not in (0.5, 1.5, 2.5):
            raise ValueError(f"smoothness is 0.5, 1.5 or 2.5, found {self.smoothness:g}")
        if bool(self.observed) != bool(self.origin):
            raise ValueError("observed structures need the origin of the part in the image, and it is for them only")


@dataclass(frozen=True)
class DnsSettings(Settings):
    """[dns]: comparison of a bar with the direct numerical simulation of its microstructure.

    origin, shape: of the bar in the data set's image, voxels. sizes: of the cubic structures that it is cut to, voxels.
    refine: part elements along a structure's edge. void: the empty phase, of which free sides are made.
    """

    shape: tuple[Count, ...]
    origin: tuple[Number, ...] = ()
    sizes: tuple[Count, ...] = ()
    refine: Count = 1
    void: Number | None = None


@dataclass(frozen=True)
class PushForwardSettings(Settings):
    """[push_forward]: what microstructural uncertainty does to a quantity of interest.

    quantity: of the part. property, component: without a [part], the number of a property of a single structure.
    fidelity: the one that counts. cheap: those that help it. pilot: samples of which all fidelities are computed.
    budget: cost that may be spent, in evaluations of the fidelity that counts. most: samples of a cheap one.
    half_width: of the mean's interval, relative to the mean, at which sampling stops; none spends the budget.
    confidence: of the intervals. probabilities: of the quantiles. threshold: whose exceedance is a failure.
    sampler: "monte-carlo", or "sobol" (scrambled). replicates: its independent scramblings. modes: of a part's field,
        the Karhunen-Loeve modes of largest variance, that the sequence draws; the rest of the field stays random.
    control: samples of the controls, without correlation and with homogeneous properties; 0 for none.
    """

    quantity: str = ""
    property: str = ""
    component: tuple[Number, ...] = ()
    fidelity: Fidelity = "solver"
    cheap: tuple[Fidelity, ...] = ()
    pilot: Annotated[int, Field(ge=8, lt=2**31)] = 20
    budget: Count = 50
    most: Count = 5000
    half_width: Positive | None = None
    confidence: Share = 0.95
    probabilities: tuple[Share, ...] = (0.05, 0.5, 0.95)
    threshold: Annotated[float, Field(allow_inf_nan=False)] | None = None
    sampler: Literal["monte-carlo", "sobol"] = "monte-carlo"
    replicates: Annotated[int, Field(ge=2, lt=2**31)] = 8
    modes: Count = 4
    control: Number = 0

    def __post_init__(self) -> None:
        if bool(self.quantity) == bool(self.property):
            raise ValueError("give the quantity of a part, or the property (and component) of a structure, not both")
        if self.fidelity in self.cheap or len(set(self.cheap)) < len(self.cheap):
            raise ValueError(f"cheap fidelities differ from each other and from '{self.fidelity}', found {self.cheap}")
        if self.sampler == "sobol" and self.cheap:
            raise ValueError("the Sobol sampler is for one fidelity: leave out cheap, or take 'monte-carlo'")
        if self.pilot > self.budget:
            raise ValueError(f"the pilot's {self.pilot} samples are more than the budget of {self.budget}")

    @builtins.property
    def of(self) -> Component:
        """The number of a structure's property."""
        return Component(self.property, self.component)


@dataclass(frozen=True)
class GradationSettings(Settings):
    """[gradation]: a field of latents for a target over a part, or for the stiffest part of a given mass.

    goal: "profile" reaches `target` in every window; "compliance" minimises the part's compliance at a mean
        fraction of the phase. fraction: that one.
    phase: whose fraction is meant; property, component: what a profile is of instead, if there are any.
    target: a formula of the position x, y, z from 0 to 1 along the part ("0.1 + 0.2 * x").
    shape: of the part, voxels. overlap: of neighbouring windows.
    fluctuation: share of the latents' fluctuation that is kept. smoothness, typicality: weights of the penalties.
    through: what descent goes: the head, or (linear properties of two phases) decoder and solver.
    steps: of gradient descent. corrections: sweeps in which the solver's error is taken off the target.
    """

    shape: tuple[Count, ...]
    goal: Literal["profile", "compliance"] = "profile"
    phase: Number = 1
    property: str = ""
    component: tuple[Number, ...] = ()
    target: str = ""
    fraction: Share | None = None
    overlap: Annotated[float, Field(ge=0, le=0.5)] = 0.5
    fluctuation: Annotated[float, Field(ge=0, le=1)] = 1.0
    smoothness: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.1
    typicality: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    through: Literal["head", "solver"] = "head"
    steps: Count = 60
    corrections: Number = 4

    def __post_init__(self) -> None:
        if self.goal == "profile" and not self.target:
            raise ValueError('goal "profile" needs a target, for example "0.1 + 0.2 * x"')
        if self.goal == "compliance" and self.fraction is None:
            raise ValueError('goal "compliance" needs the mean fraction of the phase')
        if self.goal == "compliance" and self.property:
            raise ValueError(f'goal "compliance" distributes a phase: leave out property, found {self.property!r}')

    @builtins.property
    def of(self) -> Component:
        """The number of a property that is graded, if it is none of a phase's fraction."""
        return Component(self.property, self.component)
