"""Studies with mistakes: each ends in one sentence, before anything is computed, and none hangs."""

from __future__ import annotations

import copy
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from msvae import DataError, MsvaeError, StudyError
from msvae.campaigns.launch import launch
from msvae.report.page import write_report
from msvae.settings import CAMPAIGNS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SECONDS = 60  # after which a study hangs
MEMORY = 8 << 30  # bytes of address space beyond which a study asks for too much
COMMON: dict[str, Any] = {
    "seed": 3,
    "dataset": {"name": "simulated", "count": 12, "shape": [8, 8], "spacing": 1e-6, "length": [3e-6, 3e-6]},
    "solver": {"name": "conductivity", "phases": [{"conductivity": 1.0}, {"conductivity": 10.0}]},
    "architecture": {"name": "perceptron", "width": 8},
    "model": {"latents": 2, "features": 8, "heads": ["conductivity"]},
    "training": {"epochs": 2, "batch_size": 6, "held_back": 0.25},
    "executor": {"workers": 1, "threads": 1},
}
NUMBER = {"property": "conductivity", "component": [0, 0], "unit": "W/m/K"}
PART: dict[str, Any] = {
    "dataset": COMMON["dataset"] | {"image_shape": [64, 64]},
    "part": {"shape": "bar", "lengths": [32e-6, 16e-6], "cells": [4, 2], "physics": "conduction",
             "quantities": ["conductance"]},
    "structure_head": {"properties": ["conductivity"], "epochs": 1, "flips": [0], "precision": "float32"},
}  # fmt: skip
MORE: dict[str, dict[str, Any]] = {
    "label": {"label": {"limit": 12}},
    "train": {
        "dataset": COMMON["dataset"] | {"count": 30},
        "label": {"limit": 28},
        "card": {"solve": 2},
        "model": COMMON["model"] | {"axes": [{"property": "conductivity", "component": [0, 0]}]},
    },
    "generate": {
        "model": COMMON["model"] | {"conditions": [{"property": "conductivity", "component": [0, 0]}]},
        "structure_head": PART["structure_head"],
        "generate": {"values": [3.0, 5.0], "samples": 2, "verify": NUMBER},
    },
    "inverse-design": {
        "design": {
            "targets": [{**NUMBER, "value": 4.0, "tolerance": 0.001}], "budget": 2, "batch": 2, "control_budget": 2,
            "call_seconds": 1.0, "fractions": [{"phase": 1, "low": 0.1, "high": 0.9}],
            "constraints": [{"kind": "symmetric", "axis": 0, "share": 0.1}],
        }
    },
    "push-forward": {
        **PART,
        "field": {"lengths": [2e-5, 2e-5], "smoothness": 1.5},
        "push_forward": {"quantity": "conductance", "fidelity": "structure-head", "cheap": ["head"], "pilot": 8,
                         "budget": 8, "most": 10, "control": 8, "threshold": 1.0},
    },
    "gradation": {
        "dataset": PART["dataset"],
        "gradation": {"shape": [24, 16], "target": "0.4 + 0.2 * x", "steps": 2, "corrections": 1},
    },
}  # fmt: skip
WORK = {  # keys of which a huge value is only much work, as asked
    "epochs", "budget", "steps", "corrections", "samples", "control", "control_budget", "repeats", "most", "pilot",
    "replicates", "solve", "parts", "retrainings",
}  # fmt: skip
KINDS = {"remove": 6, "rename": 4, "number": 20, "huge": 8, "word": 8, "type": 6, "list": 10, "wrong": 30,
         "campaign": 2, "table": 3, "unknown": 3}  # fmt: skip
NUMBERS = (0, 1, 2, 3, -1, 0.5, -0.0, 1.0, 1e-300, float("inf"), float("-inf"), float("nan"))
HUGE = (2**31, 2**63 - 1, 2**64, 10**30, 1e30, 1e300)
WORDS = ("", "conductvity", "solver", "nichts", "../..", "0", "x" * 300, "\u00e4\u2028", "a\x00b", "head", "stiffness")
OTHERS: tuple[Any, ...] = (True, "word", 1, 1.5, [], {}, [[]], [1], ["conductivity"], {"property": "conductivity"})
WRONG = tomllib.loads((Path(__file__).parent / "wrong.toml").read_text(encoding="utf-8"))


