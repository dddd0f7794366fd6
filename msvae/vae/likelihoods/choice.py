"""The choice of a likelihood for a kind of structure."""

from __future__ import annotations

from collections.abc import Callable

from msvae.errors import StudyError
from msvae.structures import Specification
from msvae.vae.likelihoods.compositions import DirichletLikelihood, MultinomialLikelihood
from msvae.vae.likelihoods.discrete import BernoulliLikelihood, CategoricalLikelihood
from msvae.vae.likelihoods.grey import ContinuousBernoulliLikelihood, GaussianLikelihood
from msvae.vae.likelihoods.likelihood import Likelihood

__all__ = ["likelihood_for"]


def likelihood_for(specification: Specification, choice: str = "auto") -> Likelihood:
    """Return the chosen likelihood, or the default of the specification's kind; StudyError if it does not fit."""
    two, composition = len(specification.constituents) == 2, specification.kind == "composition"
    usual = ("bernoulli" if two else "categorical") if specification.is_discrete else "gaussian"
    usual = "dirichlet" if composition else usual
    fitting = {
        "bernoulli": specification.is_discrete and two,
        "categorical": specification.is_discrete,
        "gaussian": not specification.is_discrete,
        "continuous-bernoulli": specification.kind == "field",
        "dirichlet": composition,
        "multinomial": composition,
    }
    name = usual if choice == "auto" else choice
    if not fitting[name]:
        raise StudyError(
            f"model.likelihood: '{name}' does not fit structures of kind '{specification.kind}' with "
            f"{len(specification.constituents)} constituents: use '{usual}'"
        )
    known: dict[str, Callable[[Specification], Likelihood]] = {
        "bernoulli": BernoulliLikelihood,
        "categorical": CategoricalLikelihood,
        "gaussian": GaussianLikelihood,
        "continuous-bernoulli": ContinuousBernoulliLikelihood,
        "dirichlet": DirichletLikelihood,
        "multinomial": MultinomialLikelihood,
    }
    return known[name](specification)
