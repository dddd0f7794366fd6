"""Train: fit the models to the data set, and evaluate them."""

from __future__ import annotations

from msvae.campaigns.train.model_card import model_card
from msvae.run.table import Table
from msvae.stages.context import Context
from msvae.stages.sides import sides_of
from msvae.stages.training import structure_head, trained, training_structures

__all__ = ["run"]


def run(context: Context) -> Table:
    """Return the card of the trained model."""
    structures = training_structures(context)
    vae = trained(context, structures)
    head = structure_head(context, structures)
    sides = sides_of(context, structures, vae.blueprint)
    context.run.journal.show_stage("model card")
    return model_card(context, vae, structures[sides.train], structures[sides.held_out], head, sides=sides)
