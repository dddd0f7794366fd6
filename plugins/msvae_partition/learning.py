"""Learning the energy: of configurations as they occur at the temperatures, and at twice these."""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

from msvae import Array
from msvae_partition.expansion.guess import Guess
from msvae_partition.job import PILOT, Job
from msvae_partition.sampling.annealing import Cooled, chosen
from msvae_partition.sampling.starts import Uniform

__all__ = ["drawn", "learn"]

LEARNT = 0.3  # standard deviation of (E - expansion) / kT of new configurations at which learning ends
HOTTER = 0.5  # of the inverse temperatures, at which configurations are learnt too: what an expansion misses is rare


def learn(job: Job) -> list[dict[str, float]]:
    """Pay for configurations until new ones are foreseen, or for the study's share of the budget; return the course."""
    history: list[dict[str, float]] = []
    job.context.run.journal.show_stage("learning the energy")
    most = int(job.settings.learning * job.settings.budget)
    while len(job.ledger.known) < most:
        guess = Guess.of(job.clusters, job.ledger)
        rng = job.rng("learn", len(history))
        typical = [job.ledger.new(x) for x in _typical(job, guess, rng)]
        share = -(-min(job.settings.batch * len(job.betas), most - len(job.ledger.known)) // len(typical))
        new = [x[:share] for x in typical]
        together = np.concatenate(new)
        if not len(together):
            return history
        together = together[np.sort(np.unique(together, axis=0, return_index=True)[1])]
        job.ledger.pay(f"learn-{len(history)}", together)
        errors = _errors(job, guess, new)
        history.append({"paid": len(job.ledger.known), "spread": float(errors.std()) if len(errors) else float("nan")})
        if len(errors) > 1 and errors.std() < LEARNT:
            return history
    return history


def _errors(job: Job, guess: Guess, new: list[Array]) -> Array:
    """Return (E - expansion) / kT of configurations, each at its temperature, without failed ones."""
    left = [beta * (job.ledger.energies(x) - guess.expansion(x))
            for x, beta in zip(new, _betas(job), strict=True)]  # fmt: skip
    errors = np.concatenate(left)
    return errors[np.isfinite(errors)]


def _betas(job: Job) -> list[float]:
    return sorted({*job.betas, *(HOTTER * beta for beta in job.betas)})


def _typical(job: Job, guess: Guess, rng: np.random.Generator) -> list[Array]:
    """Return configurations of the expansion at every temperature, and at hotter ones."""
    start, found = Uniform(job.ledger.lattice, job.uniform.counts), []
    for cooled in start.cooled(guess.moves, _betas(job), PILOT, job.settings.sweeps, rng):
        rows, _ = drawn(cooled, job.settings.batch, rng)
        found.append(cooled.population.occupations[rows])
    return found


def drawn(cooled: Cooled, count: int, rng: np.random.Generator, among: Array | None = None) -> tuple[Array, Array]:
    """Return the rows (count,) of occupations drawn by their weights, and the batch of each.

    among (n,): those that may be drawn; no rows if they weigh nothing.
    """
    shares = np.exp(cooled.weights - logsumexp(cooled.weights)).ravel()
    if among is not None:
        shares = shares * among
    if not shares.any():
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    rows = chosen(shares / shares.sum(), count, rng)
    return rows, rows // cooled.weights.shape[1]
