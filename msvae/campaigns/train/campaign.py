"""The campaign "train", and its table [card]."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msvae.plugins.annotations import Natural
from msvae.plugins.interfaces import Campaign

if TYPE_CHECKING:
    from msvae.run.table import Table
    from msvae.stages.context import Context
    from msvae.stages.expected import Expected
    from msvae.study import Study

__all__ = ["Train"]


@dataclass(frozen=True)
class Train(Campaign):
    """[card]: the model card that ends a training. solve: generated structures that the solver computes for it."""

    name = "train"
    table = "card"

    solve: Natural = 0

    def expects(self, study: Study, seconds: float) -> Iterable[Expected]:
        """Yield the structures that are generated and solved for the card."""
        from msvae.stages.expected import Expected

        if self.solve and study.solver is not None:
            yield Expected("model card", self.solve)

    def run(self, context: Context) -> Table:
        """Return the card of the trained model."""
        from msvae.campaigns.train.run import run

        return run(context)
