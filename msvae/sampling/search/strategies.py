"""The core's own search strategies, as plugins that a study can name in design.searcher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msvae.plugins.interfaces import Searcher
from msvae.seeds import seed_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np

    from msvae.sampling.search.problem import AskTell, Problem
    from msvae.structures import Array

__all__ = ["Botorch", "Composite", "Conditional", "GaussianProcess", "Gradient", "Random"]


@dataclass(frozen=True)
class Random(Searcher):
    """Samples of the fitted prior: the control that every search has to beat."""

    name = "random"
    learns = False

    def search(self, problem: Problem) -> AskTell:
        from msvae.sampling.search.searchers.random import RandomSearch

        return RandomSearch(problem.vae, problem.seed)


@dataclass(frozen=True)
class Conditional(Random):
    """Samples of the fitted prior under the targets, of a model whose conditions they are."""

    name = "conditional"
    conditions = True


@dataclass(frozen=True)
class Composite(Searcher):
    """A Gaussian process for every targeted number; candidates from the prior, around the best, and by descent.

    A fast solver answers plain candidates beside every question.
    """

    name = "composite"
    heads = True
    fronts = True

    def search(self, problem: Problem) -> AskTell:
        from msvae.sampling.search.searchers.plain import PlainSearch

        if not problem.effort.plain:
            return self._model_based(problem)
        return PlainSearch(
            problem.vae,
            problem.numbers,
            problem.distance,
            other=lambda: self._model_based(problem),
            plain=problem.effort.plain,
            seed=problem.seed,
            known=problem.known,
        )

    def _model_based(self, problem: Problem) -> AskTell:
        from msvae.sampling.search.descent import descents
        from msvae.sampling.search.searchers.composite import CompositeSearch

        vae, known = problem.vae, problem.known

        def descended(n: int, question: int) -> Array:
            assert known is not None
            return descents(vae, problem.smooth, known.latents, n, seed_of(problem.seed, question))

        more = descended if vae.heads and known is not None else None
        return CompositeSearch(**_composite(problem), more=more)

    def front(self, problem: Problem, losses: Any, rng: np.random.Generator) -> AskTell:
        from msvae.sampling.search.searchers.composite import CompositeSearch
        from msvae.sampling.search.searchers.front import Aimed

        return Aimed(CompositeSearch(**_composite(problem)), losses, rng)


@dataclass(frozen=True)
class Botorch(Searcher):
    """BoTorch's noisy expected improvement, on the candidates of the composite search; needs msvae[botorch]."""

    name = "botorch"
    fronts = True
    package = ("botorch", "botorch")

    def search(self, problem: Problem) -> AskTell:
        from msvae.sampling.search.searchers.botorch import BotorchSearch

        return BotorchSearch(
            problem.vae,
            problem.numbers,
            problem.distance,
            seed=problem.seed,
            known=problem.known,
            allowed=problem.allowed,
        )

    def front(self, problem: Problem, losses: Any, rng: np.random.Generator) -> AskTell:
        from msvae.sampling.search.searchers.botorch import BotorchSearch

        assert problem.known is not None
        return BotorchSearch(**_composite(problem)).towards(losses, losses.reference(problem.known.properties))


def _composite(problem: Problem) -> dict[str, Any]:
    """Return what a composite search is made from; the heads expect the numbers if they predict all of them."""
    names = {number.property for number in problem.numbers}
    expected: Callable[[Array], Mapping[str, Array]] | None
    expected = problem.vae.predict if names <= set(problem.vae.heads) else None
    return {
        "vae": problem.vae,
        "targets": problem.numbers,
        "distance": problem.distance,
        "seed": problem.seed,
        "known": problem.known,
        "expected": expected,
        "allowed": problem.allowed,
        "effort": problem.effort,
    }


@dataclass(frozen=True)
class GaussianProcess(Searcher):
    """scikit-optimize's Gaussian process over the latents, and descent through the head."""

    name = "gaussian-process"
    heads = True
    package = ("skopt", "skopt")

    def search(self, problem: Problem) -> AskTell:
        from msvae.sampling.search.searchers.optimiser import GaussianProcessSearch

        assert problem.known is not None
        nearness = problem.distance(problem.known.properties)
        return GaussianProcessSearch(
            problem.vae, problem.smooth, encoded=problem.known.latents, known=nearness, seed=problem.seed
        )


@dataclass(frozen=True)
class Gradient(Searcher):
    """Steps with derivatives through decoder and solver, where it has them.

    Each costs two solver calls and one for every number.
    """

    name = "gradient"

    def search(self, problem: Problem) -> AskTell:
        from msvae.sampling.search.searchers.gradient import GradientSearch

        assert problem.known is not None
        return GradientSearch(
            problem.vae,
            problem.solver,
            problem.targets,
            problem.distance,
            known=problem.known,
            allowed=problem.allowed,
            seed=problem.seed,
        )
