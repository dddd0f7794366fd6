"""The input of a searcher (model, targets, known evaluations), and the ask-tell protocol of a search in progress.

The state of a search is its seed and the sequence of results it was told. Telling it the same results again yields the
same next questions, so that a search that was killed resumes by replaying its own record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from msvae.sampling.search.aims import Target
from msvae.sampling.search.effort import Effort
from msvae.structures import Array, Structures
from msvae.study.numbers import Component

if TYPE_CHECKING:
    import torch

    from msvae.plugins.interfaces import Solver
    from msvae.vae.model import VAE

__all__ = ["Allowed", "AskTell", "Distance", "Known", "Problem"]

Distance = Callable[[Mapping[str, Array]], Array]
Allowed = Callable[[Array, Structures], Array]


class AskTell(Protocol):
    """A search in progress. price: solver calls per question, including the evaluation itself."""

    @property
    def price(self) -> int: ...

    def ask(self, n: int) -> Array:
        """Return n latents (n, d) to evaluate next."""

    def tell(self, latents: Array, distances: Array, properties: Mapping[str, Array]) -> None:
        """Learn from properties of evaluated latents (n, d), and distances (n,) from the target; NaN for failures."""


@dataclass(frozen=True, eq=False)
class Known:
    """What is known before the search: latents (n, d), their structures, and properties (n, *shape)."""

    latents: Array
    structures: Structures
    properties: Mapping[str, Array]


@dataclass(frozen=True, eq=False)
class Problem:
    """The definition of a search.

    vae: the model whose latents are searched; its heads go on learning meanwhile. solver: that answers. targets: what
    a design has to reach. numbers: of properties, that these are about. distance: (n,) of properties from the targets,
    in tolerances; 1 and less meets them. allowed: which (n,) of latents, and of what they decode to, may be asked for.
    known: labelled structures; None for a searcher that learns nothing. effort: how much a question is worth. seed:
    of everything random.
    """

    vae: VAE
    solver: Solver
    targets: tuple[Target, ...]
    numbers: tuple[Component, ...]
    distance: Distance
    allowed: Allowed
    known: Known | None
    seed: int
    effort: Effort = field(default_factory=Effort)

    def smooth(self, properties: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the root mean square of the distances (n,) from the targets, a differentiable loss."""
        import torch

        parts = torch.cat([_parts(target, properties) for target in self.targets])
        return (parts.square().mean(dim=0) + 1e-12).sqrt()


def _parts(target: Target, properties: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the distances (numbers, n) of the numbers of a target, in tolerances."""
    import torch

    array = properties[target.property]
    places: list[tuple[Any, ...]] = [(slice(None), *number.component) for number in target.numbers]
    values = torch.stack([array[place] for place in places])
    low, high = torch.tensor(target.ends, dtype=values.dtype).T[..., None]
    return torch.maximum(low - values, values - high).clamp_min(0) / (target.tolerance * target.scale)
