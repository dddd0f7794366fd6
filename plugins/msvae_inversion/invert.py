"""The campaign "invert": images of a learnt manifold that explain measured data, with their uncertainty."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from msvae import (
    Ascending,
    Campaign,
    Count,
    Distinct,
    Fraction,
    Natural,
    Positive,
    Settings,
    StudyError,
    Unit,
)

if TYPE_CHECKING:
    from msvae import Context, Drawing, Run, Study, Table

Control = Literal["tikhonov", "total-variation"]


@dataclass(frozen=True)
class Charts(Settings):
    """[charts]: the manifold of the data set's images, as overlapping charts over their principal components.

    count: of charts. dimensions: of each. components: principal components that images are reduced to.
    width: of the hidden layers of a chart's network. epochs: of its training; with 0 a chart stays the principal
        components of its images, whose prior is a normal distribution.
    """

    count: Annotated[Count, Field(le=64)] = 4
    dimensions: Annotated[Count, Field(le=1024)] = 6
    components: Annotated[Count, Field(le=4096)] = 100
    width: Annotated[Count, Field(le=4096)] = 256
    epochs: Natural = 50


@dataclass(frozen=True)
class Forward(Settings):
    """[forward]: what is measured of an image.

    name: "mask" (some pixels), "convolution" (Gaussian blur), "radon" (line integrals), "tomography" (potentials on the
        boundary under currents through it), "solver" (the properties of [solver], which needs a gradient) or
        "function".
    seen: share of the pixels, of a mask. width: standard deviation of the blur. angles: of the line integrals.
    function: "module:function", of torch tensors (n, *grid) to (n, ...).
    electrodes: of tomography: "continuum" (currents and potentials along the whole boundary), "points", or "complete"
        (electrodes of finite width with a contact impedance).
    currents: patterns of current. sensors: points, or electrodes, along the boundary.
    impedance: of the contact, times conductivity and per edge of the image. cover: share of the boundary that complete
        electrodes cover.
    conductivity: of pixels with the values 0 and 1; others in proportion.
    cells: elements along an edge, of reconstructions and of the simulation of data.
    """

    name: Literal["mask", "convolution", "radon", "tomography", "solver", "function"] = "convolution"
    seen: Annotated[Fraction, Field(gt=0)] = 0.1
    width: Annotated[Positive, Unit("pixels")] = 4.0
    angles: Count = 16
    function: str = ""
    electrodes: Literal["continuum", "points", "complete"] = "continuum"
    currents: Annotated[Count, Field(le=256)] = 15
    sensors: Annotated[int, Field(ge=4, le=4096)] = 128
    impedance: Positive = 0.01
    cover: Annotated[Fraction, Field(gt=0, lt=1)] = 0.5
    conductivity: tuple[Positive, Positive] = (1.0, 2.0)
    cells: tuple[Annotated[int, Field(ge=4, le=512)], Annotated[int, Field(ge=4, le=512)]] = (24, 50)

    def __post_init__(self) -> None:
        if self.name == "function" and ":" not in self.function:
            raise ValueError(f"function is module:function where name is 'function', found {self.function!r}")


@dataclass(frozen=True)
class Invert(Campaign):
    """[invert]: images on the charts that explain data, which are measured or simulated from held-out images.

    noise: standard deviation of the data's noise, in the unit of the data.
    data: a file (.npy) of measured data, a row for each image; by default data of held-out images are simulated.
    images: indices of the images that are held out of the charts and measured; by default the last `count`.
    count: of them. gap: images before and after a measured one that charts are not fitted to, where neighbours in the
        data set are alike.
    candidates: images of the charts, evenly spaced in the data set, that the data are compared with at first.
    starts: of the best candidates from which a descent begins: the best of every chart come first. steps: of each
        descent, at most.
    metric: "images" (Riemannian gradient descent, as in the source), or "data", whose steps are Gauss
        and Newton's and cost two forward models for each dimension of a chart.
    discrepancy: a descent ends where the root mean square misfit is so many times the noise (Morozov).
    samples: of the posterior of each image, on all charts that a descent ends in; 0 for none. thinning: Langevin steps
        between two of them.
    evidence: the power of each chart's share of the posterior with which it is given samples. Below 1 where the noise
        and the errors of the model are known but roughly, for shares are then too unequal (Miller and Dunson 2019,
        J. Am. Stat. Assoc. 114, 1113); with 0 all charts are given as many.
    model_errors: of so many images that the charts have not seen, the errors of charts and of the mesh in the data are
        taken; their mean and covariance are then part of the noise of the posterior (Kaipio and Somersalo 2007,
        J. Comput. Appl. Math. 198, 493). With 0, the misfit of the best image is.
    interval: probability of the interval of each pixel. calibration: of so many unseen images, which are inverted too,
        the width of the intervals is taken so that they hold this share of the pixels; with 0 they are the samples'.
    cut: whether the model sees images cut to the range of the data set's, where it has no sense beyond.
    controls: other methods, on the same data. weights: of their penalties, which are tried; the one is taken that is
        best for images that the charts were fitted to.
    """

    name = "invert"
    prepares = "structures"
    tables = MappingProxyType({"charts": Charts, "forward": Forward})
    needs = ("forward",)

    noise: Positive
    data: Path | None = None
    images: Annotated[tuple[Natural, ...], Distinct] = ()
    count: Count = 8
    gap: Natural = 0
    candidates: Count = 64
    starts: Count = 3
    steps: Count = 100
    metric: Literal["images", "data"] = "images"
    discrepancy: Positive = 1.0
    samples: Natural = 0
    thinning: Count = 5
    evidence: Fraction = 1.0
    model_errors: Natural = 0
    calibration: Natural = 0
    cut: bool = False
    interval: Annotated[Fraction, Field(gt=0, lt=1)] = 0.9
    controls: Annotated[tuple[Control, ...], Distinct] = ()
    weights: Annotated[tuple[Positive, ...], Ascending] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)

    def check(self, study: Study) -> None:
        """Raise StudyError where tables do not fit together."""
        charts = study.find(Charts) or Charts()
        if charts.dimensions >= charts.components:
            raise StudyError(
                f"{study.source.at(['charts', 'dimensions'])}: found {charts.dimensions}, expected fewer than "
                f"charts.components = {charts.components}"
            )
        if self.starts > self.candidates:
            raise StudyError(
                f"{study.source.at(['invert', 'starts'])}: found {self.starts}, at most invert.candidates = "
                f"{self.candidates} can be"
            )

    def run(self, context: Context) -> Table:
        """Return how well each image explains its data, and how near it is to the truth where that is known."""
        from msvae_inversion.inversion import run

        return run(context, self)

    def figures(self, run: Run) -> Iterator[Drawing | None]:
        """Yield truths beside reconstructions, and the misfit along the descents."""
        from msvae_inversion.figures import descents, images

        yield images(run, self)
        yield descents(run, self)
