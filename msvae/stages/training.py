"""Training of the VAE and the structure-space head on the data set, which is first labelled if a head needs it."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch

from msvae.errors import DataError, StudyError
from msvae.run.directory import Run
from msvae.seeds import seed_of
from msvae.stages.checks import check
from msvae.stages.context import Context
from msvae.stages.labelling import labelled, the_structures
from msvae.stages.sides import sides_of
from msvae.stages.threads import torch_threads
from msvae.structures import Structures
from msvae.structures.splits import Split, split_of
from msvae.study import Study
from msvae.study.settings import TrainingSettings
from msvae.vae.blueprint import Blueprint
from msvae.vae.files import load_structure_head, save_model, save_structure_head
from msvae.vae.fitting.history import History, held_back_losses, kept_epoch
from msvae.vae.fitting.parallel import ALONE, Ranks, group
from msvae.vae.fitting.training import fit
from msvae.vae.model import VAE
from msvae.vae.structure_head import StructureHead, fit_structure_head

__all__ = ["structure_head", "trained", "training_structures", "wanted_properties"]


log = logging.getLogger(__name__)


def training_structures(context: Context) -> Structures:
    """Return the data set with every property that a head or a condition needs, from the solver where there is one."""
    wanted = wanted_properties(context.study)
    structures = the_structures(context)
    if structures.damaged:
        index, why = next(iter(structures.damaged.items()))
        raise DataError(
            f"dataset: {len(structures.damaged)} of {len(structures)} structures are damaged; structure {index}: {why}"
        )
    missing = wanted - {q.name for q in structures.quantities}
    if missing and context.study.solver is None:
        raise StudyError(
            f"{context.study.source.at(['model'])}: the data set has no property "
            f"'{min(missing)}' and the study no [solver] to compute it (it has: "
            f"{', '.join(q.name for q in structures.quantities) or 'none'})"
        )
    check(context, structures)
    return labelled(context) if missing else structures


def wanted_properties(study: Study) -> set[str]:
    """Return the properties that a study's training needs, whether they come with the data set or from the solver."""
    wanted = {*study.model.heads, *(c.property for c in (*study.model.conditions, *study.model.axes))}
    if study.structure_head is not None:
        wanted |= set(study.structure_head.properties)
    return wanted | {*study.campaign.labels()}


def trained(context: Context, structures: Structures) -> VAE:
    """Return the run's model; train it, or resume its training, if needed."""
    run, study = context.run, context.study
    if run.model_file.exists():
        return run.model
    assert study.architecture is not None
    blueprint = Blueprint.of(structures, study.model, study.architecture)
    if study.training.start_from:
        return _taken(context, blueprint)
    sides = sides_of(context, structures, blueprint)
    vae, history = _fitted(context, blueprint, structures, sides)
    train = structures[sides.train]
    run.journal.show_stage("fitting the prior")
    with torch_threads(study.executor.threads):
        vae.calibrate(structures[sides.held_out])
        prior = vae.eval().fit_aggregate(train, seed=study.seed)
        if study.model.axes:
            vae.fit_latent_flow(train, seed=study.seed)
    run.write_json("training.json", history)
    _say_which_epoch(context, history)
    run.write_json(
        "prior.json", {"chosen": prior.name, "hole": prior.hole, "held-out log-likelihood": dict(prior.scores)}
    )
    save_model(vae, run.model_file)
    return vae.eval()


def _taken(context: Context, blueprint: Blueprint) -> VAE:
    """Return the model of the run from which the study starts, with its training record."""
    run, key = context.run, context.study.source.at(["training", "start_from"])
    earlier = Run.open(Path(context.study.training.start_from))
    vae = earlier.model
    if vae.blueprint != blueprint:
        raise StudyError(
            f"{key}: the model of '{earlier.path}' has another composition, or was trained on other structures, than "
            "this study asks for: take its [model], [architecture] and [dataset]"
        )
    for name in ("training.json", "prior.json"):
        run.write_json(name, earlier.read_json(name))
    save_model(vae, run.model_file)
    return vae.eval()


def _say_which_epoch(context: Context, history: History) -> None:
    """Record in the run's log and status which epoch's weights were kept."""
    study = context.study
    kept = kept_epoch(history, study.model, study.training)
    losses = held_back_losses(history, study.model)
    said = {"epochs": len(history), "kept_epoch": kept + 1}
    context.run.journal.note("trained", **said, held_back_loss=losses[kept], held_back_loss_at_the_end=losses[-1])
    context.run.journal.show(**said)
    log.info(
        "training: kept the weights of epoch %d of %d, with a held-out loss of %.1f nats; %.1f at the end",
        kept + 1, len(history), losses[kept], losses[-1],
    )  # fmt: skip


def _fitted(context: Context, blueprint: Blueprint, structures: Structures, sides: Split) -> tuple[VAE, History]:
    """Train on this process and as many others as the study asks for; return the model and its training history."""
    run, study = context.run, context.study
    torch.manual_seed(seed_of(study.seed, "weights"))
    vae, ranks = VAE(blueprint), study.training.ranks
    with torch_threads(study.executor.threads), run.journal.progress("train") as report:
        given = (blueprint, structures, sides, study.training)
        task = partial(_help_fitting, given, study.seed, study.executor.threads)
        with group(context.executor, ranks, task) if ranks > 1 else nullcontext(ALONE) as together:
            history = fit(
                vae,
                structures,
                study.training,
                seed=study.seed,
                checkpoint=run.path / "checkpoint.safetensors",
                report=report,
                ranks=together,
                limit=context.limits.check,
                sides=sides,
            )
    return vae, history


def _help_fitting(
    given: tuple[Blueprint, Structures, Split, TrainingSettings], seed: int, threads: int, ranks: Ranks
) -> None:
    """Take part in a training led by the first rank."""
    blueprint, structures, sides, settings = given
    with torch_threads(threads):
        fit(VAE(blueprint), structures, settings, seed=seed, ranks=ranks, sides=sides)


def structure_head(context: Context, structures: Structures) -> StructureHead | None:
    """Return the run's structure-space head, trained if needed; None if the study asks for none."""
    run, study = context.run, context.study
    if study.structure_head is None:
        return None
    assert study.architecture is not None
    path = run.structure_head_file
    if path.exists():
        return load_structure_head(path, structures.specification, study.structure_head, study.architecture)
    known = {q.name: q for q in structures.quantities}
    quantities = tuple(known[name] for name in study.structure_head.properties)
    torch.manual_seed(seed_of(study.seed, "structure head weights"))
    head = StructureHead(structures.specification, quantities, study.structure_head, study.architecture)
    sides = split_of(structures, study.training.held_back, study.seed, gap=study.training.gap)
    with torch_threads(study.executor.threads), run.journal.progress("structure head") as report:
        fit_structure_head(head, structures[sides.train], seed=study.seed, report=report)
        head.calibrate(structures[sides.held_out])
    save_structure_head(head, path)
    return head
