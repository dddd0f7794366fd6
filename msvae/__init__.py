"""msvae: variational autoencoders of microstructures, coupled to simulation codes over MPI.

This module exports everything that a plugin or a script needs. Names are imported on first use, so that a solver that
needs no torch does not import it.

>>> import msvae
>>> solver = msvae.load_solver("conductivity", phases=[{"conductivity": 1.0}, {"conductivity": 10.0}])
>>> structures = msvae.Structures.from_labels([[[0, 1], [0, 1]]], spacing=1e-6)
>>> solver.evaluate(structures)["conductivity"].round(3)  # a laminate: harmonic mean across, arithmetic mean along
array([[[5.5  , 0.   ],
        [0.   , 1.818]]])
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

# libraries read it when they load: threads that wait by spinning take the processor from those that work
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"

if TYPE_CHECKING:
    from msvae.dispatch.isolation.processes import without_mpi
    from msvae.dispatch.tasks import Recipe, Task, model_of, study_of
    from msvae.dispatch.world import rank
    from msvae.errors import DataError, MsvaeError, PluginError, RunError, SpacingError, StudyError, TargetError
    from msvae.files.atomic import write_atomically
    from msvae.files.structures import read_structures
    from msvae.part.export import export
    from msvae.plugins import hook
    from msvae.plugins.annotations import (
        Ascending,
        Count,
        Distinct,
        Finite,
        Fraction,
        Length,
        Natural,
        NonNegative,
        Positive,
        Rule,
        Seconds,
        Share,
        Unit,
        Voxels,
    )
    from msvae.plugins.differentiable import differentiable
    from msvae.plugins.interfaces import Architecture, Campaign, Dataset, Searcher, Settings, Solver
    from msvae.plugins.native import native_library
    from msvae.plugins.simulator import Simulator
    from msvae.report.drawing import Drawing
    from msvae.run.directory import Run
    from msvae.run.table import Table
    from msvae.sampling.search.problem import AskTell, Known, Problem
    from msvae.seeds import seed_of
    from msvae.stages.context import Context
    from msvae.stages.expected import Expected
    from msvae.stages.labelling import labelled, the_structures
    from msvae.stages.training import trained, training_structures
    from msvae.structures import VACANCY, Array, Crystal, Grid, Properties, Quantity, Specification, Structures
    from msvae.structures.evaluations import Evaluation, Evaluations
    from msvae.structures.positions import Positions
    from msvae.structures.splits import split_of
    from msvae.study import Study, load_solver
    from msvae.study.numbers import Component
    from msvae.vae.blueprint import component_values
    from msvae.vae.model import VAE

_HOME = {
    "Ascending": "plugins.annotations",
    "Count": "plugins.annotations",
    "Distinct": "plugins.annotations",
    "Finite": "plugins.annotations",
    "Fraction": "plugins.annotations",
    "Length": "plugins.annotations",
    "Natural": "plugins.annotations",
    "NonNegative": "plugins.annotations",
    "Positive": "plugins.annotations",
    "Rule": "plugins.annotations",
    "Seconds": "plugins.annotations",
    "Share": "plugins.annotations",
    "Unit": "plugins.annotations",
    "Voxels": "plugins.annotations",
    "AskTell": "sampling.search.problem",
    "Known": "sampling.search.problem",
    "Problem": "sampling.search.problem",
    "Searcher": "plugins.interfaces",
    "Campaign": "plugins.interfaces",
    "Component": "study.numbers",
    "Context": "stages.context",
    "Crystal": "structures",
    "VACANCY": "structures",
    "Drawing": "report.drawing",
    "Evaluation": "structures.evaluations",
    "Expected": "stages.expected",
    "Evaluations": "structures.evaluations",
    "Recipe": "dispatch.tasks",
    "model_of": "dispatch.tasks",
    "rank": "dispatch.world",
    "study_of": "dispatch.tasks",
    "write_atomically": "files.atomic",
    "Table": "run.table",
    "Task": "dispatch.tasks",
    "component_values": "vae.blueprint",
    "labelled": "stages.labelling",
    "seed_of": "seeds",
    "split_of": "structures.splits",
    "the_structures": "stages.labelling",
    "trained": "stages.training",
    "training_structures": "stages.training",
    "without_mpi": "dispatch.isolation.processes",
    "Architecture": "plugins.interfaces",
    "Array": "structures",
    "DataError": "errors",
    "Dataset": "plugins.interfaces",
    "Grid": "structures",
    "MsvaeError": "errors",
    "PluginError": "errors",
    "Positions": "structures.positions",
    "Properties": "structures",
    "Quantity": "structures",
    "Run": "run.directory",
    "RunError": "errors",
    "Settings": "plugins.interfaces",
    "Simulator": "plugins.simulator",
    "Solver": "plugins.interfaces",
    "SpacingError": "errors",
    "read_structures": "files.structures",
    "Specification": "structures",
    "Structures": "structures",
    "Study": "study",
    "StudyError": "errors",
    "TargetError": "errors",
    "VAE": "vae.model",
    "differentiable": "plugins.differentiable",
    "export": "part.export",
    "hook": "plugins",
    "load_solver": "study",
    "native_library": "plugins.native",
}

__all__ = [
    "VACANCY",
    "VAE",
    "Architecture",
    "Array",
    "Ascending",
    "AskTell",
    "Campaign",
    "Component",
    "Context",
    "Count",
    "Crystal",
    "DataError",
    "Dataset",
    "Distinct",
    "Drawing",
    "Evaluation",
    "Evaluations",
    "Expected",
    "Finite",
    "Fraction",
    "Grid",
    "Known",
    "Length",
    "MsvaeError",
    "Natural",
    "NonNegative",
    "PluginError",
    "Positions",
    "Positive",
    "Problem",
    "Properties",
    "Quantity",
    "Recipe",
    "Rule",
    "Run",
    "RunError",
    "Searcher",
    "Seconds",
    "Settings",
    "Share",
    "Simulator",
    "Solver",
    "SpacingError",
    "Specification",
    "Structures",
    "Study",
    "StudyError",
    "Table",
    "TargetError",
    "Task",
    "Unit",
    "Voxels",
    "__version__",
    "component_values",
    "differentiable",
    "export",
    "hook",
    "labelled",
    "load_solver",
    "model_of",
    "native_library",
    "rank",
    "read_structures",
    "seed_of",
    "split_of",
    "study_of",
    "the_structures",
    "trained",
    "training_structures",
    "without_mpi",
    "write_atomically",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'msvae' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"msvae.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
