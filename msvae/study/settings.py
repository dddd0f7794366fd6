"""The tables of a study that the core reads; a plugin brings its own for [dataset], [architecture] and [solver].

Every class is a table, every field a key; its default applies if the study omits the key.
"""

from __future__ import annotations

import builtins
import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from msvae.plugins.annotations import Count, Distinct, Natural, NonNegative, Positive, Seconds, Unit
from msvae.plugins.interfaces import Settings
from msvae.study.engines import ParslSettings
from msvae.study.numbers import Component

__all__ = [
    "CacheSettings",
    "Condition",
    "ExecutorSettings",
    "LabelSettings",
    "LimitsSettings",
    "ModelSettings",
    "PluginFiles",
    "Sections",
    "StoreSettings",
    "StructureHeadSettings",
    "TrainingSettings",
]

Workers = Annotated[int, Field(ge=1, le=4096)]


@dataclass(frozen=True)
class Condition(Component):
    """A number that encoder and decoder are given.

    property: its name. component: its indices, from 0; none for a scalar. unit: compared with the property's unit.
    classes: it is a class, 0 to classes - 1; 0 for a quantity.
    """

    classes: Natural = 0

    @builtins.property
    def width(self) -> int:
        """Its width as a network input."""
        return self.classes or 1


@dataclass(frozen=True)
class LabelSettings(Settings):
    """[label]: evaluation of a data set with the solver. limit: only the first structures."""

    limit: Count | None = None


@dataclass(frozen=True)
class ModelSettings(Settings):
    """[model]: the composition of the variational autoencoder.

    latents: dimensions of the latent space; of every site's, where the architecture has a grid of latents.
    global_latents: of the whole structure, above those of the sites (a hierarchy).
    features: width of the encoder's output and of the heads.
    heads: properties that are predicted from the latents.
    conditions: numbers that the encoder and decoder are given (a conditional VAE).
    semi_supervised: structures whose conditions are unknown (NaN) train too: the encoder guesses them (M2).
    independence: weight of the dependence between latents and known conditions, from 0 to 1, in nats: latents then say
        little about the conditions.
    agreement: weight of -log q(c|x') of decoded structures x': they then have the conditions they are given. Both for
        semi_supervised models.
    axes: numbers that get an axis each of an invertible map of the latents, fitted after training.
    likelihood: of the structures; "auto" takes the one of their kind.
    stem: "pca" lays principal components beside encoder and decoder, so that training starts from them; or "none".
    prior: "flow" trains a spline flow with the rest, where N(0, I) is too simple. posterior: "flow" bends the encoder's
        normal distributions by couplings.
    beta: weight of the Kullback-Leibler divergence. head_weight: weight of the heads' log-likelihood.
    free_bits: information that every latent may carry, on average, before its divergence counts.
    """

    latents: Count = 16
    global_latents: Natural = 0
    features: Count = 128
    heads: Annotated[tuple[str, ...], Distinct] = ()
    conditions: Annotated[tuple[Condition, ...], Distinct] = ()
    semi_supervised: bool = False
    independence: NonNegative = 0.0
    agreement: NonNegative = 0.0
    axes: Annotated[tuple[Component, ...], Distinct] = ()
    likelihood: Literal[
        "auto", "bernoulli", "categorical", "gaussian", "continuous-bernoulli", "dirichlet", "multinomial"
    ] = "auto"
    stem: Literal["pca", "none"] = "pca"
    prior: Literal["normal", "flow"] = "normal"
    posterior: Literal["normal", "flow"] = "normal"
    beta: NonNegative = 1.0
    head_weight: NonNegative = 1.0
    free_bits: Annotated[NonNegative, Unit("nat")] = 0.0

    def __post_init__(self) -> None:
        if len(self.axes) > self.latents:
            raise ValueError(f"{len(self.axes)} axes need as many latents, found {self.latents}")
        if (self.independence or self.agreement) and not (self.semi_supervised and self.conditions):
            raise ValueError("independence and agreement need conditions and semi_supervised = true")

    @builtins.property
    def condition_width(self) -> int:
        """The width of the conditions as a network input."""
        return sum(condition.width for condition in self.conditions)


