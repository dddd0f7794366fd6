"""Campaigns: one module per question that a user asks; each has a function `run(context)` that returns a table."""

from __future__ import annotations

import importlib

from msvae.campaigns.context import Context, Table

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
    """Run the campaign that the study names, write its table into the run, and return it."""
    module = importlib.import_module(f"msvae.campaigns.{MODULES[context.study.campaign]}")
    table: Table = module.run(context)
    context.run.write_json("summary.json", table.plain())
    return table
