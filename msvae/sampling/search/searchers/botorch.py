"""BoTorch's acquisition functions as a searcher (`pip install msvae[botorch]`).

Noisy expected improvement of the composed distance, or noisy expected hypervolume improvement of two losses (Ament et
al. 2023, arXiv:2310.20708; Daulton et al. 2021, arXiv:2105.08195), with evaluations in progress as pending points.
Models and candidates use the coordinates of the composite search.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from msvae.errors import StudyError
from msvae.sampling.search.searchers.composite import CompositeSearch
from msvae.sampling.search.searchers.targeted import properties_of
from msvae.structures import Array

__all__ = ["BotorchSearch"]

SAMPLES = 64  # of the models, at a time
Losses = Callable[[Mapping[str, Array]], Array]


class BotorchSearch(CompositeSearch):
    """A composite search whose acquisition is BoTorch's; with `pareto`, by expected hypervolume improvement.

    It models the targets themselves, without the predictions of a head.
    """

    pareto: tuple[Losses, Array] | None = None

    def towards(self, losses: Losses, reference: Array) -> BotorchSearch:
        """Search for the Pareto front of losses (n, 2) up to a reference point (2,); return the searcher."""
        self.pareto = losses, reference
        return self

    def _improving(self, n: int, known: Array, rng: np.random.Generator) -> Array:
        candidates, features = self._candidates(known, rng)
        rows, where = self._rows(known), self._at(candidates, features)
        works = self._works(where) > 0
        candidates, where = candidates[works], where[works]
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of kernels without effect, and of inputs that are not in a unit cube
            torch.manual_seed(int(rng.integers(2**31)))
            points = torch.as_tensor(self._at(self.latents[rows], self.features[rows]))
            acquisition = self._acquisition(points, torch.as_tensor(self._scaled(self.values[rows])))
            chosen = _best(acquisition, torch.as_tensor(where), n)
        return np.asarray(candidates[chosen])

    def _acquisition(self, points: Tensor, values: Tensor) -> Any:
        """Return BoTorch's acquisition function, given points (m, k) at which the targets have values (m, targets)."""
        try:
            from botorch.acquisition import qLogNoisyExpectedImprovement
            from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
            from botorch.acquisition.multi_objective.objective import GenericMCMultiOutputObjective
            from botorch.acquisition.objective import GenericMCObjective
            from botorch.sampling import SobolQMCNormalSampler
        except ImportError as error:
            raise StudyError(f"searcher 'botorch' cannot be used ({error}): pip install msvae[botorch]") from None
        sampler = SobolQMCNormalSampler(torch.Size([SAMPLES]), seed=0)
        pending = torch.as_tensor(self._at(self.pending, self._features(self.pending))) if len(self.pending) else None
        shared: dict[str, Any] = {
            "X_baseline": points,
            "sampler": sampler,
            "X_pending": pending,
            "prune_baseline": True,
        }
        if self.pareto is None:
            nearness = GenericMCObjective(lambda samples, X=None: -self._composed(samples, self.distance))
            return qLogNoisyExpectedImprovement(_fitted(points, values), objective=nearness, **shared)
        losses, reference = self.pareto
        gains = GenericMCMultiOutputObjective(lambda samples, X=None: -self._composed(samples, losses))
        return qLogNoisyExpectedHypervolumeImprovement(
            _fitted(points, values), ref_point=-torch.as_tensor(reference), objective=gains, **shared
        )

    def _composed(self, samples: Tensor, composed: Callable[[Mapping[str, Array]], Array]) -> Tensor:
        """Compose samples (..., targets) of the targets to the objective (...) or to two losses (..., 2)."""
        flat = samples.detach().numpy().reshape(-1, samples.shape[-1])
        flat = np.where(self._wide, np.exp(np.where(self._wide, flat, 0.0)), flat)
        found = np.asarray(composed(properties_of(self.targets, flat)))
        return torch.as_tensor(found.reshape(*samples.shape[:-1], *found.shape[1:]))


def _fitted(points: Tensor, values: Tensor) -> Any:
    """Fit to points (m, k) and values (m, targets) a Gaussian process per target, each with its own kernel."""
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import ModelListGP, SingleTaskGP
    from botorch.models.transforms import Standardize
    from gpytorch.mlls import SumMarginalLogLikelihood

    columns = [values[:, k : k + 1] for k in range(values.shape[1])]
    models = ModelListGP(*(SingleTaskGP(points, column, outcome_transform=Standardize(1)) for column in columns))
    fit_gpytorch_mll(SumMarginalLogLikelihood(models.likelihood, models))
    return models


@torch.no_grad()
def _best(acquisition: Any, choices: Tensor, n: int) -> list[int]:
    """Return the rows of choices (m, k) with the highest acquisition, each given the previous ones as pending."""
    chosen: list[int] = []
    pending = acquisition.X_pending
    for _ in range(n):
        parts = [acquisition(part[:, None]) for part in choices.split(200)]
        worth = torch.cat(parts)
        worth[chosen] = -torch.inf
        chosen.append(int(worth.argmax()))
        taken = choices[chosen]
        acquisition.set_X_pending(taken if pending is None else torch.cat([pending, taken]))
    return chosen
