"""Search for single-phase alloys at equal calls: BoTorch on the simplex beside the workflows of `screen`.

python benchmarks/alloy_search.py TABLE.csv [--calls 60] [--seeds 3]

A call asks a random forest, fitted to all alloys of the table, for the probability of a single phase. Model and
BoTorch know 80 % of the alloys. Compositions meet the constraints of examples/high-entropy-alloys; as the number of
elements is among them, BoTorch chooses among 5,000 random points of the simplex that meet them all.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import tomllib
import torch
from alloys import CLASS, trained
from pydantic import TypeAdapter
from sklearn.ensemble import RandomForestClassifier

from msvae.structures.splits import split_of
from msvae_alloys.candidates import Known, Space
from msvae_alloys.compositions import Compositions
from msvae_alloys.elements import element_table
from msvae_alloys.screen import Screen
from msvae_alloys.screening import chances, inverted

STUDY = Path(__file__).parents[1] / "examples" / "high-entropy-alloys" / "study.toml"
POOL, FIRST, BATCH = 5000, 20, 10  # candidates; calls of BoTorch before it models anything; calls between two models
MANY = 200  # known alloys with which the hyperparameters of the Gaussian process are fitted only once


def settings():
    """Return the constraints of the example."""
    table = tomllib.loads(STUDY.read_text(encoding="utf-8"))["screen"]
    return TypeAdapter(Screen).validate_python(table)


def gaussian_process(x, y, fitted):
    """Return a Gaussian process of values (n,) at compositions (n, elements). fitted: one whose parameters it takes."""
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from botorch.models.transforms import Standardize
    from gpytorch.mlls import ExactMarginalLogLikelihood

    model = SingleTaskGP(x, y[:, None].double(), outcome_transform=Standardize(1))
    if fitted is None or len(x) < MANY:
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    else:
        model.covar_module.load_state_dict(fitted.covar_module.state_dict())
        model.mean_module.load_state_dict(fitted.mean_module.state_dict())
        model.likelihood.load_state_dict(fitted.likelihood.state_dict())
    return model.eval()


def by_botorch(pool, judge, calls, rng, known=None):
    """Return what is called: batches of the highest log expected improvement among candidates (n, elements).

    known: alloys (m, elements) of the same elements and their classes (m,), which the Gaussian process is given too.
    """
    from botorch.acquisition import qLogExpectedImprovement
    from botorch.optim import optimize_acqf_discrete
    from botorch.sampling import SobolQMCNormalSampler

    used, model = pool.any(axis=0), None
    choices = torch.as_tensor(pool[:, used])
    called = [] if known else rng.permutation(len(pool))[:FIRST].tolist()
    while len(called) < calls:
        own = torch.as_tensor(judge(pool[called]) if called else np.zeros(0))
        x, y = choices[called], own
        if known:
            x, y = torch.cat([torch.as_tensor(known[0][:, used]), x]), torch.cat([torch.as_tensor(known[1]), y])
        model = gaussian_process(x, y, model)
        best = own.max() if called else y.mean()
        left = np.setdiff1d(np.arange(len(pool)), called)
        improvement = qLogExpectedImprovement(model, best, sampler=SobolQMCNormalSampler(torch.Size([64])))
        found, _ = optimize_acqf_discrete(
            improvement, q=min(BATCH, calls - len(called)), choices=choices[left], max_batch_size=512
        )
        called += [int(left[((choices[left] - row) ** 2).sum(dim=1).argmin()]) for row in found]
    return pool[called]


def searches(data, sides, screen, judge, calls, seed):
    """Yield the name of each search and what it calls (calls, elements)."""
    rng = np.random.default_rng(seed)
    alloys = data[sides.train]
    space, known = Space.of(screen, data.specification.constituents), Known.of(screen, alloys.values)
    many = space.candidates(40 * POOL, rng)
    many = many[space.admitted(many)]
    pool = many[known.first(many, POOL)]
    vae = trained(alloys, seed, flow=False)
    order = np.argsort(-chances(vae, screen, pool))
    own = alloys.values[:, ~space.allowed].sum(axis=1) == 0  # the others say little of the allowed elements
    labelled = alloys.values[own].astype(float), alloys.properties[CLASS][own]
    yield "random candidates", pool[rng.permutation(len(pool))[:calls]]
    yield "`screen`, candidates", pool[order[:calls]]
    yield "`screen`, inversion", inverted(vae, screen, space, known, pool[order[:calls]])
    yield "BoTorch, from nothing", by_botorch(pool, judge, calls, rng)
    yield "BoTorch, given the known alloys", by_botorch(pool, judge, calls, rng, labelled)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--calls", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    data = Compositions(path=arguments.table, properties=(CLASS,)).load(0)
    table, screen, found = element_table(data.specification.constituents), settings(), {}
    for seed in range(arguments.seeds):
        forest = RandomForestClassifier(300, random_state=seed)
        forest.fit(np.hstack([table.features(data.values), data.values]), data.properties[CLASS])

        def judge(x, forest=forest):
            return forest.predict_proba(np.hstack([table.features(x), x]))[:, 1]

        begun = time.process_time()
        for name, x in searches(data, split_of(data, 0.2, seed), screen, judge, arguments.calls, seed):
            said = judge(x)
            found.setdefault(name, []).append((said.max(), said.mean(), (said > 0.8).mean()))
            print(seed, name, np.round(found[name][-1], 3), f"{time.process_time() - begun:.0f} s", flush=True)
    print(f"\n| {arguments.calls} calls, {arguments.seeds} splits | best | mean of all | above .8 |")
    print("| --- | --- | --- | --- |")
    for name, rows in found.items():
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in np.mean(rows, axis=0)) + " |")


if __name__ == "__main__":
    main()
