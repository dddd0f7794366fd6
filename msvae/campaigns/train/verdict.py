"""The verdict on a model, in words: its valid uses, its invalid uses and what to change, from its card's lines."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from msvae.campaigns.train.predictions import Line

__all__ = ["verdict"]

FAR = 3.0  # times as far from held-out structures as the training set is, from which generated ones are not like them
APART = 0.3  # standard deviations, below which a distance of a descriptor is small whatever the training set's
EMPTY = 0.05  # of the reconstructions, that have lost every phase but the most frequent one
OVERLAP = 0.5  # of a structure and its reconstruction, below which it is another one
MARGIN = 0.05  # of PCA's error, within which the model is as good
FEW_LATENTS = 0.5  # of the latents in use, below which the posterior has collapsed
LEAST_NATS = 0.05  # nats of a latent, below which it tells next to nothing of its structure
OVERFITTED = 1.05  # times the least held-out loss, above which the weights that are kept are past their best
GAP = 1.5  # times the training structures' cost of reconstruction, above which the model knows those by heart
COVERED = 0.7  # of what the training set covers of held-out structures, below which samples miss too much
COPIES = 0.5  # times as near to the training set as held-out structures are, below which samples are copies
GOOD, ROUGH = 0.8, 0.5  # R2 of a prediction

LONGER = "train longer or on more structures"
ADVICE = {
    "empty": "train longer, with more latents or a lower model.beta",
    "collapsed": "lower model.beta, raise model.free_bits or training.warm_up, or ask for fewer latents",
    "below PCA": f"{LONGER}, or take another architecture",
    "past its best": 'take training.weights = "best", the default',
    "overfitted": "give it more structures or training.flips, or a smaller architecture",
    "copies": "give it more structures or fewer latents",
    "prediction": "raise model.head_weight, label more structures, or add a [structure_head]",
}


@dataclass(frozen=True)
class Finding:
    """One thing that a model is good for, or not, and what would change that."""

    use: str
    good: bool
    why: str = ""
    change: str = ""


def verdict(lines: Sequence[Line]) -> str:
    """Return in a few sentences what a model with this card can be used for, what not, and what to change."""
    card = {line.what: line for line in lines}
    found = [finding for judge in (_reconstruction, _training, _generation, _predictions) for finding in judge(card)]
    good = [f.use + (f" ({f.why})" if f.why else "") for f in found if f.good]
    bad = [f"{f.use} ({f.why})" for f in found if not f.good]
    changes = dict.fromkeys(f.change for f in found if not f.good and f.change)
    parts = [
        f"Usable for: {'; '.join(good)}." if good else "Usable for nothing yet.",
        f"NOT usable for: {'; '.join(bad)}." if bad else "",
        f"To change that: {'; '.join(changes)}." if changes else "",
    ]
    return " ".join(part for part in parts if part)


def _reconstruction(card: Mapping[str, Line]) -> Iterator[Finding]:
    """Yield whether reconstruction works, and whether it is better than with as many principal components."""
    use = "encoding and decoding structures"
    used, _, latents = str(card["latents in use"].model).partition(" of ")
    empty = card.get("reconstruction: of the most frequent phase alone")
    if empty is not None and _number(empty.model) > (empty.floor or 0.0) + EMPTY:
        yield Finding(use, False, f"{100 * _number(empty.model):.0f} % of them come back EMPTY", ADVICE["empty"])
        return
    nats = _number(card["divergence (nats), held back"].model) / int(latents)
    if int(used) < FEW_LATENTS * int(latents) or nats < LEAST_NATS:
        why = f"the posterior has collapsed: {used} of {latents} latents are in use, and tell {nats:.2g} nats each"
        yield Finding(use, False, why, ADVICE["collapsed"])
        return
    overlap, equal = (card.get(f"reconstruction: {name}") for name in ("intersection over union", "equal sites"))
    line = equal or card["reconstruction: mean squared error"]
    mine, other = _number(line.model), math.nan if line.pca is None else line.pca
    what = line.what.removeprefix("reconstruction: ")
    errors = (1 - mine, 1 - other) if equal is not None else (mine, other)
    if errors[0] > (1 + MARGIN) * errors[1]:
        why = f"BELOW PCA of as many latents: {what} {mine:.4g} against {other:.4g}"
        yield Finding(use, False, why, ADVICE["below PCA"])
    elif overlap is not None and _number(overlap.model) < OVERLAP:
        why = f"intersection over union is {_number(overlap.model):.2g}, 1 is perfect"
        yield Finding(use, False, why, ADVICE["empty"])
    else:
        yield Finding(use, True)


def _training(card: Mapping[str, Line]) -> Iterator[Finding]:
    """Yield signs of overfitting: the model has memorised its training structures."""
    use, name = "structures that it was not trained on", "loss (nats), held back"
    kept, least = _number(card[name].model), _number(card[f"{name}, at its least"].model)
    cost = card["reconstruction (nats), held back"]
    if kept > least + (OVERFITTED - 1) * abs(least):
        why = f"overfitted: its held-out loss is {kept:.4g} nats, and was {least:.4g} before"
        yield Finding(use, False, why, ADVICE["past its best"])
    elif cost.ratio is not None and cost.ratio > GAP:
        yield Finding(use, False, f"overfitted: they cost {cost.ratio:.2g} times what those do", ADVICE["overfitted"])


def _generation(card: Mapping[str, Line]) -> Iterator[Finding]:
    """Yield whether samples are like held-out structures."""
    use, lines = "generating structures", {k: line for k, line in card.items() if k.startswith("generated: ")}
    far = [
        f"{name[11:].partition(',')[0]} {line.ratio:.2g} times"
        for name, line in lines.items()
        if re.search("W1|L2|Frechet", name)
        and (line.ratio or 0.0) > FAR
        and not (name.endswith("W1/sd") and _number(line.model) < APART)
    ]
    cover = lines.get("generated: coverage")
    novel = lines.get("generated: distance to the nearest training structure, over that of held-out ones")
    if far:
        why = f"they are {', '.join(far)} as far from held-out ones as the training set is"
        yield Finding(use, False, why, f"{LONGER}; for noisy surfaces take another likelihood")
    elif cover is not None and cover.ratio is not None and cover.ratio < COVERED:
        share, whole = 100 * _number(cover.model), 100 * (cover.floor or 0.0)
        yield Finding(use, False, f"they cover {share:.0f} % of held-out ones, the training set {whole:.0f} %", LONGER)
    elif novel is not None and _number(novel.model) < COPIES:
        why = f"they are COPIES, {_number(novel.model):.2g} times as far from the training set as held-out ones"
        yield Finding(use, False, why, ADVICE["copies"])
    elif lines:
        yield Finding(use, True)


def _predictions(card: Mapping[str, Line]) -> Iterator[Finding]:
    """Yield which properties can be predicted."""
    for name, line in card.items():
        if not name.endswith(": R2"):
            continue
        way, _, what = name.removesuffix(": R2").partition(": ")
        use = f"predicting {what} from {'latents' if way == 'head on latents' else 'structures'}"
        score = _number(line.model)
        if score >= ROUGH:
            yield Finding(use, True, f"R2 {score:.2f}" + ("" if score >= GOOD else ", roughly"))
        else:
            yield Finding(use, False, f"R2 {score:.2f}", ADVICE["prediction"])


def _number(value: float | str) -> float:
    return math.nan if isinstance(value, str) else value
