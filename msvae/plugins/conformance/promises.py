"""Conformance checks of plugins, run by `msvae plugin check` and by pytest (`msvae.testing`)."""

from __future__ import annotations

import dataclasses
import pickle
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from msvae.errors import DataError
from msvae.plugins.conformance.leaks import leak
from msvae.plugins.interfaces import Architecture, Campaign, Dataset, Plugin, Searcher, Settings, Solver
from msvae.structures import Array, Grid, Kind, Specification, Structures
from msvae.structures.splits import split_of

__all__ = ["Check", "cases", "checks", "example_structures", "networks"]

ENOUGH = 32  # structures of an example that is split
GRIDS = {0: (), 1: (8,), 2: (8, 8), 3: (6, 6, 6)}


@dataclass(frozen=True)
class Check:
    """One requirement of a contract; calling it raises AssertionError with a sentence if it is violated."""

    promise: str
    function: Callable[[], None]

    def __call__(self) -> None:
        self.function()

    def __str__(self) -> str:
        return self.promise


def example_structures(kind: Kind, dimensions: int, n: int, seed: int = 0) -> Structures:
    """Return n random structures of a kind, with two constituents, for tests of plugins.

    >>> example_structures("occupation", 3, 2).values.shape
    (2, 4, 6, 6, 6)
    """
    rng = np.random.default_rng(seed)
    grid = Grid.of(GRIDS[dimensions], 3.6e-10 if kind == "occupation" else 1e-6)
    channels = {"phases": 1, "field": 1, "composition": 3, "occupation": 4}[kind]
    names = {
        "phases": ("matrix", "inclusion"),
        "field": ("grey",),
        "composition": ("Fe", "Ni", "Cr"),
        "occupation": ("Fe", "Ni"),
    }[kind]
    specification = Specification(kind, channels, grid, names)
    shape = (n, *specification.shape)
    values: Array
    if kind == "composition":
        values = rng.dirichlet(np.ones(channels), size=shape[:1] + shape[2:])
    elif kind == "field":
        values = rng.random(shape)
    else:
        values = (rng.random(shape) < rng.uniform(0.3, 0.7, (n, *(1,) * (len(shape) - 1)))).astype(np.uint8)
    return Structures(values, specification)


def checks(plugin: type[Plugin | Campaign | Searcher]) -> list[Check]:
    """Return the checks of a plugin class: for each kind and number of dimensions that it declares."""
    family = {
        Dataset: dataset_checks,
        Architecture: architecture_checks,
        Solver: solver_checks,
        Campaign: campaign_checks,
        Searcher: searcher_checks,
    }
    maker: Any = next(f for interface, f in family.items() if issubclass(plugin, interface))
    return list(maker(plugin))


def cases(plugin: type[Plugin]) -> Iterator[tuple[Kind, int]]:
    """Yield each kind and number of dimensions that a plugin takes or gives."""
    for kind, dimensions in product(plugin.kinds, plugin.dimensions):
        if (kind == "composition") == (dimensions == 0):
            yield kind, dimensions


def campaign_checks(plugin: type[Campaign]) -> Iterator[Check]:
    """Yield the checks of a campaign: its tables can be read from a study and are documented."""
    for key, table in plugin.all_tables().items():
        yield Check(f"[{key}] has a schema", partial(_describe, table))


def searcher_checks(plugin: type[Searcher]) -> Iterator[Check]:
    """Yield the checks of a searcher: its settings can be read from a study and are documented."""
    yield Check("its settings have a schema", partial(_describe, plugin))


def _describe(table: type[Settings]) -> None:
    said = re.findall(r"\w+(?=(?: \(\w+\))?[,:])", table.__doc__ or "")
    missing = [key for key in TypeAdapter(table).json_schema().get("properties", {}) if key not in said]
    assert not missing, f"the docstring of {table.__name__} has no 'key: text' for {', '.join(missing)}"


