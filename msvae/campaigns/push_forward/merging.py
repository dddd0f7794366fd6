"""Replicates of one push-forward, such as an array of jobs has made, merged into one result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from msvae.campaigns.push_forward.campaign import PushForward
from msvae.campaigns.push_forward.statistics import (
    FURTHER,
    columns_of,
    from_scatter,
    plain_estimates,
    row_of,
    scrambled,
    statistics_of,
)
from msvae.errors import RunError
from msvae.run.directory import Run
from msvae.run.table import Table
from msvae.sampling.estimators import Estimator
from msvae.structures import Array

__all__ = ["merged"]

APART = ("seed", "title", "executor", "limits", "cache", "plugin_files")  # in which replicates may differ
SIGNIFICANT = 0.01  # below, the runs' means differ by more than their samples explain


def merged(paths: Sequence[Path], *, trust: bool = False) -> tuple[Table, dict[str, Any]]:
    """Return the table of several runs' samples together, and its numbers as plain values.

    RunError unless these are finished push-forwards of one study that differ in their seeds. Samples of all runs have
    the same weight; where the means of the runs differ significantly (an F test), a note says so, for the runs' models
    differ then, and the interval is that of their means.
    """
    runs = [Run.open(path, trust=trust) for path in paths]
    wanted = _same_study(runs)
    own = [_values(run, wanted) for run in runs]
    notes = [f"{len(runs)} runs with seeds {', '.join(str(run.study.seed) for run in runs)}"]
    if wanted.sampler == "sobol":
        values = np.concatenate([_scramblings(run, wanted) for run in runs])
        estimates, samples = scrambled(values, wanted), values.size
    else:
        estimator = _estimator(runs, wanted)
        estimates, samples = {s.name: s.of(estimator) for s in statistics_of(wanted)}, len(estimator.y)
    chance = float(stats.f_oneway(*own).pvalue) if len(runs) > 1 else 1.0
    if chance < SIGNIFICANT:
        estimates["mean"] = from_scatter(np.array([values.mean() for values in own]), wanted.confidence)
        notes.append(
            f"the runs' means differ by more than their samples explain (p = {chance:.1g}): their models differ; the "
            "mean's interval is that of the runs' means. Train once, and let the others start from it "
            "(training.start_from)"
        )
    rows = tuple(row_of(name, estimate, samples) for name, estimate in estimates.items())
    title = f"Push-forward: {wanted.quantity or wanted.of}, {len(runs)} runs"
    plain = {"runs": [str(p) for p in paths], "samples": samples, "estimates": plain_estimates(estimates),
             "p_equal_means": chance}  # fmt: skip
    return Table(title, columns_of(wanted), rows, tuple(notes)), plain


def _same_study(runs: Sequence[Run]) -> PushForward:
    """Return the campaign of all runs; RunError if they are no replicates of each other."""
    first = runs[0]
    seen: dict[int, Run] = {}
    for run in runs:
        if run.study.campaign.name != PushForward.name:
            raise RunError(
                f"'{run.path}' is a run of '{run.study.campaign.name}'; runs of 'push-forward' are merged (those of "
                "'label' are read together by [dataset] name = \"run\", with more)"
            )
        if run.read_json("summary.json") is None:
            raise RunError(f"'{run.path}' is not finished: go on with --resume")
        tables = [{k: v for k, v in r.study.tables.items() if k not in APART} for r in (first, run)]
        apart = sorted(k for k in {*tables[0], *tables[1]} if tables[0].get(k) != tables[1].get(k))
        if apart:
            raise RunError(
                f"'{run.path}' and '{first.path}' differ in [{apart[0]}]: merge runs that differ in their seed"
            )
        other = seen.setdefault(run.study.seed, run)
        if other is not run:
            raise RunError(
                f"'{run.path}' and '{other.path}' have the same samples, of seed {run.study.seed}: give each its own"
            )
    return first.study.need(PushForward)


def _column(run: Run, fidelity: str) -> dict[int, float]:
    """Return the finite values of a fidelity by the number of the sample."""
    table = run.store(f"samples-{fidelity}").load().latest()
    (values,) = (np.asarray(v, dtype=np.float64).ravel() for v in table.properties.values())
    return {int(k): float(v) for k, v in zip(table["index"], values, strict=True) if np.isfinite(v)}


def _values(run: Run, wanted: PushForward) -> Array:
    values = [v for k, v in _column(run, wanted.fidelity).items() if k < FURTHER]
    if len(values) < 2:
        raise RunError(f"'{run.path}' has {len(values)} samples with a result: two and more are needed")
    return np.array(values)


def _scramblings(run: Run, wanted: PushForward) -> Array:
    """Return the values (replicates, batch) of independent scrambled sequences, NaN where they failed."""
    values = _column(run, wanted.fidelity)
    count = max(values) + 1
    batch = -(-count // wanted.replicates)
    return np.array([values.get(k, np.nan) for k in range(batch * wanted.replicates)]).reshape(wanted.replicates, batch)


def _estimator(runs: Sequence[Run], wanted: PushForward) -> Estimator:
    """Return the estimator of all runs' samples; cheap fidelities that some run has left out are left out."""
    columns = [{f: _column(run, f) for f in (wanted.fidelity, *wanted.cheap)} for run in runs]
    used = [f for f in wanted.cheap if all(sum(k >= FURTHER for k in c[f]) > 1 for c in columns)]
    tables, further = [], []
    for own in columns:
        shared = sorted(set.intersection(*({k for k in own[f] if k < FURTHER} for f in (wanted.fidelity, *used))))
        tables.append(np.array([[own[f][k] for f in (wanted.fidelity, *used)] for k in shared]))
    for fidelity in used:
        further.append(np.array([v for own in columns for k, v in own[fidelity].items() if k >= FURTHER]))
    table = np.concatenate(tables)
    return Estimator(table[:, 0], table[:, 1:], tuple(further), confidence=wanted.confidence)
