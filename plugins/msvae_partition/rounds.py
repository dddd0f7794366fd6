"""Rounds of batches and draws: each has a better guess of the energy; the last one's gives the estimate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import logsumexp

from msvae import Array, TargetError, seed_of
from msvae_partition.expansion.guess import Guess
from msvae_partition.job import PILOT, Job
from msvae_partition.learning import drawn
from msvae_partition.sampling.annealing import Cooled, normalised, resampled
from msvae_partition.sampling.chains import Population
from msvae_partition.sampling.estimate import Draws, Estimate, correction_error, estimated, merged
from msvae_partition.sampling.pooling import pooled_means
from msvae_partition.sampling.starts import Start, spread

__all__ = ["estimate"]


DRAWS = 0.7  # of the interval that is asked for, which draws may make
SETTLE, TRIES = 20, 4  # rounds of moves by guessed energies, and the moves in each
RARE, AGAIN = 0.2, 8  # of the draws: fewer new ones are guessed better in another round, of so many


@dataclass(frozen=True, eq=False)
class Round:
    """A guess, the start of its annealing, batches with `count` draws at each temperature; how many were paid for."""

    guess: Guess
    start: Start
    parts: list[list[Draws]]
    count: int
    paid: int

    def estimates(self, job: Job) -> list[Estimate]:
        """Return the estimate at each temperature."""
        seed = seed_of(job.context.study.seed, "bootstrap")
        return [estimated(merged(p), beta, seed) for p, beta in zip(self.parts, job.betas, strict=True)]


def estimate(job: Job, starts: Sequence[Start]) -> tuple[list[Estimate], list[dict[str, Any]], str]:
    """Return the estimates, how they came about with the evaluations, and the name of the start."""
    course: list[dict[str, Any]] = []
    job.context.run.journal.show_stage("estimating")
    last: Round | None = None
    count = job.settings.draws
    while True:
        now = _round(job, starts, len(course), count, last.count if last else job.settings.draws)
        if now is None:
            break
        last = now
        found = last.estimates(job)
        course.append({"paid": len(job.ledger.known), "draws": now.count, "log_z": [e.log_z for e in found],
                       "half_width": [e.half_width for e in found]})  # fmt: skip
        count = max(_draws_needed(job, last, found), last.count)
        rare = 0 < last.paid <= RARE * last.count * len(job.betas) and len(course) < AGAIN
        if count == last.count and not rare:
            break
    if last is None:
        raise TargetError(
            f"partition.budget: {job.ledger.left} evaluations are left for the first estimate, which needs more: allow "
            "a larger one, a smaller share for learning, or fewer draws"
        )
    return _precise(job, last, len(course)), course, last.start.name


def _round(job: Job, starts: Sequence[Start], number: int, count: int, least: int) -> Round | None:
    """Return a round with this number of draws at each temperature; where the budget is short with fewer, or None.

    least: draws that it has to have; fewer than an earlier round's would be less precise than that.
    """
    guess, rng = Guess.of(job.clusters, job.ledger), job.rng("estimate", number)
    start = _chosen(job, guess, starts, number)
    cooled = _cooled(job, guess, start, rng)
    unknown = [guess.unknown(one.population.occupations) for one in cooled]
    while count >= least:
        rows = [drawn(one, count, rng, among) for one, among in zip(cooled, unknown, strict=True)]
        taken = [one.population.occupations[r] for one, (r, _) in zip(cooled, rows, strict=True)]
        new = job.ledger.new(np.concatenate(taken))
        if len(new) <= job.ledger.left:
            job.ledger.pay(f"estimate-{number}", new)
            return Round(guess, start, [[part] for part in _parts(job, cooled, unknown, rows)], count, len(new))
        count = int(0.8 * count)
    return None


def _precise(job: Job, last: Round, number: int) -> list[Estimate]:
    """Return the estimates of a round, after further batches without draws until these are precise."""
    found = last.estimates(job)
    for more in range(job.settings.rounds):
        limit = job.settings.precision * job.ledger.lattice.sites
        own = [2 * correction_error(merged(p), b) for p, b in zip(last.parts, job.betas, strict=True)]
        if all(e.half_width <= max(limit, 1.2 * c) for e, c in zip(found, own, strict=True)):
            break
        rng, none = job.rng("more", number, more), (np.zeros(0, dtype=np.int64),) * 2
        cooled = _cooled(job, last.guess, last.start, rng)
        unknown = [last.guess.unknown(one.population.occupations) for one in cooled]
        for part, new in zip(last.parts, _parts(job, cooled, unknown, [none] * len(cooled)), strict=True):
            part.append(new)
        found = last.estimates(job)
    return found


def _draws_needed(job: Job, now: Round, estimates: Sequence[Estimate]) -> int:
    """Return how many draws it takes for the correction to be as precise as asked for, at every temperature."""
    goal, most = DRAWS * job.settings.precision * job.ledger.lattice.sites, 0
    for part, estimate in zip(now.parts, estimates, strict=True):
        own = 2 * correction_error(merged(part), estimate.beta)
        wanted = now.count * min((own / goal) ** 2, 8) if np.isfinite(own) else 8 * now.count
        most = max(most, int(wanted), 2 * now.count if estimate.effective < job.settings.effective else 0)
    return min(most, job.settings.batches * job.settings.particles)


def _chosen(job: Job, guess: Guess, starts: Sequence[Start], number: int) -> Start:
    """Return the start that is asked for, or the one whose batches spread less for their steps; its steps are found."""
    asked = job.settings.start
    costs = {}
    for start in starts:
        if asked not in ("auto", start.name):
            continue
        start.forget()
        rng = job.rng("pilot", start.name, number)
        cooled = list(start.cooled(guess.moves, job.betas, PILOT, job.settings.sweeps, rng))
        costs[start.name] = max(map(spread, cooled)) ** 2 * start.steps
    return min((s for s in starts if s.name in costs), key=lambda s: costs[s.name])


def _cooled(job: Job, guess: Guess, start: Start, rng: np.random.Generator) -> list[Cooled]:
    """Return batches at every temperature, weighed by the guessed energies."""
    shape, found = (job.settings.batches, job.settings.particles), []
    cooling = start.cooled(guess.moves, job.betas, shape, job.settings.sweeps, rng)
    for beta, cooled in zip(job.betas, cooling, strict=True):
        population, expanded = cooled.population, cooled.population.energies
        population = replace(population, energies=guess.energies(population.occupations, expanded))
        weights = cooled.weights - beta * (population.energies - expanded).reshape(shape)
        is_expansion = bool((population.energies == expanded).all())
        population, weights = resampled(population, weights, rng)
        found.append(Cooled(population if is_expansion else _settled(guess, population, beta, rng), weights))
    return found


def _settled(guess: Guess, population: Population, beta: float, rng: np.random.Generator) -> Population:
    """Return a population of guessed energies after moves by the expansion that are accepted by these.

    Delayed acceptance (Christen and Fox 2005, J. Comput. Graph. Stat. 14, 795): what the expansion takes for rare, and
    is known not to be, is visited as often as it should be.
    """
    expanded = guess.expansion(population.occupations)
    for _ in range(SETTLE):
        before = replace(population, energies=expanded.copy())
        new = guess.moves.sweep(before, 0.0, beta, rng, TRIES)
        energies = guess.energies(new.occupations, new.energies)
        change = (energies - new.energies) - (population.energies - expanded)
        taken = np.log(rng.random(len(change))) < -beta * change
        expanded = np.where(taken, new.energies, expanded)
        occupations = np.where(taken[:, None], new.occupations, population.occupations)
        population = replace(population, occupations=np.ascontiguousarray(occupations),
                             energies=np.where(taken, energies, population.energies))  # fmt: skip
    return population


def _parts(job: Job, cooled: list[Cooled], unknown: list[Array], drawn: list[tuple[Array, Array]]) -> list[Draws]:
    """Return batches and draws at every temperature.

    unknown: K arrays (n,), occupations without a known energy. drawn: K times the rows and the batches of draws.
    """
    others = [job.observables.values(one.population.occupations) for one in cooled]
    values = [np.column_stack([one.population.energies, one.population.energies**2, other])
              for one, other in zip(cooled, others, strict=True)]  # fmt: skip
    parts = []
    for one, other, new, (rows, batch), means in zip(
        cooled, others, unknown, drawn, pooled_means(cooled, job.betas, values), strict=True
    ):
        weights = logsumexp(one.weights, axis=1) - np.log(one.weights.shape[1])
        guessed = (normalised(one.weights) * new.reshape(one.weights.shape)).sum(axis=1)
        energies = job.ledger.energies(one.population.occupations[rows])
        parts.append(Draws(weights, means, guessed, batch, energies, one.population.energies[rows], other[rows]))
    return parts
