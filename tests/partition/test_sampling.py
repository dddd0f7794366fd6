"""Moves, annealing and estimates, beside sums over all states."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from msvae import Grid, Specification
from msvae_partition.expansion.clusters import Clusters, Expansion
from msvae_partition.expansion.symmetry import Lattice
from msvae_partition.sampling import chains
from msvae_partition.sampling.annealing import anneal
from msvae_partition.sampling.chains import Moves, Population
from msvae_partition.sampling.estimate import Draws, estimated
from msvae_partition.sampling.inverse_vae import InverseVAE, fit
from msvae_partition.sampling.pooling import pooled_means
from msvae_partition.sampling.starts import FromInverseVAE, Uniform


def expansion(shape: tuple[int, ...], species: int, seed: int = 0) -> Expansion:
    """Return random interactions of pairs and triplets."""
    names = tuple("abc"[:species])
    lattice = Lattice.of(Specification("occupation", 1, Grid.of(shape, 1.0), names))
    clusters = Clusters.of(lattice, 2, 1)
    rng = np.random.default_rng(seed)
    return Expansion(clusters, 0.3, 0.25 * rng.standard_normal(len(clusters.multiplicity)) * clusters.prior, 0.0)


def every(sites: int, species: int, counts: tuple[int, ...] | None) -> np.ndarray:
    found = np.array([*itertools.product(range(species), repeat=sites)])
    if counts is None:
        return found
    return found[[np.array_equal(np.bincount(row, minlength=species), counts) for row in found]]


CASES = [((3, 3), 2, None), ((3, 3), 2, (4, 5)), ((2, 4), 3, None), ((2, 4), 3, (3, 3, 2))]


@pytest.fixture(params=["compiled", "numpy"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "numpy":
        monkeypatch.setattr(chains, "kernel", lambda: None)
    elif chains.kernel() is None:
        pytest.skip("no C compiler")


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize(("shape", "species", "counts"), CASES)
def test_moves_keep_the_boltzmann_distribution_and_the_books(
    shape: tuple[int, ...], species: int, counts: tuple[int, ...] | None
) -> None:
    """Means of all site occupations and of the energy after many sweeps, of a start with a field of its own."""
    energy = expansion(shape, species)
    sites, rng = int(np.prod(shape)), np.random.default_rng(1)
    field = rng.standard_normal((sites, species)).astype(np.float32)
    start = Uniform(energy.clusters.lattice, counts).drawn(4000, rng)
    population = Population.of(energy, start, np.broadcast_to(field, (4000, sites, species)))
    moves = Moves(energy, conserved=counts is not None)
    for _ in range(30):
        population = moves.sweep(population, 0.5, 1.3, rng)
    states = every(sites, species, counts)
    logs = 0.5 * field[np.arange(sites), states].sum(axis=1) - 1.3 * energy(states)
    weights = np.exp(logs - logsumexp(logs))
    np.testing.assert_allclose(population.energies, energy(population.occupations), atol=1e-4)
    np.testing.assert_allclose(
        population.starts, field[np.arange(sites), population.occupations].sum(axis=1, dtype=float), atol=1e-4
    )
    for value in range(species):
        np.testing.assert_allclose(
            (population.occupations == value).mean(axis=0), weights @ (states == value), atol=0.04
        )
    assert population.energies.mean() == pytest.approx(weights @ energy(states), abs=0.1)


@pytest.mark.parametrize(("shape", "species", "counts"), CASES)
def test_annealing_from_either_start_estimates_the_sum_over_states(
    shape: tuple[int, ...], species: int, counts: tuple[int, ...] | None
) -> None:
    energy, betas = expansion(shape, species), (0.8, 2.0)
    lattice, states = energy.clusters.lattice, every(int(np.prod(shape)), species, counts)
    exact = [logsumexp(-beta * energy(states)) for beta in betas]
    moves = Moves(energy, conserved=counts is not None)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        vae = InverseVAE(lattice.sites, species, 3, counts, betas[-1])
    fit(vae, energy, betas, steps=60, batch=64, seed=0)
    for start in (Uniform(lattice, counts), FromInverseVAE(vae)):
        rng = np.random.default_rng(2)
        for _ in range(2):  # the second time on the steps that the first has found
            cooled = list(start.cooled(moves, betas, (16, 400), 1, rng))
        for one, log_z in zip(cooled, exact, strict=True):
            batches = logsumexp(one.weights, axis=1) - np.log(400)
            error = np.exp(batches - log_z).std(ddof=1) / 4
            assert abs(np.exp(batches - log_z).mean() - 1) < 4 * error
            assert error < 0.1


def test_decoder_densities_are_those_of_what_is_drawn() -> None:
    """They sum to one over all occupations, with a fixed composition and without."""
    for counts in (None, (2, 2, 1)):
        with torch.random.fork_rng([]):
            torch.manual_seed(3)
            vae = InverseVAE(5, 3, 2, counts, 1.0)
        states = torch.as_tensor(every(5, 3, counts))
        logits = 3 * torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(0)).expand(len(states), -1, -1)
        logits = torch.log_softmax(logits, dim=2)
        density = vae.density(logits, states).exp()
        assert float(density.sum()) == pytest.approx(1, abs=1e-5)
        with torch.random.fork_rng([]):
            torch.manual_seed(4)
            drawn = vae.drawn(logits[:1].expand(20000, -1, -1))
        share = [(drawn == state).all(dim=1).float().mean().item() for state in states[:50]]
        np.testing.assert_allclose(share, density[:50], atol=0.015)


def draws(rng: np.random.Generator, size: int, bias: float) -> Draws:
    """Return batches and draws of one Gaussian energy, guessed with an error: log Z is known."""
    guess = rng.standard_normal((32, 50))  # density of states; beta = 1 with guessed weights exp(-guess)
    weights = -guess
    shares = np.exp(weights - logsumexp(weights))
    rows = rng.choice(1600, size, p=shares.ravel())
    own = guess.ravel()[rows]
    means = np.stack([(np.exp(weights) * guess**k).sum(1) / np.exp(weights).sum(1) for k in (1, 2)], axis=1)
    return Draws(
        logsumexp(weights, axis=1) - np.log(50),
        means,
        np.ones(32),
        rows // 50,
        own + bias * own,
        own,
        np.zeros((size, 0)),
    )


def test_intervals_hold_the_partition_function_as_often_as_they_say() -> None:
    """E = a g with g standard normal, a = 1.1: log Z = a^2 / 2, the mean energy is -a^2, its variance a^2."""
    held = {"log_z": 0, "mean": 0, "variance": 0}
    for seed in range(60):
        found = estimated(draws(np.random.default_rng(seed), 400, 0.1), 1.0, seed)
        held["log_z"] += abs(found.log_z - 1.1**2 / 2) < found.half_width
        held["mean"] += abs(found.means[0] + 1.1**2) < found.errors[0]
        held["variance"] += abs(found.means[1] - 1.1**2) < found.errors[1]
        assert found.bound - 4 * found.bound_error < 1.1**2 / 2
    assert all(count >= 51 for count in held.values()), held


def test_a_draw_without_energy_weighs_nothing_and_takes_the_bounds() -> None:
    part = draws(np.random.default_rng(0), 200, 0.0)
    part.energies[:20] = np.nan
    found = estimated(part, 1.0, 0)
    assert found.failed == 20
    assert found.bound == -np.inf
    assert found.upper == np.inf
    whole = estimated(draws(np.random.default_rng(0), 200, 0.0), 1.0, 0)
    assert found.log_z == pytest.approx(whole.log_z + np.log(0.9))


def test_a_path_that_was_found_is_taken_again() -> None:
    energy = expansion((3, 3), 2)
    start, moves = Uniform(energy.clusters.lattice, None), Moves(energy, conserved=False)
    rng = np.random.default_rng(0)
    list(start.cooled(moves, (1.0, 3.0), (8, 40), 1, rng))
    steps = list(start.path.steps)
    assert steps[start.path.stops[0]] == (0.0, 1.0)
    assert steps[-1] == (0.0, 3.0)
    list(anneal(moves, (Population.of(energy, start.drawn(80, rng)), np.zeros((2, 40))), (1.0, 3.0), start.path,
                sweeps=1, rng=rng))  # fmt: skip
    assert start.path.steps == steps


def test_what_is_rare_in_the_cold_is_known_from_warmer_occupations() -> None:
    """Exact averages within the batches' errors at each temperature, of states that no cold batch has drawn too."""
    energy, betas, shape = expansion((3, 3), 2, seed=4), (0.5, 2.0, 6.0), (16, 200)
    states = every(9, 2, None)
    logs = [-beta * energy(states) - logsumexp(-beta * energy(states)) for beta in betas]
    rare = energy(states) > energy(states).min() + 2.0
    rng = np.random.default_rng(6)
    cooled = list(Uniform(energy.clusters.lattice, None).cooled(Moves(energy, conserved=False), betas, shape, 1, rng))
    values = [(energy(one.population.occupations) > energy(states).min() + 2.0)[:, None].astype(float)
              for one in cooled]  # fmt: skip
    pooled = pooled_means(cooled, betas, values)
    for mean, exact in zip(pooled, logs, strict=True):
        error = mean.std(ddof=1) / 4
        assert abs(mean.mean() - np.exp(exact)[rare].sum()) < 4 * error
        assert error < 0.1 * mean.mean()
    assert not values[-1].any()
