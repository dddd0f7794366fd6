"""The campaign's run: first energies, an expansion that learns, an inverse VAE, and batches that estimate."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from scipy.special import logsumexp

from msvae import Array, Context, Structures, StudyError, Table, TargetError, seed_of, the_structures
from msvae_partition.campaign import Partition
from msvae_partition.defects import FOUND, defects
from msvae_partition.expansion.clusters import Clusters, Expansion
from msvae_partition.expansion.guess import Guess
from msvae_partition.expansion.ledger import Ledger
from msvae_partition.expansion.symmetry import Lattice
from msvae_partition.job import Job
from msvae_partition.learning import learn
from msvae_partition.models.ising import BOLTZMANN
from msvae_partition.observables import Observables
from msvae_partition.rounds import estimate
from msvae_partition.sampling.inverse_vae import InverseVAE, fit
from msvae_partition.sampling.starts import FromInverseVAE, Start, Uniform
from msvae_partition.summary import table_of

__all__ = ["run"]

CHECKED = 8  # occupations, an image of each of which is evaluated too
KEPT = 10  # configurations of least energy that the result names
EQUAL = 1e-6  # of the spread of energies: images that differ by more are no images
LEAST = 1  # first energies without which there is no expansion


def run(context: Context, settings: Partition) -> Table:
    """Return log Z and averages at every temperature."""
    job = _job(context, settings)
    history = learn(job)
    starts: list[Start] = [job.uniform]
    if settings.bits:
        starts.insert(0, _trained(job))
    estimates, convergence, start = estimate(job, starts)
    expansion = Guess.of(job.clusters, job.ledger).expansion
    alone = _of_vae(job, starts[0], expansion) if isinstance(starts[0], FromInverseVAE) else []
    found = {
        "temperatures": [1 / (b * BOLTZMANN) for b in job.betas], "sites": job.ledger.lattice.sites,
        "constituents": list(job.ledger.structures.specification.constituents),
        "operations": len(job.ledger.lattice.operations), "paid": len(job.ledger.known), "start": start,
        "names": ["energy", "variance", *job.observables.names], "learning": history, "convergence": convergence,
        "expansion_error": expansion.error, "inverse_vae": alone, "lowest": _lowest(job.ledger),
        "free": job.ledger.free.tolist(), "all_sites": len(job.ledger.background),
        "estimates": [asdict(e) | {"means": e.means.tolist(), "errors": e.errors.tolist()} for e in estimates],
        "short_range_order": [job.observables.short_range_order(e.means[2:]) for e in estimates],
    }  # fmt: skip
    if settings.against is not None:
        found["defects"] = defects(found, settings.against, len(job.ledger.background))
    context.run.write_json(FOUND, found)
    return table_of(found, settings)


def _job(context: Context, settings: Partition) -> Job:
    """Return the lattice with its first energies."""
    structures = the_structures(context)
    settings.check_structures(context, structures)
    misfit = context.study.need_solver().misfit(structures.specification)
    if misfit:
        raise StudyError(f"solver: {misfit}")
    names = structures.specification.constituents
    lattice, free = _lattice(settings, structures)
    background = structures.values[0].ravel()
    ledger = Ledger(context, settings, structures, lattice, free, background)
    occupations = structures.values.reshape(len(structures), -1)[:, free]
    if settings.conserved:
        rng = np.random.default_rng(seed_of(context.study.seed, "first"))
        occupations = rng.permuted(np.tile(occupations[0], (len(structures), 1)), axis=1)
    counts = tuple(np.bincount(occupations[0], minlength=len(names)).tolist()) if settings.conserved else None
    observables = Observables.of(lattice, names, settings.order)
    betas = tuple(1 / (BOLTZMANN * kelvin) for kelvin in sorted(settings.temperatures, reverse=True))
    clusters = Clusters.of(lattice, settings.pairs, settings.triplets)
    context.run.journal.show_stage("first energies")
    ledger.pay("start", ledger.new(occupations)[: settings.budget])
    if len(ledger.table()[1]) < LEAST:
        raise TargetError(
            f"{len(ledger.table()[1])} of the first {len(ledger.known)} configurations have an energy, expected at "
            f"least {LEAST}: give the data set more structures, or mend the solver"
        )
    _check_symmetry(context, ledger)
    return Job(context, settings, ledger, clusters, observables, Uniform(lattice, counts), betas)


def _lattice(settings: Partition, structures: Structures) -> tuple[Lattice, Array]:
    """Return the lattice of the sites that are occupied in all ways, and their numbers among all sites."""
    whole = Lattice.of(structures.specification, settings.basis, crystal=settings.crystal, symmetric=settings.symmetry)
    if settings.radius is None:
        return whole, np.arange(whole.sites)
    if settings.center >= whole.sites:
        raise StudyError(f"partition.center: expected the number of one of {whole.sites} sites, from 0, found "
                         f"{settings.center}")  # fmt: skip
    return whole.around(settings.center, settings.radius, structures.values[0].ravel().astype(np.int64))


def _check_symmetry(context: Context, ledger: Ledger) -> None:
    """Raise StudyError where the solver gives images of an occupation different energies."""
    if len(ledger.lattice.operations) == 1:
        return
    rows, energies = ledger.table()
    rng = np.random.default_rng(seed_of(context.study.seed, "images"))
    operations = ledger.lattice.operations[rng.integers(0, len(ledger.lattice.operations), min(CHECKED, len(rows)))]
    images = np.take_along_axis(rows[: len(operations)], operations, axis=1)
    found = ledger.solved("images", images)
    apart = np.nanmax(np.abs(found - energies[: len(images)]), initial=0.0)
    allowed = EQUAL * max(float(np.ptp(energies)), abs(float(energies.mean())) * 1e-3)
    if apart > allowed:
        raise StudyError(
            f"partition.symmetry: an occupation and its image under an operation of the lattice differ in energy by "
            f"{apart:.2e} J, expected at most {allowed:.0e} J: set symmetry = false, or give the positions of the "
            "sites in partition.basis"
        )


def _lowest(ledger: Ledger) -> list[dict[str, Any]]:
    """Return the evaluated configurations of least energy."""
    rows, energies = ledger.table()
    order = np.argsort(energies, kind="stable")[:KEPT]
    return [{"occupation": rows[k].tolist(), "energy": float(energies[k])} for k in order]


def _trained(job: Job) -> FromInverseVAE:
    """Return the inverse VAE, trained on the expansion."""
    import torch

    job.context.run.journal.show_stage("training the inverse VAE")
    lattice, seed = job.ledger.lattice, seed_of(job.context.study.seed, "inverse-vae")
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        vae = InverseVAE(lattice.sites, lattice.species, job.settings.bits, job.uniform.counts, job.betas[-1])
    expansion = Guess.of(job.clusters, job.ledger).expansion
    fit(vae, expansion, job.betas, steps=job.settings.steps, batch=128 * min(len(job.betas), 4), seed=seed)
    return FromInverseVAE(vae)


def _of_vae(job: Job, start: FromInverseVAE, expansion: Expansion) -> list[dict[str, float]]:
    """Return what the inverse VAE says of the expansion's log Z without annealing: bound, estimate, effective share."""
    found = []
    for beta in job.betas:
        sample = start.vae.sample(job.settings.batches * job.settings.particles, beta, job.rng("alone", beta))
        weights = -beta * expansion(sample.occupations) + sample.recognised - sample.density
        both = float(2 * logsumexp(weights) - logsumexp(2 * weights))
        found.append({"bound": float(weights.mean()), "log_z": float(logsumexp(weights) - np.log(len(weights))),
                      "effective": float(np.exp(both)) / len(weights)})  # fmt: skip
    return found
