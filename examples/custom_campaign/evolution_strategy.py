"""A group's own loop: solve structures, keep the best, sample around them, solve again."""

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

import msvae


@dataclass(frozen=True)
class EvolutionStrategy(msvae.Campaign):
    """[evolution_strategy]: an evolution strategy in the latent space, for the largest value of a property's number.

    of: the number. rounds: of solving and sampling. children: structures of a round. parents: of the next round.
    spread: of children around a parent, in standard deviations of the data set's latents.
    """

    name = "evolution-strategy"
    of: msvae.Component
    rounds: int = 5
    children: int = 8
    parents: int = 2
    spread: float = 0.5

    def numbers(self):
        return [(("evolution_strategy", "of"), self.of)]

    def labels(self):
        return [self.of.property]  # the solver labels the data set with it before the model is trained

    def run(self, context):
        structures = msvae.training_structures(context)
        model = msvae.trained(context, structures)
        latents, values = model.encode(structures), msvae.component_values(structures.properties, self.of)
        width, rows = latents.std(axis=0), [("data set", f"{np.nanmax(values):.5g}")]
        for k in range(self.rounds):
            best = latents[np.argsort(-np.nan_to_num(values, nan=-np.inf))[: self.parents]]
            rng = np.random.default_rng(msvae.seed_of(context.study.seed, "evolution-strategy", k))
            children = np.resize(best, (self.children, len(width)))
            children = children + self.spread * width * rng.standard_normal(children.shape)
            tasks = [msvae.Task(k * self.children + i, z) for i, z in enumerate(children)]
            table = context.evaluate("evolution-strategy", tasks, model=context.run.model_file, title=f"round {k}")
            found = msvae.component_values(table.properties, self.of)
            latents, values = np.concatenate([latents, table.latents]), np.concatenate([values, found])
            rows.append((f"round {k}", f"{np.nanmax(values):.5g}"))
        return msvae.Table(f"Largest {self.of}", ("after", "largest"), tuple(rows))

    def figures(self, run):
        found = msvae.component_values(run.store("evolution-strategy").load().properties, self.of)
        figure = Figure(figsize=(4, 3))
        figure.subplots().plot(np.arange(len(found)) // self.children, found, ".")
        figure.axes[0].set(xlabel="round", ylabel=str(self.of))
        return [msvae.Drawing("evolution-strategy", "What the solver found of each child.", figure)]


@msvae.hook
def msvae_campaigns():
    return [EvolutionStrategy]