def base(campaign: str) -> dict[str, Any]:
    """Return the tables of a small study of a campaign, without mistakes."""
    return copy.deepcopy({"campaign": campaign, **COMMON, **MORE[campaign]})


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every key of nested tables and lists, with what holds it."""
    for key in list(node) if isinstance(node, dict) else range(len(node)):
        yield node, key
        if isinstance(node[key], (dict, list)):
            yield from places(node[key])


def mutate(tables: dict[str, Any], rng: np.random.Generator) -> str:
    """Make one mistake in a study, and return in words which."""
    found = list(places(tables))
    holder, key = found[rng.integers(len(found))]
    old = holder[key]
    kind = rng.choice(list(KINDS), p=np.array(list(KINDS.values())) / sum(KINDS.values()))
    if kind == "campaign":
        tables["campaign"] = str(rng.choice(CAMPAIGNS))
        return f"campaign={tables['campaign']}"
    if kind == "wrong":
        names = [name for name in WRONG if name in tables or not isinstance(WRONG[name], dict) or rng.random() < 0.1]
        name = names[rng.integers(len(names))]
        table, values = tables, WRONG[name]
        if isinstance(values, dict):
            table = tables.setdefault(name, {})
            name = list(values)[rng.integers(len(values))]
            values = values[name]
        if isinstance(table, dict):
            table[name] = copy.deepcopy(values[rng.integers(len(values))])
            return f"{name}={table[name]!r}"
        return "nothing"
    if kind == "table":
        name = str(rng.choice([k for k, v in tables.items() if isinstance(v, dict)]))
        other = str(rng.choice([k for k, v in tables.items() if isinstance(v, dict)]))
        tables[name] = copy.deepcopy(tables[other])
        return f"[{name}]=[{other}]"
    if kind == "remove":
        del holder[key]
    elif kind in ("rename", "unknown") and isinstance(holder, dict):
        holder[f"{key}x" if kind == "unknown" else str(key)[:-1]] = holder.pop(key) if kind == "rename" else old
    elif kind == "number":
        holder[key] = NUMBERS[rng.integers(len(NUMBERS))]
    elif kind == "huge" and key not in WORK:
        holder[key] = HUGE[rng.integers(len(HUGE))]
    elif kind == "word":
        holder[key] = WORDS[rng.integers(len(WORDS))]
    elif kind == "list" and isinstance(old, list):
        new: list[Any] = [[], old * 2, old[:1], old[::-1], [*old, *old[:1]], [old]][rng.integers(6)]
        holder[key] = copy.deepcopy(new)
    else:
        holder[key] = OTHERS[rng.integers(len(OTHERS))]
    new = holder[key] if (key in holder if isinstance(holder, dict) else key < len(holder)) else "(gone)"
    return f"{kind} {key}: {old!r} -> {new!r}"


def mutated(seed: int) -> tuple[dict[str, Any], str]:
    """Return a study with one or two mistakes, and which they are."""
    rng = np.random.default_rng(seed)
    campaign = list(MORE)[seed % len(MORE)]
    tables = base(campaign)
    made = [mutate(tables, rng) for _ in range(1 + (rng.random() < 0.25))]
    return tables, f"{campaign}: {'; '.join(made)}"


class Hang(Exception):  # noqa: N818 - what a test finds
    """A study took too long."""


@contextmanager
def bounded() -> Iterator[None]:
    """Raise Hang after a while, and let no study take all memory."""

    def ring(number: int, frame: Any) -> None:
        raise Hang

    before, limits = signal.signal(signal.SIGALRM, ring), resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, limits[1]))
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def fault(tables: dict[str, Any], folder: Path) -> str | None:
    """Run a study; return what is wrong with how it ended, None if it ended as it should."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    study, output = folder / "study.toml", folder / "run"
    try:
        study.write_text(tomli_w.dumps(tables), encoding="utf-8")
    except (TypeError, ValueError):
        return None  # no TOML says that
    try:
        with bounded():
            launch(study, output)
            write_report(output, trust=True)
    except MsvaeError as error:
        late = isinstance(error, (StudyError, DataError)) and output.exists()
        if late:
            return f"late: {error}"
        return None if str(error) and "\n" not in str(error) and error.code in (2, 75) else f"no sentence: {error}"
    except Hang:
        return "hang: " + traceback.format_exc(limit=-8)
    except Exception:
        return traceback.format_exc(limit=-8)
    return None


@pytest.mark.parametrize("campaign", list(MORE))
def test_the_studies_are_right_before_they_are_made_wrong(campaign: str, tmp_path: Path) -> None:
    launch_of(base(campaign), tmp_path)


def launch_of(tables: dict[str, Any], folder: Path) -> None:
    """Run a study."""
    (folder / "study.toml").write_text(tomli_w.dumps(tables))
    launch(folder / "study.toml", folder / "run")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(42))
def test_a_mistake_is_one_sentence(seed: int, tmp_path: Path) -> None:
    tables, made = mutated(seed)
    found = fault(tables, tmp_path / "study")
    assert found is None, f"{made}\n{found}"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("start", range(42, 1542, 100))
def test_many_mistakes_are_one_sentence_each(start: int, tmp_path: Path) -> None:
    faults = {}
    for seed in range(start, start + 100):
        tables, made = mutated(seed)
        if found := fault(tables, tmp_path / "study"):
            faults[f"{seed} {made}"] = found
    assert not faults, "\n".join(f"{made}\n{found}" for made, found in faults.items())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2000, 2008))
def test_the_command_line_shows_no_traceback(seed: int, tmp_path: Path) -> None:
    tables, made = mutated(seed)
    (tmp_path / "study.toml").write_text(tomli_w.dumps(tables))
    found = subprocess.run(
        [sys.executable, "-m", "msvae", "run", "study.toml", "--output", "run"],
        cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=SECONDS,
        check=False,
    )  # fmt: skip
    assert found.returncode in (0, 1, 2, 75), f"{made}\n{found.stderr}"
    assert "Traceback" not in found.stderr, made
    assert json.dumps(found.stdout)
