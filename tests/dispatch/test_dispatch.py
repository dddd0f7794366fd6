"""Dispatch: a failure is a value, and every executor gives the same evaluations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import msvae
from msvae import MsvaeError
from msvae.campaigns.launch import launch
from msvae.dispatch.evaluation import evaluate
from msvae.dispatch.executors import SerialExecutor, open_executor
from msvae.run.directory import Run
from msvae.settings import ExecutorSettings
from msvae.testing import example_structures


@dataclass(frozen=True)
class Faulty(msvae.Solver):
    """Fails as it is told to."""

    name = "faulty"
    computes = (msvae.Quantity("q", "1", (2,)),)
    fault: str = ""

    def evaluate(self, structures: msvae.Structures) -> Any:
        answers: dict[str, Any] = {
            "": {"q": np.ones((1, 2))},
            "nan": {"q": np.array([[1.0, np.nan]])},
            "shape": {"q": np.ones((1, 3))},
            "missing": {"p": np.ones((1, 2))},
            "text": {"q": np.array([["a", "b"]])},
            "said": msvae.Properties({"q": np.full((1, 2), np.nan)}, failures={0: "it does not percolate"}),
            "none": None,
        }
        if self.fault == "raise":
            raise ZeroDivisionError("by zero")
        return answers[self.fault]


@pytest.mark.parametrize(
    ("fault", "status", "says"),
    [
        ("", "done", ""),
        ("nan", "invalid", "not a finite number"),
        ("shape", "invalid", "(1, 3)"),
        ("missing", "invalid", "did not return 'q'"),
        ("text", "invalid", "not a finite number"),
        ("said", "failed", "percolate"),
        ("none", "failed", "TypeError"),
        ("raise", "failed", "ZeroDivisionError: by zero"),
    ],
)
def test_whatever_a_solver_does_is_an_evaluation_with_a_status(fault: str, status: str, says: str) -> None:
    outcome = evaluate(Faulty(fault), example_structures("phases", 2, 1), index=7)
    assert (outcome.index, outcome.status) == (7, status)
    assert says in outcome.message
    assert np.isfinite(outcome.properties["q"]).all() == (status == "done")


def test_the_serial_executor_keeps_an_exception_in_its_future() -> None:
    with SerialExecutor() as executor:
        assert executor.submit(divmod, 7, 2).result() == (3, 1)
        assert isinstance(executor.submit(divmod, 1, 0).exception(), ZeroDivisionError)


def test_mpi_with_one_rank_is_refused_with_the_way_out() -> None:
    with pytest.raises(MsvaeError, match="mpiexec -n N"), open_executor(ExecutorSettings("mpi")):
        pass


def test_serial_and_processes_give_the_same_evaluations(study_file: Callable[..., Path], tmp_path: Path) -> None:
    study = study_file("label")
    tables = []
    for k, overrides in enumerate(([], ["executor.name=processes", "executor.workers=2"])):
        launch(study, tmp_path / f"run{k}", overrides=overrides)
        tables.append(Run.open(tmp_path / f"run{k}").evaluations)
    assert tables[0]["structure"].tolist() == tables[1]["structure"].tolist()
    np.testing.assert_array_equal(tables[0].properties["conductivity"], tables[1].properties["conductivity"])
    assert tables[0].units == {"conductivity": "W/m/K"}
