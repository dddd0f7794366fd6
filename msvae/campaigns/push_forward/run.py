"""Push-forward: microstructural uncertainty propagated to a quantity of interest of a part or of a single structure.

Few samples of the fidelity that counts and many of cheap ones, allocated by the costs and correlations of a pilot
study, give mean, variance, quantiles and failure probability, each with a confidence interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from msvae.campaigns.design.accuracy import discretisation_error, sampling_doubt
from msvae.campaigns.push_forward.campaign import Fidelity, PushForward
from msvae.campaigns.push_forward.realisations import Realisations, realise
from msvae.campaigns.push_forward.statistics import (
    FURTHER,
    columns_of,
    plain_estimates,
    row_of,
    scrambled,
    statistics_of,
)
from msvae.dispatch.known import File
from msvae.errors import TargetError
from msvae.part.settings import PartSettings
from msvae.run.table import Table
from msvae.sampling.allocation import allocate
from msvae.sampling.estimators import Estimate, Estimator
from msvae.stages.context import Context
from msvae.stages.latent_field import latent_field
from msvae.stages.training import structure_head, trained, training_structures
from msvae.structures import Array, Quantity
from msvae.structures.evaluations import Evaluations

__all__ = ["run"]

FILE = "push_forward.json"


@dataclass(eq=False)
class Samples:
    """The samples of a job computed so far, by fidelity; counting: those of the fidelity that counts."""

    context: Context
    job: Realisations
    failed: set[tuple[str, int]] = field(default_factory=set)
    counting: Evaluations | None = None
    costs: dict[str, float] = field(default_factory=dict)

    def values(self, stage: str, indices: Sequence[int], job: Realisations) -> Array:
        """Return a quantity of interest (n,) of samples of these numbers; NaN where it failed."""
        table = realised(self.context, stage, indices, job)
        self.failed |= {(stage, k) for k in table["index"][~table.done].tolist()}
        self.costs[job.fidelity] = float(np.median(table["cost"]))
        if job == self.job:
            self.counting = table
        return table.properties[job.names[0]]

    def of(self, fidelity: Fidelity, indices: Sequence[int]) -> Array:
        """Return the values of one fidelity."""
        return self.values(f"samples-{fidelity}", indices, replace(self.job, fidelity=fidelity))


def realised(context: Context, stage: str, indices: Sequence[int], job: Realisations) -> Evaluations:
    """Return the quantities of interest of the samples with these numbers, as computed by the workers."""
    part = context.study.find(PartSettings)
    units = {q.name: q.unit for q in context.quantities} if job.field is None else part.units if part else {}
    quantities = tuple(
        Quantity(named, units.get(name, "1"), spacing_exponent=0)
        for named, name in zip(job.names, job.quantities, strict=True)
    )
    return context.work(stage, indices, partial(realise, job), quantities, stage)


@dataclass(frozen=True, eq=False)
class Found:
    """Results of a sampler: estimates by name, the numbers of samples, notes in words, and plain values."""

    estimates: Mapping[str, Estimate]
    samples: int
    notes: list[str]
    plain: dict[str, Any]


def run(context: Context) -> Table:
    """Return the table of the quantity's statistics, with their intervals, and of its controls."""
    wanted = context.study.need(PushForward)
    samples = Samples(context, _job(context, wanted))
    found = (_sobol if wanted.sampler == "sobol" else _multifidelity)(samples, wanted)
    shifts = _shifts(samples, wanted, found)
    rows = [row_of(name, estimate, found.samples, shifts[name]) for name, estimate in found.estimates.items()]
    controls: dict[str, Any] = {}
    if wanted.quantity and wanted.control:
        rows += _controls(samples, wanted, controls)
    if samples.failed:
        found.notes.append(f"{len(samples.failed)} samples failed and were left out")
    name = wanted.quantity or str(wanted.of)
    found.notes.append(sampling_doubt(found.estimates["mean"], shifts["mean"], _unit(context), context.study.solver))
    plain = {"estimates": plain_estimates(found.estimates), "costs": samples.costs, "discretisation_errors": shifts}
    context.run.write_json(FILE, {"quantity": name, "unit": _unit(context), **plain, **found.plain, **controls})
    return Table(f"Push-forward: {name} ({_unit(context)})", columns_of(wanted), tuple(rows), tuple(found.notes))