def dataset_checks(plugin: type[Dataset]) -> Iterator[Check]:
    """Yield the checks of a data set; they run on `example`, so they need no files."""
    yield Check("example gives the asked number of structures of a declared kind", lambda: _dataset_declared(plugin))
    yield Check("example with the same seed gives the same structures", lambda: _dataset_seeded(plugin))
    yield Check("held-back structures have no voxel of what is trained on", lambda: _dataset_split(plugin))
    yield Check("settings are frozen", lambda: _frozen(plugin))


def _dataset_declared(plugin: type[Dataset]) -> None:
    for n in (1, 3):
        structures = plugin.example(n, seed=1)
        assert isinstance(structures, Structures), f"example returned {type(structures).__name__}, expected Structures"
        assert len(structures) == n, f"example({n}) returned {len(structures)} structures"
        kind, d = structures.specification.kind, structures.specification.grid.dimensions
        assert kind in plugin.kinds, f"example is of kind '{kind}', which is not in kinds {plugin.kinds}"
        assert d in plugin.dimensions, f"example has {d} dimensions, which is not in {plugin.dimensions}"


def _dataset_seeded(plugin: type[Dataset]) -> None:
    first, again, other = plugin.example(3, seed=1), plugin.example(3, seed=1), plugin.example(3, seed=2)
    assert first.ids == again.ids, "the same seed gave other structures"
    assert first.ids != other.ids, "another seed gave the same structures"


def _dataset_split(plugin: type[Dataset]) -> None:
    structures = plugin.example(ENOUGH, seed=1)
    try:
        sides = split_of(structures, 0.25, seed=0)
    except DataError as error:
        raise AssertionError(f"example({ENOUGH}) cannot be split: {error}") from None
    why = leak(structures, sides.train, sides.held_out)
    assert not why, why


def _frozen(plugin: type[Plugin]) -> None:
    assert plugin.__dataclass_params__.frozen, "the class is not a frozen dataclass"  # type: ignore[attr-defined]


def architecture_checks(plugin: type[Architecture]) -> Iterator[Check]:
    """Yield the checks of an architecture: shapes, gradients, state, for each kind and dimension."""
    yield Check("settings are frozen", lambda: _frozen(plugin))
    for kind, d in cases(plugin):
        yield Check(f"networks map the declared shapes ({kind}, {d}D)", partial(_shapes, plugin, kind, d))
        yield Check(f"gradients reach every parameter ({kind}, {d}D)", partial(_gradients, plugin, kind, d))


def networks(
    plugin: type[Architecture], kind: Kind, dimensions: int
) -> tuple[Any, Any, Specification, tuple[int, ...]]:
    """Return an encoder, a decoder, their specification, and the grid of its latents."""
    import torch

    torch.manual_seed(0)
    architecture = plugin()
    specification = example_structures(kind, dimensions, 1).specification
    if architecture.misfit(specification):  # a plugin may take only some sizes of grid
        specification = replace(specification, grid=Grid.of((16,) * dimensions, 1e-6))
    encoder, decoder = architecture.encoder(specification, 2, 5), architecture.decoder(specification, 3, 4)
    return encoder, decoder, specification, architecture.latent_grid(specification)


def _shapes(plugin: type[Architecture], kind: Kind, dimensions: int) -> None:
    import torch

    encoder, decoder, specification, sites = networks(plugin, kind, dimensions)
    for n in (1, 3):
        features, wanted = encoder(torch.zeros(n, 2, *specification.grid.shape)), (n, 5, *sites)
        assert features.shape == wanted, f"the encoder gave {tuple(features.shape)}, expected {wanted}"
        decoded = decoder(torch.zeros(n, 4, *sites))
        expected = (n, 3, *specification.grid.shape)
        assert decoded.shape == expected, f"the decoder gave {tuple(decoded.shape)}, expected {expected}"


