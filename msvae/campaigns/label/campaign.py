"""The campaign "label"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from msvae.plugins.interfaces import Campaign

if TYPE_CHECKING:
    from msvae.run.table import Table
    from msvae.stages.context import Context
    from msvae.stages.expected import Expected
    from msvae.study import Study

__all__ = ["Label"]


@dataclass(frozen=True)
class Label(Campaign):
    """Evaluate every structure of a data set with the solver; the settings of that stage are in [label]."""

    name = "label"
    prepares = "labels"

    def expects(self, study: Study, seconds: float) -> tuple[Expected, ...]:
        """Return nothing: the data set is labelled, and that is all."""
        return ()

    def run(self, context: Context) -> Table:
        """Return the spread of each property over the data set."""
        from msvae.campaigns.label.run import run

        return run(context)