def _job(context: Context, wanted: PushForward) -> Realisations:
    structures = training_structures(context)
    vae = trained(context, structures)
    head = structure_head(context, structures)
    place = latent_field(context, vae) if wanted.quantity else None
    return Realisations(
        replace(context.recipe(model=context.run.model_file), known=()),
        wanted.fidelity,
        (wanted.quantity or wanted.property,),
        File.now(context.run.structure_head_file) if head is not None else None,
        File.now(place) if place is not None else None,
        batch=_batch(wanted) if wanted.sampler == "sobol" else 1,
        modes=wanted.modes,
    )


def _multifidelity(samples: Samples, wanted: PushForward) -> Found:
    """Return the estimates from all fidelities together."""
    fidelities = (wanted.fidelity, *wanted.cheap)
    pilot = range(wanted.pilot)
    table = np.stack([samples.of(f, pilot) for f in fidelities], axis=1)
    known = table[np.isfinite(table).all(axis=1)]
    if len(known) < 8:
        raise TargetError(
            f"only {len(known)} of the {wanted.pilot} samples of the pilot have a result of every fidelity, 8 are "
            f"needed: see why in '{samples.context.run.path / 'log.jsonl'}'"
        )
    numbers = _numbers(samples, wanted, known)
    estimator = _estimator(samples, wanted, numbers)
    while wanted.half_width is not None and numbers[0] < wanted.budget:
        asked = wanted.half_width * abs(estimator.mean.value)
        if estimator.mean.half_width <= asked:
            break
        grown = min(4.0, 1.1 * (estimator.mean.half_width / asked) ** 2)
        numbers = np.where(numbers > 0, np.minimum(np.ceil(numbers * grown), wanted.most), 0).astype(int)
        numbers[0] = min(max(int(numbers[0]), 1), wanted.budget)
        estimator = _estimator(samples, wanted, numbers)
    cheap = {f: estimator.further[k].tolist() for k, f in enumerate(_used(wanted, numbers))}
    return Found(
        {statistic.name: statistic.of(estimator) for statistic in statistics_of(wanted)},
        len(estimator.y),
        _notes(estimator, samples, wanted, numbers),
        {"values": estimator.y.tolist(), "cheap": cheap},
    )


def _numbers(samples: Samples, wanted: PushForward, known: Array) -> Array:
    """Return the number of samples (1 + k,) of each fidelity."""
    costs = np.array([samples.costs[f] for f in (wanted.fidelity, *wanted.cheap)])
    budget = wanted.budget * costs[0] if wanted.half_width is None else wanted.pilot * costs.sum()
    numbers = allocate(np.cov(known.T).reshape(len(costs), -1), costs, float(budget), least=wanted.pilot)
    numbers[0] = min(numbers[0], wanted.budget)
    numbers[1:] = np.where(numbers[1:] > 0, np.clip(numbers[1:], wanted.pilot, wanted.most), 0)
    return numbers


def _used(wanted: PushForward, numbers: Array) -> list[Fidelity]:
    return [f for f, n in zip(wanted.cheap, numbers[1:], strict=True) if n > 0]


def _estimator(samples: Samples, wanted: PushForward, numbers: Array) -> Estimator:
    """Return the estimator for these numbers of samples (1 + k,), after computing the missing ones."""
    used, shared = _used(wanted, numbers), range(int(numbers[0]))
    table = np.stack([samples.of(f, shared) for f in (wanted.fidelity, *used)], axis=1)
    table = table[np.isfinite(table).all(axis=1)]
    further = []
    for fidelity, count in zip(used, numbers[numbers > 0][1:], strict=True):
        values = samples.of(fidelity, range(FURTHER, FURTHER + int(count)))
        further.append(values[np.isfinite(values)])
    return Estimator(table[:, 0], table[:, 1:], tuple(further), confidence=wanted.confidence)