def _gradients(plugin: type[Architecture], kind: Kind, dimensions: int) -> None:
    import torch

    encoder, decoder, specification, sites = networks(plugin, kind, dimensions)
    given = torch.randn(4, 2, *specification.grid.shape), torch.randn(4, 4, *sites)
    for module, inputs in zip((encoder, decoder), given, strict=True):
        module(inputs).square().sum().backward()
        dead = [name for name, p in module.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
        assert not dead, f"no finite gradient reaches {', '.join(dead)}"


def solver_checks(plugin: type[Solver]) -> Iterator[Check]:
    """Yield the checks of a solver, for each kind and dimension."""
    yield Check("settings are frozen and survive pickling", lambda: _pickles(plugin))
    for kind, d in cases(plugin):
        for promise, check in SOLVER_PROMISES.items():
            yield Check(f"{promise} ({kind}, {d}D)", partial(_solver_check, check, plugin, kind, d))


def _solver_check(check: Callable[[Solver, Kind, int], None], plugin: type[Solver], kind: Kind, d: int) -> None:
    check(plugin.example(), kind, d)


def _pickles(plugin: type[Solver]) -> None:
    _frozen(plugin)
    solver = plugin.example()
    again = pickle.loads(pickle.dumps(solver))
    assert again == solver, "the solver is another after pickling: only settings may be fields"


def _declared(solver: Solver, kind: Kind, dimensions: int) -> None:
    structures = example_structures(kind, dimensions, 2)
    properties = solver.evaluate(structures)
    quantities = solver.quantities(structures.specification)
    assert set(properties) == {q.name for q in quantities}, (
        f"evaluate returned {sorted(properties)}, declared are {sorted(q.name for q in quantities)}"
    )
    for q in quantities:
        array = np.asarray(properties[q.name])
        assert array.shape == (2, *q.sizes), f"'{q.name}' has shape {array.shape}, declared is {(2, *q.sizes)}"
        assert array.dtype == np.float64, f"'{q.name}' is {array.dtype}, expected float64"
        assert np.isfinite(array).all(), f"'{q.name}' is not finite on a plain random structure"


def _repeatable(solver: Solver, kind: Kind, dimensions: int) -> None:
    structures = example_structures(kind, dimensions, 2)
    before = structures.values.copy()
    first, again = solver.evaluate(structures), solver.evaluate(structures)
    for name in first:
        assert np.array_equal(first[name], again[name]), f"'{name}' differs between two evaluations"
    assert np.array_equal(before, structures.values), "evaluate wrote to the structures"


def _batches(solver: Solver, kind: Kind, dimensions: int) -> None:
    structures = example_structures(kind, dimensions, 3)
    whole = solver.evaluate(structures)
    for q in solver.quantities(structures.specification):
        single = np.asarray(solver.evaluate(structures[1])[q.name])
        assert np.allclose(single[0], whole[q.name][1], rtol=1e-6, atol=0, equal_nan=True), (
            f"'{q.name}' of a structure depends on the others in its batch"
        )
        empty = np.asarray(solver.evaluate(structures[:0])[q.name])
        assert empty.shape == (0, *q.sizes), f"'{q.name}' of an empty batch has shape {empty.shape}"


def _scaling(solver: Solver, kind: Kind, dimensions: int) -> None:
    if kind == "occupation":
        return  # a lattice constant is no matter of scale
    structures = example_structures(kind, dimensions, 2)
    specification = structures.specification
    grid = dataclasses.replace(specification.grid, spacing=tuple(2 * h for h in specification.grid.spacing))
    scaled = Structures(structures.values, dataclasses.replace(specification, grid=grid))
    first, second = solver.evaluate(structures), solver.evaluate(scaled)
    for q in solver.quantities(specification):
        factor = 2.0**q.scaling
        size = float(np.abs(first[q.name]).max())
        assert np.allclose(second[q.name], factor * first[q.name], rtol=1e-4, atol=1e-6 * factor * size), (
            f"'{q.name}' in {q.unit} does not scale with spacing to the power {q.scaling}: "
            "set spacing_exponent of its Quantity if it should scale otherwise"
        )


SOLVER_PROMISES: dict[str, Callable[[Solver, Kind, int], None]] = {
    "declared properties are returned with shape and dtype": _declared,
    "the same structures give the same values and are not modified": _repeatable,
    "a structure does not depend on its batch, and a batch may be empty": _batches,
    "values scale with the spacing as their unit says": _scaling,
}
