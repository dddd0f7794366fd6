"""Campaigns: one module per question that a user asks; each has a function `run(context)` that returns a table."""

from __future__ import annotations

import importlib
from dataclasses import replace

from msvae.campaigns.context import Context, Table
from msvae.metrics.solver_errors import property_errors
from msvae.run.directory import PHASES

__all__ = ["Context", "Table", "run_campaign"]

MODULES = {
    "label": "label",
    "train": "train",
    "generate": "generate",
    "inverse-design": "inverse_design",
    "compare-dns": "compare_dns",
    "push-forward": "push_forward",
    "gradation": "gradation",
}


def run_campaign(context: Context) -> Table:
    """Run the campaign that the study names, write its table into the run, and return it.

    Below every table stand the errors of what the solver computed for it.
    """
    module = importlib.import_module(f"msvae.campaigns.{MODULES[context.study.campaign]}")
    table: Table = module.run(context)
    table = replace(table, notes=(*table.notes, *_errors_in_words(context)))
    context.run.write_json("summary.json", table.plain())
    return table


def _errors_in_words(context: Context) -> list[str]:
    """Return in words the errors of each property that the run's solver computed, but of pure phases."""
    stages = [stage for stage in context.run.stages if stage != PHASES]
    return [found.text for found in property_errors(context.run.store(stage).load() for stage in stages)]