def _shifts(samples: Samples, wanted: PushForward, found: Found) -> dict[str, float | None]:
    """Return the discretisation error of each estimate by name; None where it is not known."""
    assert samples.counting is not None
    asked = (s for s in statistics_of(wanted) if s.name in found.estimates)
    return {s.name: discretisation_error(samples.counting, samples.job.names[0], s.each) for s in asked}


def _notes(estimator: Estimator, samples: Samples, wanted: PushForward, numbers: Array) -> list[str]:
    """Return in words the fidelities' costs and benefits, and the contributions to the variance."""
    used = _used(wanted, numbers)
    notes = [f"{len(estimator.y)} samples by {wanted.fidelity}"
             + "".join(f", {len(f)} by {name}" for name, f in zip(used, estimator.further, strict=True))]  # fmt: skip
    if not used:
        if wanted.cheap:
            notes.append("no cheap fidelity was worth its cost")
        return notes
    notes.append(
        f"variance of the mean {estimator.reduction:.3g} times below that of the samples by {wanted.fidelity} alone"
    )
    total = estimator.variance.value
    for k, name in enumerate(used):
        g = estimator.g[:, k]
        error = estimator.y - g
        notes.append(
            f"{name}: correlation {np.corrcoef(estimator.y, g)[0, 1]:.4f}, cost {samples.costs[name]:.3g} s of "
            f"{samples.costs[wanted.fidelity]:.3g} s; by itself it is off by {error.mean():.3g} in the mean, and its "
            f"error's variance is {100 * error.var() / total:.3g} % of the microstructure's"
        )
    return notes


def _batch(wanted: PushForward) -> int:
    """Return the samples of one scrambled Sobol' sequence: a power of two."""
    return 1 << max(wanted.budget // wanted.replicates, 1).bit_length() - 1


def _sobol(samples: Samples, wanted: PushForward) -> Found:
    """Return the estimates from independent scramblings."""
    batch = _batch(wanted)
    values = samples.of(wanted.fidelity, range(batch * wanted.replicates)).reshape(wanted.replicates, batch)
    plain = float(np.nanvar(values, ddof=1)) / values.size
    own = float(np.nanmean(values, axis=1).var(ddof=1)) / wanted.replicates
    note = (
        f"{wanted.replicates} scramblings of {batch} points: variance of the mean {plain / max(own, 1e-300):.3g} "
        "times below that of independent samples"
    )
    kept = {"values": values[np.isfinite(values)].tolist(), "cheap": {}}
    return Found(scrambled(values, wanted), values.size, [note], kept)


def _controls(samples: Samples, wanted: PushForward, plain: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return the rows of the controls: latents without correlation, and the same mean properties everywhere."""
    loose = samples.values("control-uncorrelated", range(wanted.control), replace(samples.job, kind="uncorrelated"))
    loose = loose[np.isfinite(loose)]
    rows: list[tuple[str, ...]] = []
    if len(loose) >= 8:
        estimator = Estimator(loose, confidence=wanted.confidence)
        rows += [
            row_of(f"uncorrelated latents: {s.name}", s.of(estimator), len(loose)) for s in statistics_of(wanted)[:2]
        ]
    even = float(samples.values("control-homogeneous", range(1), replace(samples.job, kind="homogeneous"))[0])
    rows.append(("homogeneous mean properties", f"{even:.6g}", "", "", "1", ""))
    plain["controls"] = {"uncorrelated": loose.tolist(), "homogeneous": even}
    return rows


def _unit(context: Context) -> str:
    wanted, part = context.study.need(PushForward), context.study.find(PartSettings)
    if wanted.quantity:
        assert part is not None
        return part.units[wanted.quantity]
    units: Mapping[str, str] = {q.name: q.unit for q in context.study.need_solver().computes}
    return units[wanted.property]
