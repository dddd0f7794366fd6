"""A first study as a text: what was seen, what is asked, and a comment wherever something is to be replaced."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from msvae.errors import StudyError, did_you_mean
from msvae.plugins.interfaces import Solver
from msvae.plugins.registration import settings_of
from msvae.start.materials import Tried, chosen_solver, settings_of_example, tried
from msvae.start.seen import Key, Seen
from msvae.structures import Structures
from msvae.study import Study, load_plugin
from msvae.study.schema import descriptions
from msvae.study.source import Source

__all__ = ["CAMPAIGNS", "Wanted", "first_study"]

CAMPAIGNS = {  # what is written, and what each is for
    "label": "evaluates every structure with the solver",
    "train": "trains the model, and says on its card how far it can be trusted",
    "generate": "makes structures that have given values of a property, and verifies them",
    "inverse-design": "searches for a structure that has a given value of a property, verified by the solver",
}
TOLERANCE = 0.05
PLAIN = 0.1  # share of pieces of one phase, from which it is said


@dataclass(frozen=True)
class Wanted:
    """Options of what is wanted. campaign: one of CAMPAIGNS; by default a design, or of a table a training."""

    campaign: str | None = None
    solver: str | None = None
    property: str | None = None


def first_study(seen: Seen, wanted: Wanted) -> str:
    """Return the text of a study that runs as it is, what was seen at its head.

    MsvaeError, in one sentence, where that cannot be written.
    """
    structures = seen.plugin().load(0)
    solved = structures.specification.grid.dimensions > 0 or wanted.solver is not None
    campaign = wanted.campaign or ("inverse-design" if solved else "train")
    _check(campaign, wanted, seen, solved=solved)
    said = (*seen.said, *_plain_pieces(structures))
    lines = [f"# {' '.join(sentence.split())}" for sentence in said]  # a name in a file may have lines of its own
    lines += [f'campaign = "{campaign}"  # {CAMPAIGNS[campaign]}', 'title = "A first study"', "seed = 1"]
    lines += _table("dataset", seen.dataset)
    heads = [name for name in seen.known if wanted.property in (None, name)]
    found: Tried | None = None
    if solved:
        solver, table = _solver(wanted, structures)
        found = tried(solver, structures, wanted.property)
        heads = [found.quantity.name]
        lines += [*_table("solver", table), *_others(type(solver), table)]
    if campaign != "label":
        lines += _learning(seen, structures, campaign, heads, found)
    text = "\n".join(lines) + "\n"
    Study.parse(text, name="the first study")
    return text


def _plain_pieces(structures: Structures) -> Iterator[str]:
    """Yield a warning where many pieces have one phase only, which teaches little."""
    if structures.specification.kind != "phases":
        return
    flat = structures.values.reshape(len(structures), -1)
    share = float((flat == flat[:, :1]).all(axis=1).mean())
    if share > PLAIN:
        yield f"{100 * share:.0f} % of the pieces have one phase only: larger pieces (dataset.patch) would tell more"


def _check(campaign: str, wanted: Wanted, seen: Seen, *, solved: bool) -> None:
    if campaign not in CAMPAIGNS:
        raise StudyError(
            f"--campaign {campaign}: a first study is one of {', '.join(CAMPAIGNS)}{did_you_mean(campaign, CAMPAIGNS)}"
            "; the folder examples has studies of the others"
        )
    if not solved and campaign != "train":
        raise StudyError(f"--campaign {campaign}: it needs a solver that takes compositions: name one with --solver")
    if not solved and wanted.property is not None and wanted.property not in seen.known:
        raise StudyError(
            f"--property {wanted.property}: the table has no such column of numbers"
            f"{did_you_mean(wanted.property, seen.known)} (it has: {', '.join(seen.known) or 'none'})"
        )


def _solver(wanted: Wanted, structures: Structures) -> tuple[Solver, dict[str, Key]]:
    """Return the solver with placeholders, and the keys of its table."""
    plugin = chosen_solver(wanted.solver, wanted.property, structures)
    try:
        settings = settings_of_example(plugin, len(structures.specification.constituents))
        solver = load_plugin(Solver, settings, Source("study new", ""))
    except (TypeError, ValueError):
        raise StudyError(
            f"solver '{plugin.name}' has no example to begin a study with: see `msvae plugin show {plugin.name}`"
        ) from None
    what = "PLACEHOLDERS: give those of your materials"
    return solver, {key: Key(value, what if key != "name" else "") for key, value in settings.items()}


def _others(plugin: type[Solver], given: Mapping[str, Key]) -> Iterator[str]:
    """Yield a comment for each further setting with its default; which phase the pores are may be what matters."""
    for table, name, _, default in settings_of(plugin):
        if name not in given and default and "[" not in name and "." not in name:
            yield f"# {name} = {default}  # {' '.join(descriptions(table).get(name, '').split())}".rstrip()


def _learning(
    seen: Seen, structures: Structures, campaign: str, heads: list[str], found: Tried | None
) -> Iterable[str]:
    """Return the lines of model, training and campaign."""
    small = structures.specification.grid.dimensions == 0
    if seen.architecture is not None:
        yield from _table("architecture", {"name": Key(seen.architecture)})
    model = {"latents": Key(8 if small else 16, "dimensions of the latent space")}
    number = {} if found is None else {"property": found.quantity.name, "component": list(found.component)}
    if campaign == "generate":
        model["conditions"] = Key([number], "what structures are made for")
    elif heads:
        model["heads"] = Key(heads, "properties that the model predicts from the latents")
    yield from _table("model", model)
    epochs = Key(60 if small else 30, "passes over the structures, at most")
    yield from _table("training", {"epochs": epochs, "batch_size": Key(32)})
    if found is None:
        return
    unit = found.quantity.unit
    if campaign == "generate":
        yield from _table("structure_head", {"properties": Key(heads, "judged by a second model"), "epochs": Key(10)})
        yield from _table("generate", {"values": Key([found.quantile(s) for s in (0.2, 0.5, 0.8)], unit),
                                       "samples": Key(8, "structures for each value"),
                                       "verify": Key(number, "the solver's answer beside each value")})  # fmt: skip
    if campaign == "inverse-design":
        target = number | {"value": found.quantile(0.8), "unit": unit, "tolerance": TOLERANCE}
        note = f"{len(found.values)} pieces have {found.values.min():.3g} to {found.values.max():.3g}: set your own"
        yield from _table("design", {"budget": Key(40, "solver calls of the search"), "batch": Key(4),
                                     "control_budget": Key(40, "random structures to compare with"),
                                     "targets": Key([target], note)})  # fmt: skip


def _table(name: str, keys: Mapping[str, Key]) -> list[str]:
    """Return the lines of a table, the comments behind the values."""
    lines = ["", f"[{name}]"]
    for key, entry in keys.items():
        text = f"{key} = {_toml(entry.value)}"
        lines.append(text + (f"  # {entry.comment}" if entry.comment else ""))
    return lines


def _toml(value: Any) -> str:
    """Return a value in one line of TOML.

    >>> _toml({"value": 1e-12, "axes": [True, "x"]})
    '{ value = 1e-12, axes = [true, "x"] }'
    """
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
