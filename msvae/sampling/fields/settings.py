"""The table [field] of a study: the random field of latents over a part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from msvae.plugins.interfaces import Settings
from msvae.study.numbers import Count, Number, Positive

__all__ = ["FieldSettings", "Region"]

Region = tuple[tuple[Number, Count], ...]


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
