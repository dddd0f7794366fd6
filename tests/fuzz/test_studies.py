"""Studies with mistakes: each ends in one sentence, before anything is computed, and none hangs."""

from __future__ import annotations

import copy
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
import tifffile
import tomli_w

from msvae import DataError, MsvaeError, StudyError, plugins
from msvae.campaigns.launch import launch
from msvae.report.page import write_report

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

pytest.importorskip("skfem")
SECONDS = 60  # after which a study hangs
MEMORY = 8 << 30  # bytes of address space beyond which a study asks for too much
WORK = {  # keys of which a huge value is only much work, as asked
    "epochs", "budget", "steps", "corrections", "samples", "control", "control_budget", "repeats", "most", "pilot",
    "replicates", "solve", "parts", "retrainings",
}  # fmt: skip
LATER = (
    "fitted prior is none",
    "has the classes",
    "a latent flow needs",
)  # of what only a training, or the solver, can tell
KINDS = {"remove": 6, "rename": 4, "number": 20, "huge": 8, "word": 8, "type": 6, "list": 10, "wrong": 30,
         "campaign": 2, "table": 3, "unknown": 3}  # fmt: skip
NUMBERS = (0, 1, 2, 3, -1, 0.5, -0.0, 1.0, 1e-300, float("inf"), float("-inf"), float("nan"))
HUGE = (2**31, 2**63 - 1, 2**64, 10**30, 1e30, 1e300)
WORDS = ("", "conductvity", "solver", "nichts", "../..", "0", "x" * 300, "\u00e4\u2028", "a\x00b", "head", "stiffness")
OTHERS: tuple[Any, ...] = (True, "word", 1, 1.5, [], {}, [[]], [1], ["conductivity"], {"property": "conductivity"})
WRONG = tomllib.loads((Path(__file__).parent / "wrong.toml").read_text(encoding="utf-8"))
STUDIES = tomllib.loads((Path(__file__).parent / "studies.toml").read_text(encoding="utf-8"))
COMMON = STUDIES.pop("common")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # mistaken paths are relative to it


def base(name: str) -> dict[str, Any]:
    """Return the tables of a small study, without mistakes."""
    campaign = name.split(":")[0]
    headless = {} if campaign == name else {"model": {"latents": 2, "features": 8}}  # other solvers, other properties
    return copy.deepcopy({"campaign": campaign, **COMMON, **headless, **STUDIES[name]})


