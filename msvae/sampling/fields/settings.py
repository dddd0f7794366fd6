"""The table [field] of a study: the random field of latents over a part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from msvae.plugins.annotations import Count, Length, Natural, Rule, Unit, Voxels
from msvae.plugins.interfaces import Settings

__all__ = ["FieldSettings", "Region"]

Voxel = Annotated[Natural, Unit("voxels")]
Region = tuple[tuple[Voxel, Voxels], ...]
Matern = Rule("0.5, 1.5 or 2.5", lambda smoothness: smoothness in (0.5, 1.5, 2.5))


@dataclass(frozen=True)
class FieldSettings(Settings):
    """[field]: the random field of latents over a part, fitted to the structures in the data set's image.

    region: part of the image that it is fitted to, [first, end) along each axis; by default all of it.
    against: region whose structures the field is compared with (campaign "compare-dns"). parts: samples of it then.
    observed: region whose structures every sample has, where it is in the part. origin: where in the image the part's
        first corner is.
    marginals: "normal-scores" of each latent, or the trained prior's "flow" for all of them together.
    trend: of the mean over position. lengths: instead of fitting, correlation lengths along each axis, with the
        marginals of the data set's latents (of which there need not be an image then).
    smoothness: of its Matérn covariance.
    """

    region: Region = ()
    against: Region = ()
    parts: Count = 5
    observed: Region = ()
    origin: tuple[Voxel, ...] = ()
    marginals: Literal["normal-scores", "flow"] = "normal-scores"
    trend: Literal["constant", "linear"] = "constant"
    lengths: tuple[Length, ...] = ()
    smoothness: Annotated[float, Matern] = 1.5

    def __post_init__(self) -> None:
        if bool(self.observed) != bool(self.origin):
            raise ValueError("observed structures need the origin of the part in the image, and it is for them only")
