"""The campaign "evolve": how microstructures go on in time, learnt in the latent space from frames of simulations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from msvae import Campaign, Count, DataError, Distinct, Finite, Natural, NonNegative, Positive, StudyError

if TYPE_CHECKING:
    from msvae import Context, Drawing, Run, Structures, Study, Table

Kind = Literal["ode", "linear", "gaussian-process", "flow"]


@dataclass(frozen=True)
class Evolve(Campaign):
    """[evolve]: frames predicted at other times than that of a given one, for simulations that training never saw.

    dynamics: of the latents: "ode", a neural ordinary differential equation in the logarithm of time; "linear", a
        convolution; "gaussian-process", of the latents around a site; "flow", a conditional flow of the next latents.
    parameters: properties of a simulation that the dynamics are given, such as those of its free energy.
    given: numbers of the frames, in order of time, that predictions start from. until: number of a second given frame:
        frames between the two are interpolated.
    factors: of the given frame's time, at which frames are predicted: backward below 1.
    ratio: longest step of the dynamics, as a ratio of times: a longer way takes several.
    samples: of each prediction, which give its uncertainty.
    relaxation: time that the data set's simulator, if it has one, runs on at the end of each step of the dynamics, as a
        share of the step: its free energy then falls.
    corrections: steps of samples backward, each by what the data set's simulator makes of it.
    epochs: of the dynamics' training. batch_size: pairs of frames of a step. learning_rate: of AdamW.
        width, blocks: channels and residual blocks of its network.
    decoded: weight of the decoded frame's squared error beside that of the latents.
    control: also train a network of the same kind on the pixels themselves, to compare with.
    threshold: concentration above which the solver sees phase 1. solved: test simulations that it solves.
    """

    name = "evolve"

    dynamics: Kind = "ode"
    parameters: Annotated[tuple[str, ...], Distinct] = ()
    given: Annotated[tuple[Natural, ...], Field(min_length=1), Distinct] = (0,)
    until: Natural | None = None
    factors: Annotated[tuple[Positive, ...], Field(min_length=1), Distinct] = (2.0,)
    ratio: Annotated[float, Field(gt=1, le=100)] = 2.0
    samples: Annotated[Count, Field(le=1000)] = 16
    relaxation: Annotated[NonNegative, Field(le=1)] = 0.02
    corrections: Natural = 3
    epochs: Count = 30
    batch_size: Count = 16
    learning_rate: Positive = 2e-3
    width: Count = 48
    blocks: Count = 3
    decoded: NonNegative = 5.0
    control: bool = False
    threshold: Finite = 0.5
    solved: Natural = 4

    def __post_init__(self) -> None:
        if 1.0 in self.factors:
            raise ValueError("factors are of other times than the given frame's, found 1")
        if self.until is not None and self.until <= max(self.given):
            raise ValueError(f"until is a later frame than those of given, found {self.until} and {list(self.given)}")

    def check(self, study: Study) -> None:
        """Raise StudyError where the model's latents are more than a vector or a grid."""
        for key, found in (("global_latents", study.model.global_latents), ("conditions", study.model.conditions)):
            if found:
                raise StudyError(
                    f"{study.source.at(['model', key])}: campaign 'evolve' takes latents of a vector or a grid without "
                    f"conditions, found {found if isinstance(found, int) else len(found)}: leave it out"
                )

    def check_structures(self, context: Context, structures: Structures) -> None:
        """Raise DataError where structures are no frames of simulations, or lack a parameter."""
        from msvae_evolution.series import Series

        series = Series.of(structures)
        if not len(series.pairs(self.ratio)):
            raise DataError(
                f"evolve.ratio: no two frames of a simulation are within a factor {self.ratio:g} of their times: give "
                "a larger one, or frames that are closer"
            )
        last, asked = min(map(len, series.rows)) - 1, max(*self.given, self.until or 0)
        if asked > last:
            raise DataError(f"evolve.given, until: found frame {asked}, but simulations have frames 0 to {last}")
        for name in self.parameters:
            if name not in structures.properties:
                raise DataError(
                    f"evolve.parameters: the data set has no property '{name}' (it has: "
                    f"{', '.join(q.name for q in structures.quantities)})"
                )
        if structures.specification.kind != "field" or structures.specification.channels != 1:
            raise DataError(
                f"evolve: frames are images or volumes of one concentration or grey value, found structures of kind "
                f"'{structures.specification.kind}': leave out dataset.threshold and dataset.labels"
            )

    def run(self, context: Context) -> Table:
        """Return how well frames of simulations that training never saw are predicted."""
        from msvae_evolution.run import run

        return run(context, self)

    def figures(self, run: Run) -> Iterator[Drawing | None]:
        """Yield film strips, the error against the horizon, and lengths with their bands."""
        from msvae_evolution import figures

        yield from (draw(run) for draw in figures.FIGURES)
