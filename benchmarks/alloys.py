"""Semi-supervised VAE of alloys against its source (arXiv:2409.06740), random forests and the network without it.

python benchmarks/alloys.py TABLE.csv [--splits 10] [--families base]

Every split holds 20 % of the alloys out; a tenth of the others chooses the epoch. Prints medians as Markdown.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from sklearn.ensemble import RandomForestClassifier
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from msvae.seeds import seed_of
from msvae.structures.splits import split_of
from msvae.study.settings import Condition, ModelSettings, TrainingSettings
from msvae.vae.blueprint import Blueprint
from msvae.vae.fitting.training import fit
from msvae.vae.model import VAE
from msvae.vae.priors.aggregate import fit_flow
from msvae_alloys.attribution import FEATURES, attribution
from msvae_alloys.compositions import Compositions
from msvae_alloys.elements import element_table
from msvae_alloys.network import AlloyPerceptron
from msvae_alloys.pseudo_labels import completed

CLASS = "Class"
MODEL = ModelSettings(
    latents=6, features=128, stem="none", conditions=(Condition(CLASS, classes=2),), semi_supervised=True,
    likelihood="multinomial", independence=50.0, agreement=20.0,
)  # fmt: skip
TRAINING = TrainingSettings(epochs=100, batch_size=64, learning_rate=2e-3, weight_decay=1e-2, held_back=0.1)


def trained(structures, seed, model=MODEL, training=TRAINING, network=None, *, flow=True):
    """Return a VAE fitted to structures. flow: whether its aggregate posterior is fitted too, for designs."""
    torch.manual_seed(seed)
    vae = VAE(Blueprint.of(structures, model, network or AlloyPerceptron()))
    sides = split_of(structures, training.held_back, seed)
    fit(vae, structures, training, seed=seed, sides=sides)
    vae.calibrate(structures[sides.held_out])
    if not flow:
        return vae
    known = structures[sides.train]
    draws = [vae.draw(known, seed_of(seed, k)) for k in range(4)]
    conditions = vae.network_conditions(vae.known_conditions(known), len(known)).double().numpy()
    order = np.random.default_rng(seed).permutation(4 * len(known))
    vae.aggregate = fit_flow(np.concatenate(draws)[order], np.tile(conditions, (4, 1))[order], seed)
    return vae


def calibration_error(chance, truth, bins=10):
    """Return the expected calibration error of probabilities (n,) of the class 1."""
    place = np.clip((chance * bins).astype(int), 0, bins - 1)
    return sum(abs(chance[place == k].mean() - truth[place == k].mean()) * (place == k).mean()
               for k in range(bins) if (place == k).any())  # fmt: skip


def predicted(vae, test):
    """Return accuracy, AUC and calibration error on held-out alloys."""
    truth, chance = test.properties[CLASS], vae.guess_conditions(test)[CLASS][:, 1]
    return {
        "accuracy": ((chance > 0.5) == truth).mean(),
        "AUC": roc_auc_score(truth, chance),
        "calibration error": calibration_error(chance, truth),
    }


def recalibrated(vae, held_out, test):
    """Return the probabilities (n,) of the class 1 of `test`, by name of what is fitted to held-out alloys.

    Platt (1999, Advances in Large Margin Classifiers, 61): a logistic regression of the log-odds. Isotonic (Zadrozny
    and Elkan 2002, KDD, 694): the monotone step function of least squares.
    """
    odds = []
    for alloys in (held_out, test):
        chance = np.clip(vae.guess_conditions(alloys)[CLASS][:, 1].astype(float), 1e-6, 1 - 1e-6)
        odds.append(np.log(chance / (1 - chance)))
    known = held_out.properties[CLASS]
    platt = LogisticRegression().fit(odds[0][:, None], known)
    isotonic = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(odds[0], known)
    return {
        "the model's own": 1 / (1 + np.exp(-odds[1])),
        "Platt": platt.predict_proba(odds[1][:, None])[:, 1],
        "isotonic": isotonic.predict(odds[1]),
    }


def scores(vae, train, test, judge, seed):
    """Return the figures of a model on held-out alloys. judge: returns the class of compositions (n, elements)."""
    truth = test.properties[CLASS]
    z = vae.encode(test)
    probe = RandomForestClassifier(200, min_samples_leaf=3, random_state=seed)
    scored = vae.aggregate.scores(z, vae.network_conditions(truth[:, None], len(test)).numpy())
    probes = {}
    drawn = vae.draw(test, seed)
    scored_draws = vae.aggregate.scores(drawn, vae.network_conditions(truth[:, None], len(test)).numpy())
    for name, values in (
        ("means of the latents", z), ("their normal scores", scored),
        ("draws of the latents", drawn), ("the draws' normal scores", scored_draws),
    ):  # fmt: skip
        found = cross_val_predict(probe, values, truth, cv=5, method="predict_proba")[:, 1]
        probes[f"probe of the class from {name}: AUC"] = max(roc_auc_score(truth, found), 0.5)
    again = vae.decode(z, truth[:, None])
    asked = [np.full((500, 1), y) for y in (1.0, 0.0)]
    made = [vae.decode(vae.sample_latents(500, seed, y), y) for y in asked]
    designs = [judge(structures.values) for structures in made]
    own_designs = [vae.guess_conditions(structures)[CLASS].argmax(axis=1).mean() for structures in made]
    present = (train.values > 0).sum(axis=0) > 0
    own = np.abs(again.values - test.values)[:, present].mean()
    mean = np.abs(test.values - train.values.mean(axis=0))[:, present].mean()
    return {
        **predicted(vae, test),
        **probes,
        "composition error over that of the mean": own / mean,
        "composition error, at.%": 100 * own,
        "designs for 1: single-phase by the forest": designs[0].mean(),
        "designs for 0: single-phase by the forest": designs[1].mean(),
        "designs for 1: single-phase by the model": own_designs[0],
        "designs for 0: single-phase by the model": own_designs[1],
    }


def controls(described, train, test, truth, seed):
    """Yield name and (accuracy, AUC) of supervised models on descriptors (n, k)."""
    models = {
        "random forest": RandomForestClassifier(300, random_state=seed),
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000)),
    }
    for name, model in models.items():
        for inputs, columns in (("eight features", slice(0, 8)), ("features and fractions", slice(None))):
            x = described[:, columns]
            chance = model.fit(x[train], truth[train]).predict_proba(x[test])[:, 1]
            yield f"{name}, {inputs}", ((chance > 0.5) == truth[test]).mean(), roc_auc_score(truth[test], chance)


def pooled(said):
    """Return the calibration error of the probabilities of all splits, and of perfect ones: of one split, and of all.

    said: probabilities and classes of each split. An error of 289 alloys in ten bins is never 0, however right the
    probabilities are; perfect ones are those whose classes are drawn from them.
    """
    rng = np.random.default_rng(0)

    def perfect(chance):
        drawn = [calibration_error(chance, (rng.random(len(chance)) < chance).astype(float)) for _ in range(50)]
        return np.mean(drawn)

    chance, truth = (np.concatenate(column) for column in zip(*said, strict=True))
    return calibration_error(chance, truth), np.mean([perfect(own) for own, _ in said]), perfect(chance)


def by_few_labels(data, train, test, labels, seed, settings):
    """Return accuracy and AUC with few labels: with the other alloys unlabelled, and without them.

    "forest": with pseudo-labels, see `screen.unknown`. "smaller batches": of 8 labels, for as many steps as the
    network needs.
    """
    known = np.random.default_rng(seed).permutation(train)[:labels]
    truth, found = data.properties[CLASS], {}
    hidden = np.full(len(truth), np.nan)
    hidden[known] = truth[known]
    some = data.with_properties({CLASS: hidden}, data.quantities)
    smaller = (settings[0], dataclasses.replace(settings[1], batch_size=8), settings[2])
    for name, alloys, own in (
        ("forest", completed(some[train], CLASS, seed), settings),
        ("semi-supervised", some[train], settings),
        ("labels alone", some[known], settings),
        ("labels alone, smaller batches", some[known], smaller),
    ):
        vae = trained(alloys, seed, *own, flow=False)
        chance = vae.guess_conditions(data[test])[CLASS][:, 1]
        found[f"{name}: accuracy"] = ((chance > 0.5) == truth[test]).mean()
        found[f"{name}: AUC"] = roc_auc_score(truth[test], chance)
    return found


def agreement(effects):
    """Return the mean rank correlation of attributions between splits, by permutation and by Shapley values."""
    found = {}
    for name in ("permuted", "shapley"):
        ranks = stats.spearmanr(np.array([getattr(e, name) for e in effects]).T).statistic
        found[name] = ranks[np.triu_indices(len(effects), 1)].mean()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--families", choices=["none", "elements", "base"], default="none")
    parser.add_argument("--labels", type=int, help="labels that are known in the training; the other alloys have none")
    parser.add_argument("--brief", action="store_true", help="only predictions: no latents, designs and controls")
    parser.add_argument("--set", action="append", default=[], help="key=value of [model], [training] or the network")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    model, training, network = MODEL, TRAINING, AlloyPerceptron()
    for text in arguments.set:
        key, value = text.split("=")
        if hasattr(network, key):
            network = dataclasses.replace(network, **{key: type(getattr(network, key))(value)})
        elif hasattr(model, key):
            model = dataclasses.replace(model, **{key: type(getattr(model, key))(value)})
        else:
            training = dataclasses.replace(training, **{key: type(getattr(training, key))(value)})
    data = Compositions(path=arguments.table, properties=(CLASS,), families=arguments.families).load(0)
    table = element_table(data.specification.constituents)
    truth = data.properties[CLASS]
    described = np.hstack([table.features(data.values), data.values])
    rows, others, effects, said = [], {}, [], {}
    for seed in range(arguments.splits):
        sides = split_of(data, 0.2, seed)
        train, test = sides.train, sides.held_out
        forest = RandomForestClassifier(2 if arguments.brief else 300, random_state=seed)
        forest.fit(described, truth)  # knows all alloys: the judge

        def judge(x, forest=forest):
            return forest.predict(np.hstack([table.features(x), x]))

        start = time.perf_counter()
        if arguments.labels:
            rows.append(by_few_labels(data, train, test, arguments.labels, seed, (model, training, network)))
            print(seed, rows[-1], flush=True)
            continue
        vae = trained(data[train], seed, model, training, network, flow=not arguments.brief)
        found = predicted(vae, data[test]) if arguments.brief else scores(vae, data[train], data[test], judge, seed)
        rows.append({**found, "seconds": time.perf_counter() - start})
        validation = data[train][split_of(data[train], training.held_back, seed).held_out]
        for name, chance in recalibrated(vae, validation, data[test]).items():
            said.setdefault(name, []).append((chance, truth[test]))
        effects.append(attribution(vae, data[train], 0, 1, seed))
        for name, accuracy, auc in () if arguments.brief else controls(described, train, test, truth, seed):
            others.setdefault(name, []).append((accuracy, auc))
        print(seed, {k: round(float(v), 3) for k, v in rows[-1].items()}, flush=True)
    print(f"\n| {arguments.splits} splits, families: {arguments.families} | mean | deviation |\n| --- | --- | --- |")
    for name in rows[0]:
        column = [row[name] for row in rows]
        print(f"| {name} | {np.mean(column):.3f} | {np.std(column):.3f} |")
    for name, each in said.items():
        own = [calibration_error(*one) for one in each]
        found, of_one, of_all = pooled(each)
        print(f"| calibration error, {name} | {np.mean(own):.3f} | {np.std(own):.3f} |")
        print(f"| the same of all splits together | {found:.3f} | |")
        print(f"| of perfect probabilities: one split; together | {of_one:.3f}; {of_all:.3f} | |")
    if len(effects) > 2:
        print("attributions agree between splits (Spearman):", agreement(effects))
        for name, *both in zip(FEATURES, *(np.mean([getattr(e, w) for e in effects], axis=0)
                               for w in ("permuted", "shapley")), strict=True):  # fmt: skip
            print(f"| {name} | {both[0]:.3f} | {both[1]:.3f} |")
    for name, found in others.items():
        (accuracy, auc), spread = np.mean(found, axis=0), np.std(found, axis=0)
        print(f"| {name}: accuracy; AUC | {accuracy:.3f}; {auc:.3f} | {spread[0]:.3f}; {spread[1]:.3f} |")


if __name__ == "__main__":
    main()