@dataclass(frozen=True)
class TrainingSettings(Settings):
    """[training]: how the model is fitted.

    epochs: passes over the training structures, at most. batch_size: structures of a step.
    learning_rate: of AdamW, after a short ramp; it falls to a hundredth along half a cosine. weight_decay: of AdamW.
    gradient_norm: to which longer gradients are cut.
    held_back: fraction of the structures (or number, if 1 or more) that training never sees: whole groups and images,
        blocks of an image, runs of pages of a stack.
    gap: between windows of one image that are trained on and held back, in windows; between pages of a stack, in
        lengths of their correlation. What lies in it is used by neither.
    warm_up: epochs over which beta rises from 0.
    weights: that are kept, of the epoch whose held-out structures lose "best", at the final beta; or the "last".
    patience: early stopping: epochs after warm_up without a lower held-out loss; "auto" is a fifth of the epochs, at
        least 10; 0 trains to the end.
    checkpoint_minutes: wall time between two checkpoints, from which --resume gives the same weights, bit for bit.
    precision: "bfloat16" runs the networks under autocast; "auto" does where the processor multiplies it in hardware.
    device: "auto" takes CUDA where there is any.
    start_from: folder of a run whose trained model is taken as it is, of the same composition and structures.
    ranks: processes (MPI ranks, or workers and this one) that share every batch, of batch_size structures for each.
    """

    epochs: Count = 100
    batch_size: Count = 32
    learning_rate: Positive = 1e-3
    weight_decay: NonNegative = 0.0
    held_back: Positive = 0.2
    gap: NonNegative = 1.0
    warm_up: Natural = 0
    gradient_norm: Positive = 10.0
    weights: Literal["best", "last"] = "best"
    patience: Natural | Literal["auto"] = "auto"
    checkpoint_minutes: Annotated[NonNegative, Unit("min")] = 5.0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    start_from: str = ""
    ranks: Workers = 1


@dataclass(frozen=True)
class StructureHeadSettings(Settings):
    """[structure_head]: a predictor that sees the structure itself, not its latents.

    properties: what it predicts.
    epochs: passes over the labelled structures. batch_size: structures of a step. learning_rate: of AdamW.
        weight_decay: of AdamW. precision: as in [training].
    flips: grid axes along which a flip leaves the properties as they are; they augment training, and predictions are
        averaged over them.
    contrast: ratio of the largest to the smallest local modulus of a grey value; adds its logarithm as an input.
    """

    properties: Annotated[tuple[str, ...], Field(min_length=1), Distinct]
    epochs: Count = 30
    batch_size: Count = 64
    learning_rate: Positive = 2e-3
    weight_decay: NonNegative = 0.05
    flips: Annotated[tuple[Natural, ...], Distinct] = ()
    contrast: Annotated[float, Field(gt=1, allow_inf_nan=False)] | None = None
    precision: Literal["float32", "bfloat16"] = "bfloat16"