def write(tables: dict[str, Any], folder: Path) -> Path:
    """Write a study, and an image that it may be about; ValueError and TypeError if no TOML says that."""
    image = np.random.default_rng(0).integers(0, 256, (32, 32))
    tifffile.imwrite(folder / "image.tif", image.astype(np.uint8))
    study = folder / "study.toml"
    study.write_text(tomli_w.dumps(tables).replace('"image.tif"', f'"{folder / "image.tif"}"'), encoding="utf-8")
    return study


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every key of nested tables and lists, with what holds it."""
    for key in list(node) if isinstance(node, dict) else range(len(node)):
        yield node, key
        if isinstance(node[key], (dict, list)):
            yield from places(node[key])


def put_wrong(tables: dict[str, Any], rng: np.random.Generator) -> str:
    """Give a key of a study a value that may not fit the rest, and return in words which."""
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


def mutate(tables: dict[str, Any], rng: np.random.Generator) -> str:
    """Make one mistake in a study, and return in words which."""
    found = list(places(tables))
    holder, key = found[rng.integers(len(found))]
    old = holder[key]
    kind = rng.choice(list(KINDS), p=np.array(list(KINDS.values())) / sum(KINDS.values()))
    if kind == "campaign":
        tables["campaign"] = str(rng.choice([campaign.name for campaign in plugins.registry().campaigns]))
        return f"campaign={tables['campaign']}"
    if kind == "wrong":
        return put_wrong(tables, rng)
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
    name = list(STUDIES)[seed % len(STUDIES)]
    tables = base(name)
    made = [mutate(tables, rng) for _ in range(1 + (rng.random() < 0.25))]
    return tables, f"{name}: {'; '.join(made)}"


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
    output = folder / "run"
    try:
        study = write(tables, folder)
    except (TypeError, ValueError):
        return None  # no TOML says that
    try:
        with bounded():
            launch(study, output)
            write_report(output, trust=True)
    except MsvaeError as error:
        late = isinstance(error, (StudyError, DataError)) and not any(words in str(error) for words in LATER)
        if late and output.exists():
            return f"late: {error}"
        return None if str(error) and "\n" not in str(error) and error.code in (2, 75) else f"no sentence: {error}"
    except Hang:
        return "hang: " + traceback.format_exc(limit=-8)
    except Exception:
        return traceback.format_exc(limit=-8)
    return None


@pytest.mark.parametrize("campaign", list(STUDIES))
def test_the_studies_are_right_before_they_are_made_wrong(campaign: str, tmp_path: Path) -> None:
    launch(write(base(campaign), tmp_path), tmp_path / "run")


FOUND = [  # by this fuzzer
    ("generate", "structure_head.properties=['nothing']", "it has to predict 'conductivity'"),
    ("push-forward", "structure_head.properties=['conductivity', 'conductivty']", "did you mean 'conductivity'"),
    ("push-forward", "structure_head.properties=[]", "a list of 1 entry or more, found"),
    (
        "push-forward",
        "structure_head.properties=['conductivity', 'conductivity']",
        "properties is a list without repetitions",
    ),
    ("push-forward", "structure_head.flips=[0, 0]", "flips is a list without repetitions"),
    ("push-forward", "part.cells=[4]", "as many numbers of cells"),
    ("push-forward", "part.axis=2", "axes up to 1"),
    ("push-forward", "field.lengths=[1e-5]", "along each of 2 axes"),
    ("push-forward", "field={region=[[0, 4], [0, 4]]}", "holds no structure"),
    ("train", "model.heads=['conductivity', 'conductivity']", "heads is a list without repetitions"),
    ("train", "model.global_latents=1", "a vector already"),
    ("train", "model.likelihood='gaussian'", "does not fit structures"),
    ("train", "model.features=2147483647", "do not fit into memory"),
    ("train", "model.latents=1180591620717411303424", "below 2147483648, found"),
    ("train", "model.beta=inf", "finite"),
    ("train", "architecture.width=1099511627776", "width is at least 1 and at most"),
    ("train", "label.limit=3", "needs at least 20 structures"),
    ("train", "training.held_back=30", "but there are 30 structures"),
    ("train", "training.ranks=2", "cannot train together"),
    ("train", "executor.workers=5000", "at least 1 and at most 4096"),
    ("train", "solver.iterations=1180591620717411303424", "iterations is at least 1"),
    ("train", "dataset.length=[1e-6, inf]", "finite and above 0 m"),
    ("train", "dataset.length=[1e-20, 1e-20]", "from 0.01 to 10000 voxels"),
    ("train", "dataset.anisotropy=[1e300, 1e300]", "at least 0.01 and at most 100"),
    ("train", "dataset.spacing=1e-300", "spacing is at least 1e-15"),
    ("train", "dataset.shape=[9223372036854775807, 8]", "below 2147483648 voxels"),
    ("train", "dataset.shape=[2147483647, 2147483647]", "voxels can be made"),
    ("train", "executor.name='os:getcwd'", "failed with TypeError"),
    ("train", "title='a\u0000b'", "zero byte"),
    ("generate", "dataset.count=2", "1 are to be trained on and 1 held out"),
    ("generate", "label.limit=1", "structures whose conditions are known"),
    ("generate", "generate.verify={property='conductivity'}", "generate.verify: .*has shape"),
    ("label", "model.conditions=[{property='conductivity'}]", "model.conditions.*has shape"),
    ("label", "cache.path='/proc/none'", "cannot be created or written to"),
    ("inverse-design", "design.fractions=[{phase=7}]", "phases from 0 to 1"),
    ("inverse-design", "design.fractions=[{phase=1, low=0.9, high=0.1}]", "low is at most high"),
    ("inverse-design", "design.constraints=[{kind='symmetric', axis=2}]", "axes from 0 to 1"),
    ("inverse-design", "design.start_from=['nowhere']", "is not a run directory"),
    ("gradation", "gradation.shape=[1, 16]", "hold no whole window"),
    ("gradation", "gradation.phase=4", "phases from 0 to 1"),
    ("gradation", "model.heads=[]\ngradation.property='conductivity'\ngradation.component=[0, 0]", "needs a head"),
]


@pytest.mark.parametrize(("campaign", "mistake", "says"), FOUND, ids=[f"{c}: {m}" for c, m, _ in FOUND])
def test_what_was_found_is_said_before_anything_is_computed(
    campaign: str, mistake: str, says: str, tmp_path: Path
) -> None:
    study = write(base(campaign), tmp_path)
    with bounded(), pytest.raises(MsvaeError, match=says):
        launch(study, tmp_path / "run", overrides=mistake.split("\n"))
    assert not (tmp_path / "run").exists()


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
    write(tables, tmp_path)
    found = subprocess.run(
        [sys.executable, "-m", "msvae", "run", "study.toml", "--output", "run"],
        cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=SECONDS,
        check=False,
    )  # fmt: skip
    assert found.returncode in (0, 1, 2, 75), f"{made}\n{found.stderr}"
    assert "Traceback" not in found.stderr, made
