"""Dispatch: a failure is a value, and every executor gives the same evaluations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import msvae
from msvae.dispatch.evaluation import evaluate
from msvae.plugins.conformance import example_structures


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