@dataclass(frozen=True)
class ExecutorSettings(Settings):
    """[executor]: where evaluations run, and what becomes of those that fail.

    name: "auto" takes MPI under mpiexec, else processes if workers > 1, else serial. "parsl" asks a scheduler for
        blocks. "module:function" names a function of your own that takes these settings and returns a
        concurrent.futures.Executor.
    workers: processes of the pool. threads: OpenMP threads of each worker.
    gpus: devices of a node that its ranks take in turn; 0 leaves them as they are.
    ranks_per_solver: MPI ranks that run one evaluation together; 0 for as many as the solver says.
    managers: teams of ranks, whose leaders deal out chunks to their team, where one manager is too slow: beyond some
        thousand evaluations a second. Leaders evaluate nothing, and ranks of a team that freeze are not given up.
    isolation: "process" evaluates in a child process of the worker, so that a crash is a failed evaluation.
    timeout: wall time of one evaluation; of one without isolation only where ranks solve together, whose whole group is
        given up then. memory_limit: memory of one evaluation, which needs isolation.
    patience: wall time after which a worker, or a solver's process, that shows no sign of life is given up: its
        evaluations go to others. By default 60 with isolation; without, workers are waited for, because a solver that
        keeps the interpreter to itself shows none either.
    retries: how often an evaluation is tried again, by the status that it ended with.
    max_failures: failed evaluations of a stage after which the campaign gives up.
    parsl: the blocks of the engine of this name.
    """

    name: Annotated[str, Field(pattern=r"^(auto|serial|processes|mpi|parsl|\w+(\.\w+)*:\w+)$")] = "auto"
    workers: Workers = 1
    threads: Workers = 1
    gpus: Natural = 0
    ranks_per_solver: Natural = 0
    managers: Workers = 1
    isolation: Literal["none", "process"] = "none"
    timeout: Seconds | None = None
    memory_limit: Annotated[Positive, Unit("GiB")] | None = None
    patience: Seconds | None = None
    retries: dict[Literal["failed", "timeout", "crashed", "invalid"], Natural] = dataclasses.field(
        default_factory=lambda: {"crashed": 1}
    )
    max_failures: Count | None = None
    parsl: ParslSettings = dataclasses.field(default_factory=ParslSettings)

    @property
    def silence(self) -> float | None:
        """Seconds without a heartbeat after which a worker or a solver's process is given up; None to wait forever."""
        return self.patience or (60.0 if self.isolation == "process" else None)


@dataclass(frozen=True)
class LimitsSettings(Settings):
    """[limits]: when a campaign ends at a clean point, with exit code 75, to be resumed.

    walltime: a number, or "HH:MM:SS" or "D-HH:MM:SS" as in Slurm. grace: time for running evaluations to finish.
    SIGTERM and SIGUSR1 end it too.
    """

    walltime: Seconds | Annotated[str, Field(pattern=r"^(\d{1,5}-)?\d{1,2}:\d{2}:\d{2}$")] | None = None
    grace: Annotated[NonNegative, Unit("s")] = 60.0

    @property
    def seconds(self) -> float | None:
        """The wall time in seconds.

        >>> LimitsSettings("1-00:10:00").seconds
        87000.0
        """
        if not isinstance(self.walltime, str):
            return self.walltime
        days, _, clock = self.walltime.rpartition("-")
        hours, minutes, seconds = map(int, clock.split(":"))
        return float(((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds)


@dataclass(frozen=True)
class CacheSettings(Settings):
    """[cache]: evaluations that runs share. path: a folder; a structure that any run has solved there, is not again."""

    path: str | None = None


@dataclass(frozen=True)
class StoreSettings(Settings):
    """[store]: what is kept of evaluations. structures: also the structures that latents were decoded to."""

    structures: bool = False


@dataclass(frozen=True)
class PluginFiles(Settings):
    """The key of a study that is read first.

    plugin_files: Python files with plugins, from the study's folder.
    """

    plugin_files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sections(PluginFiles):
    """The keys of a study outside the plugins' tables.

    title: of the report. seed: of everything random: the same study gives the same results.
    plugin_files: Python files with plugins, from the study's folder.
    """

    title: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    label: LabelSettings = dataclasses.field(default_factory=LabelSettings)
    model: ModelSettings = dataclasses.field(default_factory=ModelSettings)
    training: TrainingSettings = dataclasses.field(default_factory=TrainingSettings)
    structure_head: StructureHeadSettings | None = None
    executor: ExecutorSettings = dataclasses.field(default_factory=ExecutorSettings)
    limits: LimitsSettings = dataclasses.field(default_factory=LimitsSettings)
    cache: CacheSettings = dataclasses.field(default_factory=CacheSettings)
    store: StoreSettings = dataclasses.field(default_factory=StoreSettings)
